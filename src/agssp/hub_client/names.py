"""Tells names of repositories on the Hub from paths, and what a name that is neither may have meant."""

import contextlib
import difflib
from os import PathLike
from pathlib import Path


def is_hub_id(name: str | PathLike) -> bool:
    """Whether the Hub could have a repository of this name, OWNER/NAME; ask first whether there is such a path.

    A folder called like the owner changes nothing: `acme/steel` is on the Hub where `acme/` is here without `steel`.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if str(name).count("/") != 1:
        return False
    try:
        validate_repo_id(str(name))
    except HFValidationError:
        return False
    return True


def near_on_disk(name: str | PathLike, most: int = 3) -> list[str]:
    """Files and folders that a path which does not exist may have meant, the nearest first.

    Args:
        name: the path.
        most: how many.

    Returns:
        Names beside it; where its folder does not exist either, paths in folders called like that one.
    """
    path = Path(name)
    with contextlib.suppress(OSError):
        if path.parent.is_dir():
            return difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], most)
        beside = path.parent.parent
        folders = difflib.get_close_matches(path.parent.name, [entry.name for entry in beside.iterdir()], most)
        return [str(beside / folder / path.name) for folder in folders if (beside / folder / path.name).exists()]
    return []


def written_by(path: str | PathLike, command: str) -> str:
    """What to do where a folder is not what a command writes, which a foreign one must not be given as its output.

    Args:
        path: the folder.
        command: such as `anomaly-maps`.
    """
    if Path(path).exists():
        return f"give the folder that `agssp {command} --output FOLDER` wrote; where it was interrupted, run it again"
    return f"make it with `agssp {command} --output {path}`{near_hint(path)}"


def near_hint(name: str | PathLike) -> str:
    """The end of a sentence on a name that was not found: `; near it are a, b`; empty where nothing is."""
    near = near_on_disk(name)
    return f"; near it are {', '.join(near)}" if near else ""
