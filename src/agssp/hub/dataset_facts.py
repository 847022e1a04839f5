"""Reads what is recorded about a data set: what its card says, and whether it may be passed on at all."""

import json
from pathlib import Path
from typing import Any

from agssp import __version__
from agssp.data.box_store import THRESHOLDS
from agssp.data.origin import DATASET_FILE, SPLIT_FILE
from agssp.errors import InputError

from .dataset_rows import Rows
from .paths import without_paths

OWN_LINE = "own-line"
MAP_FACTS = ("teacher", "pretrained", "licence", "image_size", "layers", "knowledge", "references", "version", "dtype")
BOX_FACTS = ("rule", "delta", "top_k", "min_area", "iou_threshold", "merge_distance", "score_threshold")


def recorded_facts(folder: str | Path) -> dict[str, Any]:
    """What `agssp dataset build` recorded about a folder of images, also about its splits; empty where nothing is."""
    folder = Path(folder).absolute()
    for place in (folder, folder.parent) if folder.exists() else ():
        found = _object(place / DATASET_FILE)
        if found:
            return found
        chosen = _object(place / SPLIT_FILE)
        if chosen.get("dataset"):
            return recorded_facts(chosen["dataset"])
    return {}


def check_licence(recorded: dict[str, Any], licence: str | None, private: bool) -> list[dict[str, Any]]:
    """Refuse to publish what may not be passed on.

    Args:
        recorded: what `recorded_facts` gives.
        licence: under which the owner of the images passes them on; None where nothing was said.
        private: whether only the owner's account will see them.

    Returns:
        The sources for the card; empty where none is recorded.

    Raises:
        InputError: a source forbids to pass its images on, or nothing tells whether these may be.
    """
    sources = [source for source in recorded.get("sources") or [] if isinstance(source, dict)]
    # Whoever built a set of his own images may say now what he did not say then.
    others = [source for source in sources if source.get("name") != OWN_LINE]
    forbidden = [source for source in others if not source.get("redistribution")]
    if forbidden:
        reasons = "; ".join(
            f"{source.get('name')}: {source.get('reason') or 'not allowed'}" for source in forbidden[:5]
        )
        raise InputError(
            f"{len(forbidden)} of its {len(sources)} sources may not be passed on ({reasons}). A private repository "
            "would pass them on too, to the Hub. Build it without them, or give others the command that builds it"
        )
    if others:
        if licence is not None:
            raise InputError(f"--licence {licence}: its sources' licences are recorded; this would contradict them")
        return sources
    known = [source for source in sources if source.get("redistribution")]
    if licence is None and not known and not private:
        raise InputError(
            "no licence is recorded for these images; give --licence cc-by-4.0 (or whichever you pass them on under), "
            "or --private to keep them to your own account"
        )
    return [] if licence is not None else known


def describe_rows(
    rows: Rows,
    recorded: dict[str, Any],
    sources: list[dict[str, Any]],
    *,
    title: str,
    licence: str | None = None,
    boxes: str | Path | None = None,
) -> dict[str, Any]:
    """What is known before any row is read: the beginning of the repository's dataset.json.

    Args:
        rows: what is to be published.
        recorded: from `recorded_facts`.
        sources: from `check_licence`.
        title: name of the data set for people.
        licence: under which its owner passes it on.
        boxes: output of `agssp pseudo-boxes`, if joined.
    """
    facts: dict[str, Any] = {
        "name": recorded.get("name") or title,
        "title": title,
        "agssp": __version__,
        "sources": sources,
        "columns": list(rows.features),
        "defect_types": rows.defect_types or [],
        "grid_size": rows.grid_size,
        "left_out": sum(len(split.left_out) for split in rows.splits.values()),
    }
    facts |= {name: recorded[name] for name in ("synthetic", "seed") if recorded.get(name) is not None}
    if licence is not None:
        facts["licence"] = licence
    if rows.store is not None:
        facts["maps"] = {name: rows.store.manifest[name] for name in MAP_FACTS if rows.store.manifest.get(name)}
        facts["map_teacher"] = rows.store.manifest.get("teacher")
    elif rows.grid_size is not None:
        facts |= {name: recorded[name] for name in ("maps", "map_teacher") if recorded.get(name)}
    if boxes is not None:
        thresholds = _object(Path(boxes) / THRESHOLDS)
        facts["boxes"] = {name: thresholds[name] for name in BOX_FACTS if thresholds.get(name) is not None}
    return without_paths(facts)


def _object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
