"""Names of splits, whatever case and spelling tools give them."""

import re
from collections.abc import Iterable

SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
"""Each word for a split, in small letters, and the split that it means."""
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
