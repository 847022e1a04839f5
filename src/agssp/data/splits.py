"""Seeded splits of a labelled data set: a few images a class to train on, the rest to test on."""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np

from agssp.errors import InputError


def shuffled_order(image_ids: Sequence[str], seed: int) -> list[int]:
    """Row indices in an order that depends on the ids and the seed only, not on the order of the rows."""
    keys = [hashlib.sha256(f"{seed}\t{image_id}".encode()).digest() for image_id in image_ids]
    return sorted(range(len(image_ids)), key=keys.__getitem__)


def few_per_class(
    image_ids: Sequence[str],
    classes: Sequence[Sequence[int]],
    count: int,
    seed: int,
    names: Sequence[str] | None = None,
    served: Collection[int] | None = None,
) -> list[int]:
    """Choose images so that each class occurs in at least `count` of them.

    Classes are served in turn, the rarest first, so that an image that shows two classes counts for both.

    Args:
        image_ids: id of each image.
        classes: class indices that occur in each image.
        count: how many images a class.
        seed: which of the possible choices.
        names: of all classes, for the error; default: their numbers.
        served: the classes that must occur; default: those that do.

    Returns:
        Row indices, ascending.

    Raises:
        InputError: a class occurs in fewer images than `count`.
    """
    wanted = sorted({index for row in classes for index in row} if served is None else served)
    members = {
        index: [row for row in shuffled_order(image_ids, seed) if index in set(classes[row])] for index in wanted
    }
    for index, rows in members.items():
        if len(rows) < count:
            name = f"{index}" if names is None else repr(names[index])
            fewest = min(map(len, members.values()))
            fewer = f"ask for {fewest} a class at most, or" if fewest else "ask"
            raise InputError(
                f"class {name} occurs in {len(rows)} images; {count} a class were asked for; {fewer} for a number of "
                "images in all (--count) or a share of them (--fraction)"
            )
    chosen: set[int] = set()
    for index in sorted(members, key=lambda index: (len(members[index]), index)):
        have = sum(row in chosen for row in members[index])
        for row in members[index]:
            if have >= count:
                break
            if row not in chosen:
                chosen.add(row)
                have += 1
    return sorted(chosen)


def split_rows(
    image_ids: Sequence[str], classes: Sequence[Sequence[int]], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split rows in two, each class in about the same share on both sides.

    Rows are grouped by their rarest class (none is a group of its own) and each group is cut at `fraction`.

    Args:
        image_ids: id of each image.
        classes: class indices that occur in each image; empty for an image without objects.
        fraction: share of the second part, in (0, 1).
        seed: which of the possible splits; the same ids and seed give the same split in any row order.

    Returns:
        Row indices of the first and of the second part, ascending; with two or more rows neither is empty.

    Raises:
        InputError: a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise InputError(f"the share of a split must lie between 0 and 1, got {fraction}")
    frequency = np.bincount([index for row in classes for index in set(row)], minlength=1)
    groups: dict[int, list[int]] = {}
    for row in shuffled_order(image_ids, seed):
        rarest = min(set(classes[row]), key=lambda index: (frequency[index], index), default=-1)
        groups.setdefault(rarest, []).append(row)
    second: list[int] = []
    # Remainders are carried from group to group so that many small groups still add up to the fraction.
    owed = 0.0
    for key in sorted(groups):
        owed += len(groups[key]) * fraction
        take = min(round(owed), len(groups[key]))
        owed -= take
        second += groups[key][:take]
    everything = shuffled_order(image_ids, seed)
    if not second and len(everything) > 1:
        second = everything[:1]
    if len(second) == len(everything) and len(everything) > 1:
        second = second[1:]
    chosen = set(second)
    return [row for row in range(len(image_ids)) if row not in chosen], sorted(chosen)
