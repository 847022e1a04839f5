"""What a data set is called in records and cards, without telling where on a machine it lies."""

from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.hub_client.names import is_hub_id
from agssp.parsing import read_json

DATASET_FILE = "dataset.json"
"""Beside the images, or one folder above: `name`, `title`, `synthetic`, `sources`, as far as they are known."""
SPLIT_FILE = "split.json"
"""What `agssp split` leaves beside its `train/` and `test/`."""


def describe_source(source: str | Path, split: str | None = None) -> dict[str, Any]:
    """What is known about a data set's origin.

    Args:
        source: as a flag names it: a path, or a Hub id.
        split: the split that is meant, where there are several.

    Returns:
        `name`: the Hub id, the title that the data set has been given, or the last part of the path. Where known
        also `hub_id`; `split`; `split_seed` (of `agssp split`); `synthetic` (True for drawn images); and `sources`,
        each with `name` and `licence`; and `licence` of all images. Of a Hub id these are read there.
    """
    path = Path(source)
    if not path.exists():
        known = {"name": str(source), "hub_id": str(source)} if is_hub_id(source) else {"name": path.name}
        return known | _facts(recorded_about(source)) | ({"split": split} if split else {})
    folder = path.resolve()
    if chosen := _split_of(folder):
        return describe_source(_whole_of(folder)) | {"split": folder.name, "split_seed": chosen["seed"]}
    told = recorded_about(folder)
    name = told.get("title") or told.get("name") or (folder.stem or "data set")
    return {"name": name} | _facts(told) | ({"split": split} if split else {})


def recorded_about(source: str | Path) -> dict[str, Any]:
    """The content of a data set's dataset.json: beside its images, a folder above, or in its repository on the Hub.

    Args:
        source: as a flag names it: a path, or a Hub id.

    Returns:
        Empty where there is none, or where the Hub cannot be asked.
    """
    path = Path(source)
    if path.exists():
        folder = path.resolve()
        if _split_of(folder):
            return recorded_about(_whole_of(folder))
        return _read(folder / DATASET_FILE) or _read(folder.parent / DATASET_FILE)
    if not is_hub_id(source):
        return {}
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    try:
        # Without a connection this fails at once, where a download would wait for it.
        HfApi().dataset_info(str(source))
        reachable = True
    except (OSError, ValueError, HTTPError):
        reachable = False
    try:
        file = hf_hub_download(str(source), DATASET_FILE, repo_type="dataset", local_files_only=not reachable)
        return _read(Path(file))
    except (OSError, ValueError, EntryNotFoundError, HTTPError):
        return {}


def _split_of(folder: Path) -> dict[str, Any] | None:
    """What `agssp split` says of this part; None for what is no part of a split."""
    chosen = _read(folder.parent / SPLIT_FILE) if folder.name in ("train", "test") else {}
    return chosen if isinstance(chosen.get("dataset"), str) and "seed" in chosen else None


def _whole_of(folder: Path) -> str:
    """The data set that a part was split off, of which it may be a part of a part.

    Raises:
        InputError: it is its own part.
    """
    seen: list[Path] = []
    while chosen := _split_of(folder):
        if folder in seen:
            raise InputError(f"{folder.parent / SPLIT_FILE}: by its `dataset`, the images were split off themselves")
        seen.append(folder)
        if not Path(chosen["dataset"]).exists():
            return chosen["dataset"]
        folder = Path(chosen["dataset"]).resolve()
    return str(folder)


def _facts(told: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"licence": told["licence"]} if told.get("licence") else {}
    if told.get("synthetic"):
        facts["synthetic"] = True
    listed = told.get("sources")
    listed = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    sources = [{key: one[key] for key in ("name", "licence") if one.get(key)} for one in listed]
    if any(sources):
        facts["sources"] = [one for one in sources if one]
    return facts


def _read(file: Path) -> dict[str, Any]:
    """What is told of a data set; a file of that name that is none of ours tells nothing."""
    try:
        return read_json(file)
    except (InputError, OSError):
        return {}
