"""Reads what is recorded about a data set: what its card says, and whether it may be passed on at all."""

from pathlib import Path
from typing import Any

from agssp.boxes.store import THRESHOLDS
from agssp.data.origin import DATASET_FILE, SPLIT_FILE
from agssp.data.readers import find_format
from agssp.errors import InputError
from agssp.hub_client.errors import hub_errors
from agssp.hub_client.retries import with_retries
from agssp.output_folder import SETTINGS_FILE
from agssp.parsing import read_json
from agssp.version import __version__

from .dataset_rows import Rows
from .image_ids import published_id
from .paths import without_paths

OWN_LINE = "own-line"
MAP_FACTS = ("teacher", "pretrained", "licence", "image_size", "layers", "knowledge", "references", "version", "dtype")
BOX_FACTS = ("rule", "delta", "top_k", "min_area", "iou_threshold", "merge_distance", "score_threshold")


def recorded_facts(source: str | Path) -> dict[str, Any]:
    """What is recorded about images, whichever of their folders or files is named; empty where nothing is.

    Args:
        source: a folder or file of a built data set or of its splits, a folder around several, or a Hub id.

    Raises:
        InputError: a build is not finished, the images that a split was taken from are gone, or the Hub cannot be
            asked; nothing tells then what may be passed on.
    """
    place = Path(source).resolve()
    if not place.exists():
        find_format(source)
        return _of_repository(str(source))
    for folder in (place, *place.parents):
        found = _object(folder / DATASET_FILE)
        if found:
            return found
        origin = _object(folder / SPLIT_FILE).get("dataset")
        if origin is not None:
            return _of_split(folder / SPLIT_FILE, str(origin))
        _check_finished(folder)
    # A folder around built data sets is read as one.
    for settings in sorted(place.rglob(SETTINGS_FILE)):
        _check_finished(settings.parent)
    below = [_object(file) for file in sorted(place.rglob(DATASET_FILE))]
    sources = [source for found in below for source in found.get("sources") or []]
    return {"sources": sources} if sources else {}


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
    if not sources and recorded.get("licence"):
        # Somebody has published them already.
        told = ("name", "title", "licence", "images", "home_page", "citation")
        sources = [{**{name: recorded.get(name) for name in told}, "redistribution": True}]
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
        "ids": rows.ids,
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
    if facts.get("maps"):
        facts["maps"] = _with_published_ids(facts["maps"], rows.ids)
    return without_paths(facts)


def _with_published_ids(maps: dict[str, Any], ids: str) -> dict[str, Any]:
    """What is recorded of maps, with their references by the names that images are published by."""
    references = maps.get("references")
    if not isinstance(references, dict) or not references.get("chosen"):
        return maps
    chosen = {
        category: entry | {"image_ids": [published_id(name, ids) for name in entry.get("image_ids") or []]}
        for category, entry in references["chosen"].items()
    }
    return maps | {"references": references | {"chosen": chosen}}


def _of_split(file: Path, origin: str) -> dict[str, Any]:
    """What is recorded about the images that `agssp split` divided."""
    try:
        return recorded_facts(origin)
    except InputError as error:
        raise type(error)(
            f"{file}: says that these images are some of {origin}, and nothing tells whether those may be passed on: "
            f"{error}"
        ) from error


def _of_repository(repo_id: str) -> dict[str, Any]:
    """What a data set on the Hub records about itself."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with hub_errors(repo_id):
        try:
            file = with_retries(lambda: hf_hub_download(repo_id, DATASET_FILE, repo_type="dataset"))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return {}
    recorded = _object(Path(file))
    for source in recorded.get("sources") or []:
        if source.get("name") == OWN_LINE:
            # Own images are their publisher's, not of whoever publishes them again.
            source["name"] = repo_id
    return recorded


def _check_finished(folder: Path) -> None:
    if _object(folder / SETTINGS_FILE).get("command") == "dataset build" and not _object(folder / DATASET_FILE):
        raise InputError(
            f"{folder}: has no {DATASET_FILE}, so it is no finished data set; run `agssp dataset build` with the same "
            "flags to finish it"
        )


def _object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    content = read_json(file, (dict, list), remedy="fetch or write it again: it tells where images come from")
    return content if isinstance(content, dict) else {}
