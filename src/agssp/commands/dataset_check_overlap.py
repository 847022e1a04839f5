"""Find images that two data sets share, also turned, mirrored, resized, re-compressed, brightened or slightly cropped.

agssp dataset check-overlap corpus NEU-DET
agssp dataset check-overlap corpus me/my-defects --validation-split test --output overlap

OUTPUT/overlap.csv (ids of both, exact or near, similarity, what was done), OUTPUT/overlap.json (the same with how many
images were compared), OUTPUT/leave_out.txt (ids of CORPUS, one a line), OUTPUT/skipped.jsonl, OUTPUT/report.html (the
pairs as pictures). Of images that are all the same, as blank frames are, the first pairs stand there, and overlap.json
names the whole group. Found are crops that keep 0.88 of each side or more. An image without any structure is compared
pixel by pixel alone.
"""

import csv
import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agssp.data.images import MAX_PIXELS
from agssp.errors import InputError
from agssp.output_folder import claim_output, keeps_outputs
from agssp.terminal import on_terminal
from agssp.version import __version__

if TYPE_CHECKING:
    from agssp.data.image_notes import ImageNotes
    from agssp.data.overlap import Gallery, Look, Pair

POSITIONAL = ("corpus", "validation")
COLUMNS = ("corpus_id", "validation_id", "kind", "similarity", "transformation")
FILES = ("overlap.csv", "overlap.json", "leave_out.txt", "skipped.jsonl", "report.html")
BLOCK = 64
MISSES = 12
MOST_PAIRS = 1000
"""Of images with the same pixels so many pairs are listed; n of one side and m of the other make n * m."""


@dataclass
class CheckOverlapArguments:
    """Which two data sets, and from where on two images are the same."""

    flag_groups: ClassVar = {
        "input": ("corpus", "corpus_split", "validation", "validation_split", "max_pixels"),
        "measuring": ("threshold",),
        "output": ("output",),
        "machine": ("workers",),
    }

    corpus: str = field(metadata={"help": "images to pretrain on: folder, COCO, YOLO, VOC, Parquet or Hub id"})
    validation: str = field(metadata={"help": "images to measure on; these are held in memory, 80 kB an image"})
    output: str = field(default="overlap", metadata={"help": "folder for the table and the page"})
    threshold: float = field(
        default=0.62, metadata={"help": "similarity from which two images are near duplicates, 0 to 1"}
    )
    corpus_split: str | None = field(default=None, metadata={"help": "split of the corpus"})
    validation_split: str | None = field(default=None, metadata={"help": "split of the validation set"})
    max_pixels: int = field(default=MAX_PIXELS, metadata={"help": "larger images are skipped"})
    workers: int = field(default=0, metadata={"help": "threads; 0: one a core"})


ARGUMENTS = (CheckOverlapArguments,)


@on_terminal
@keeps_outputs
def main(arguments: CheckOverlapArguments) -> None:
    """Write the table and the page."""
    import cv2

    from agssp.data.overlap import Gallery
    from agssp.data.reading import read_told
    from agssp.report.overlap import write_overlap_report

    if not 0 < arguments.threshold <= 1:
        raise InputError(f"--threshold {arguments.threshold}: expected more than 0, and 1 at most")
    if arguments.workers < 0:
        raise InputError(f"--workers {arguments.workers}: expected 0, for one a core, or more")
    corpus, of_corpus = read_told(arguments.corpus, "--corpus", split=arguments.corpus_split)
    validation, of_validation = read_told(arguments.validation, "--validation", split=arguments.validation_split)
    output = Path(arguments.output)
    names = ("corpus", "corpus_split", "validation", "validation_split", "threshold", "max_pixels")
    claim_output(output, "dataset check-overlap", {name: getattr(arguments, name) for name in names})
    for name in FILES:
        (output / name).unlink(missing_ok=True)

    columns = ["image", "image_id"]
    corpus, validation = corpus.select_columns(columns), validation.select_columns(columns)
    # Threads of ours do the work of several images at once; those of OpenCV would stand in their way.
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(arguments.workers or os.cpu_count() or 1) as pool:
        theirs, ours = Seen(), Seen()

        def look(block: dict[str, Any]) -> Seen:
            return look_at(block, "validation", arguments.max_pixels, of_validation.image_notes)

        gallery = Gallery(chain.from_iterable(map(theirs.taken, _blocks(pool, look, validation, "validation"))))

        def compare(block: dict[str, Any]) -> "tuple[Seen, list[tuple[str, int]], list[tuple[Pair, int]]]":
            seen = look_at(block, "corpus", arguments.max_pixels, of_corpus.image_notes)
            same, near = list(gallery.same(seen.looks)), list(gallery.near(seen.looks))
            return replace(seen, looks=[]), same, near

        found = Found()
        misses: list[Pair] = []
        for seen, same, near in _blocks(pool, compare, corpus, "corpus"):
            ours.taken(seen)
            found.add_same(same)
            found.add_near(gallery, [entry for entry in near if entry[0].similarity >= arguments.threshold])
            below = [pair for pair, _ in near if pair.similarity < arguments.threshold]
            misses = heapq.nlargest(MISSES, [*misses, *below], key=lambda pair: pair.similarity)
    pairs = found.finish(gallery)
    facts = {
        "corpus": arguments.corpus,
        "validation": arguments.validation,
        "threshold": arguments.threshold,
        "corpus_images": len(corpus),
        "validation_images": len(validation),
        "skipped": len(ours.skipped) + len(theirs.skipped),
        "without_structure": ours.flat + theirs.flat,
        "exact": found.exact,
        "near": found.near,
        "pairs_left_out": found.exact + found.near - len(pairs),
        "corpus_images_to_leave_out": len(found.ids(pairs)),
        "highest_similarity_below": misses[0].similarity if misses else None,
    }
    reading = {"corpus": of_corpus.as_json(), "validation": of_validation.as_json()}
    _write(output, facts | {"reading": reading}, pairs, found, [*theirs.skipped, *ours.skipped])
    write_overlap_report(output / "report.html", facts, pairs, misses, corpus, validation)
    _say(output, facts)


@dataclass
class Seen:
    """Images that were looked at, those that could not be, and how many show nothing."""

    looks: "list[Look]" = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    flat: int = 0

    def taken(self, other: "Seen") -> "list[Look]":
        """Count another block's images here; what was seen on them is given back and not kept."""
        self.skipped += other.skipped
        self.flat += other.flat
        return other.looks


@dataclass
class Found:
    """What both data sets share: counts of all pairs, and those that are listed.

    Attributes:
        exact, near: numbers of pairs, be they listed or not.
        groups: of images with the same pixels, where not all pairs are listed.
    """

    exact: int = 0
    near: int = 0
    groups: list[dict[str, Any]] = field(default_factory=list)
    _same: dict[int, list[str]] = field(default_factory=dict)
    _near: "list[Pair]" = field(default_factory=list)

    def add_same(self, same: Sequence[tuple[str, int]]) -> None:
        """Add images of the corpus with the pixels of a validation picture, and its row."""
        for image_id, row in same:
            self._same.setdefault(row, []).append(image_id)

    def add_near(self, gallery: "Gallery", near: "Sequence[tuple[Pair, int]]") -> None:
        """Add near pairs, each with the first copy of a validation picture, and its row."""
        for pair, row in near:
            self.near += len(gallery.copies[row])
            self._near += gallery.with_copies(pair, row)

    def finish(self, gallery: "Gallery") -> "list[Pair]":
        """Count the exact pairs, and give those that are listed, in order."""
        from agssp.data.overlap import exact_pair

        pairs = list(self._near)
        for row, names in self._same.items():
            theirs = gallery.copies[row]
            count = len(names) * len(theirs)
            self.exact += count
            pairs += [exact_pair(*both) for both in islice(product(names, theirs), MOST_PAIRS)]
            if count > MOST_PAIRS:
                self.groups.append(
                    {"pairs": count, "listed": MOST_PAIRS, "corpus_ids": names, "validation_ids": theirs}
                )
        return sorted(pairs, key=lambda pair: (pair.kind, -pair.similarity, pair.corpus_id, pair.validation_id))

    def ids(self, pairs: "Sequence[Pair]") -> list[str]:
        """All images of the corpus that the validation set has too: the exact ones, then the near ones as listed."""
        same = sorted(name for names in self._same.values() for name in names)
        return list(dict.fromkeys([*same, *(pair.corpus_id for pair in pairs)]))


def look_at(block: dict[str, Any], which: str, max_pixels: int, notes: "ImageNotes | None" = None) -> Seen:
    """Decode a block of rows.

    Args:
        block: columns `image` (encoded) and `image_id`.
        which: `corpus` or `validation`, for the list of what was skipped.
        max_pixels: larger images are skipped.
        notes: gets what is noticed in the images; default: those of the data set that was read last.
    """
    from agssp.data.images import ImageError, decode_image
    from agssp.data.overlap import Look

    looks, skipped = [], []
    for image, image_id in zip(block["image"], block["image_id"], strict=True):
        try:
            looks.append(Look.of(image_id, decode_image(image, image_id, max_pixels=max_pixels, notes=notes)))
        except ImageError as error:
            skipped.append({"dataset": which, "image_id": image_id, "reason": str(error)})
    return Seen(looks, skipped, sum(look.is_flat for look in looks))


def _blocks(pool: ThreadPoolExecutor, work: Callable[[dict[str, Any]], Any], dataset: Any, name: str) -> Iterator[Any]:
    """What `work` gives for each block of rows, in order, with a progress bar."""
    from tqdm import tqdm

    starts = range(0, len(dataset), BLOCK)
    results = pool.map(lambda start: work(dataset[start : start + BLOCK]), starts)
    with tqdm(total=len(dataset), desc=name, unit="image") as progress:
        for start, result in zip(starts, results, strict=True):
            yield result
            progress.update(min(BLOCK, len(dataset) - start))


def _write(
    output: Path, facts: dict[str, Any], pairs: "Sequence[Pair]", found: Found, skipped: Sequence[dict[str, str]]
) -> None:
    from agssp.files import open_whole, write_json, write_lines, write_text

    rows = [{name: getattr(pair, name) for name in COLUMNS} for pair in pairs]
    rows = [row | {"similarity": round(row["similarity"], 4)} for row in rows]
    with open_whole(output / "overlap.csv") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    write_text(output / "leave_out.txt", "".join(f"{name}\n" for name in found.ids(pairs)))
    write_lines(output / "skipped.jsonl", list(skipped))
    write_json(output / "overlap.json", {"agssp": __version__, **facts, "groups": found.groups, "pairs": rows})


def _say(output: Path, facts: dict[str, Any]) -> None:
    print(
        f"{facts['corpus_images']} images of {facts['corpus']} and {facts['validation_images']} of "
        f"{facts['validation']}: {facts['exact']} exact and {facts['near']} near duplicates, {facts['skipped']} skipped"
    )
    if facts["pairs_left_out"]:
        print(
            f"{facts['pairs_left_out']} pairs of images that have many copies are not listed one by one; overlap.json "
            "names the groups, leave_out.txt every image"
        )
    if facts["without_structure"]:
        print(f"{facts['without_structure']} images show nothing but one grey; they were compared pixel by pixel alone")
    print(f"look at {output / 'report.html'}; the table: {output / 'overlap.csv'}")
    count = facts["corpus_images_to_leave_out"]
    if count:
        print(f"next: pretrain without these {count} images: `--exclude {output / 'leave_out.txt'}`")
    else:
        print("next: nothing has to be left out of pretraining")
