"""The page about two data sets that share images: the pairs side by side, and the ones that just were none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agssp.data.images import ImageError, decode_image
from agssp.data.overlap import Pair
from agssp.data.picture_alignment import oriented

from .page import Picture, Row, Section, Table, Text, write_page
from .pictures import tile

SHOWN = 60
LISTED = 500


def write_overlap_report(
    path: Path, facts: dict[str, Any], pairs: Sequence[Pair], misses: Sequence[Pair], corpus: Any, validation: Any
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        facts: counts and names, as in overlap.json.
        pairs: duplicates, the ones to show first first.
        misses: the most similar pairs that are not called duplicates.
        corpus: data set with `image` and `image_id`.
        validation: data set with `image` and `image_id`.
    """
    count = facts["corpus_images_to_leave_out"]
    summary = (
        f"**{facts['exact']:,} exact and {facts['near']:,} near duplicates** among {facts['corpus_images']:,} images "
        f"of `{facts['corpus']}` and {facts['validation_images']:,} of `{facts['validation']}`."
    )
    advice = (
        f"`leave_out.txt` names the {count:,} images of the corpus to leave out of pretraining (`--exclude`): a "
        "detector that was pretrained on its test images is measured too well."
        if count
        else "Nothing has to be left out of pretraining."
    )
    about = (
        "Similarity is the correlation of both pictures after the validation image was turned and aligned, and after "
        "local brightness and contrast were taken away, so that the grain of the surface counts and not its light. "
        f"From {facts['threshold']:g} on two images are called near duplicates; other photographs of one line usually "
        "stay below 0.6. Exact means the same pixels."
    )
    blocks: list[Any] = [Text(summary), Text(advice), Text(about)]
    if facts["skipped"]:
        blocks.append(Text(f"{facts['skipped']:,} images could not be read; `skipped.jsonl` names them.", note=True))
    if facts["pairs_left_out"]:
        text = (
            f"{facts['pairs_left_out']:,} pairs of images that have many copies are not listed; `overlap.json` names "
        )
        blocks.append(Text(f"{text}the groups.", note=True))
    if facts["without_structure"]:
        blocks.append(
            Text(f"{facts['without_structure']:,} images show nothing but one grey; they were compared pixel by pixel "
                 "alone.", note=True)
        )  # fmt: skip
    sections = [Section("What was found", blocks)]
    shown = [*pairs[:SHOWN], *misses]
    positions = [
        _positions(corpus, {pair.corpus_id for pair in shown}),
        _positions(validation, {pair.validation_id for pair in shown}),
    ]
    if pairs:
        told = f"The first {SHOWN} of {len(pairs):,} pairs." if len(pairs) > SHOWN else ""
        turned = "Left the corpus' image, right the validation image, turned as the corpus' image lies."
        rows = _pictures(pairs[:SHOWN], (corpus, validation), positions)
        sections.append(Section("Duplicates", [Text(f"{turned} {told}"), *rows]))
        table = [
            [pair.corpus_id, pair.validation_id, pair.kind, pair.similarity, pair.transformation]
            for pair in pairs[:LISTED]
        ]
        caption = f"The first {LISTED} of {len(pairs):,}; all are in overlap.csv." if len(pairs) > LISTED else ""
        header = ("corpus", "validation", "kind", "similarity", "what was done")
        sections.append(Section("All pairs", [Table(header, table, caption)]))
    if misses:
        text = "The most similar pairs below the threshold: if one of these is a duplicate, lower `--threshold`."
        sections.append(Section("Just not", [Text(text), *_pictures(misses, (corpus, validation), positions)]))
    write_page(path, "Overlap of two data sets", sections, subtitle=f"{facts['corpus']} and {facts['validation']}")


def _positions(dataset: Any, names: set[str]) -> dict[str, int]:
    return {image_id: position for position, image_id in enumerate(dataset["image_id"]) if image_id in names}


def _pictures(pairs: Sequence[Pair], datasets: tuple[Any, Any], positions: Sequence[dict[str, int]]) -> list[Row]:
    """Two pairs a row: four pictures with the ids below."""
    pictures = []
    for pair in pairs:
        ids = (pair.corpus_id, pair.validation_id)
        try:
            images = [
                decode_image(dataset[where[name]]["image"], name)
                for dataset, where, name in zip(datasets, positions, ids, strict=True)
            ]
        except ImageError:  # it was there a moment ago; the table names it all the same
            continue
        turned = oriented(np.asarray(images[1]), pair.orientation)
        what = pair.kind if pair.kind == "exact" else f"{pair.similarity:.2f}: {pair.transformation}"
        pictures += [
            Picture(tile(images[0], side=300), f"{ids[0]} ({what})"),
            Picture(tile(turned, side=300), ids[1]),
        ]
    return [Row(pictures[start : start + 4]) for start in range(0, len(pictures), 4)]
