"""Names of splits, whatever case and spelling tools give them."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from agssp.data.readers.report import ReadReport
from agssp.errors import InputError

SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
"""Each word for a split, in small letters, and the split that it means."""
PLAIN_FOLDERS = {
    "images", "jpegimages", "image", "img", "imgs", "data", "obj_train_data", "annotations", "labels", "unlabelled",
    "unlabeled", "img_dir", "train_images", "val_images", "test_images", *SPLIT_WORDS,
}  # fmt: skip
"""Names of folders, in small letters, that tell nothing of what lies in them."""
_WORDS = re.compile(r"[A-Za-z]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def split_named(name: str) -> str | None:
    """`train`, `val` or `test` where a name as a whole, but for case and a year, says so; else None.

    `Train`, `valid` and `train2017` do; `trainings-set` does not.
    """
    return SPLIT_WORDS.get(name.lower().rstrip("0123456789"))


def split_in(name: str) -> str | None:
    """The split that one of the words in a file's name says: `instances_Train2017` is of `train`, `latest` of none.

    A name that says several (`train_val`) is of none.
    """
    words = _WORDS.findall(_HUMPS.sub("_", name))
    found = {split for word in words if (split := SPLIT_WORDS.get(word.lower()))}
    return found.pop() if len(found) == 1 else None


def same_split(name: str, asked: str) -> bool:
    """Whether a split's name is the asked one, or another spelling of it."""
    wanted = split_named(asked)
    return name.lower() == asked.lower() or (wanted is not None and split_named(name) == wanted)


def default_split(names: Iterable[str]) -> str | None:
    """Of several splits the one that is read where none is asked for: the only one, else the one for training.

    Returns:
        None where there are several and none is, or more than one is, for training.
    """
    names = list(names)
    if len(names) == 1:
        return names[0]
    training = [name for name in names if split_named(name) == "train"]
    return training[0] if len(training) == 1 else None


def folder_splits(names: Iterable[str]) -> dict[str, str]:
    """Of files that lie in a folder with the name of a split, at any depth, that folder's name."""
    found = {}
    for name in names:
        folder = next((part for part in posixpath.dirname(name).split("/") if split_named(part)), None)
        if folder is not None:
            found[name] = folder
    return found


def in_split(names: Sequence[str], split: str | None, root: Path, report: ReadReport) -> set[str]:
    """The images of the asked split, told by the folders that they lie in; of the usual one where there are several.

    Args:
        names: of the images, below the data set's folder.
        split: the asked one.
        root: names the data set in messages.
        report: gets a note where one of several is read, and of images that are in none.

    Raises:
        InputError: no folder has that name, or several are there and none is for training.
    """
    of = folder_splits(names)
    folders = sorted(set(of.values()))
    if split is None and len(folders) < 2:
        return set(names)
    if split is None:
        chosen = default_split(folders)
        if chosen is None:
            raise InputError(f"{root}: has the splits {', '.join(folders)}; say which one is to be read")
        report.note("split_by_default", f"{chosen} of {', '.join(folders)} in {root}")
    else:
        found = [name for name in folders if name == split] or [name for name in folders if same_split(name, split)]
        if len(found) != 1:
            there = ", ".join(found or folders) or "no folders train, val, test"
            raise InputError(f"{root}: has {'several splits' if found else 'no split'} {split!r}; it has {there}")
        chosen = found[0]
    report.note_all("outside_splits", [name for name in names if name not in of])
    return {name for name, folder in of.items() if folder == chosen}
