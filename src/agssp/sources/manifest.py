"""`dataset.json`: what a built data set holds and where it is from; written last, it marks the set as whole."""

from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.parsing import read_json
from agssp.sources.plan import Plan
from agssp.sources.table import Source
from agssp.version import __version__

MANIFEST = "dataset.json"
SKIPPED = "skipped.jsonl"


def source_facts(source: Source, images: int) -> dict[str, Any]:
    """What the manifest says of one source, of which `images` rows are in the data set."""
    return {
        "name": source.name,
        "title": source.title,
        "home_page": source.home_page,
        "licence": source.licence,
        "redistribution": source.redistribution,
        "reason": None if source.redistribution else source.reason,
        "citation": source.citation,
        "images": images,
        "published_images": source.images,
        "paper_images": source.paper_images,
        "layout_checked": source.layout_checked,
        "note": source.note,
    }


def dataset_facts(
    name: str,
    title: str,
    sources: list[dict[str, Any]],
    plan: Plan,
    counted: dict[str, Any],
    skipped: int,
    seed: int,
    reading: dict[str, Any],
) -> dict[str, Any]:
    """Contents of `dataset.json`.

    Args:
        name: what `agssp dataset build` calls the data set.
        title: its name for people.
        sources: what `source_facts` says of each.
        plan: its rows.
        counted: what `count_rows` gives.
        skipped: images that could not be read.
        seed: of splits and subsets.
        reading: of each source what reading it found, changed and left out; of a subset that of the whole.
    """
    labels = [name for name, there in (("mask", plan.mask), ("objects", plan.classes is not None)) if there]
    return {
        "name": name,
        "title": title,
        "sources": sources,
        "counts": {**counted["counts"], "skipped": skipped},
        "columns": ["image", "image_id", "category", "is_normal", *labels],
        "splits": counted["splits"],
        "shards": [shard.name for shard in plan.shards],
        "seed": seed,
        "reading": reading,
        "agssp": __version__,
        "map_teacher": None,
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a built data set.

    Raises:
        InputError: there is none, or it is no manifest.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise InputError(
            f"{folder}: has no {MANIFEST}, so it is no finished data set; run `agssp dataset build` with the same "
            "flags to finish it"
        )
    needed = ("name", "sources", "counts", "columns", "splits")
    return read_json(file, keys=needed, remedy="expected what `agssp dataset build` writes; run it again")
