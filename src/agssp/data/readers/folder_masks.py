"""Which mask of a folder belongs to which of its images, told by their names alone."""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from agssp.data.readers.records import PLAIN_FOLDERS
from agssp.data.readers.splits import SPLIT_WORDS

MASK_FOLDERS = {"mask", "masks", "ground_truth", "ground-truth", "groundtruth"}
# Folders that tell nothing of what lies in them.
PASSED_FOLDERS = PLAIN_FOLDERS
_SUFFIX = re.compile(r"[_-](mask|gt|label)$", re.IGNORECASE)


def is_mask(name: str) -> bool:
    """Whether a file lies in a folder of masks; its posix path is that below the data set's folder."""
    return _holds_masks(name.rpartition("/")[0])


@lru_cache
def _holds_masks(folder: str) -> bool:
    return not MASK_FOLDERS.isdisjoint(folder.lower().split("/"))


def match_masks(images: Sequence[Path], masks: Sequence[Path]) -> tuple[dict[Path, Path], list[Path]]:
    """Find each image's mask: the one of the same folders and name.

    Folders of images, of masks and of splits are no part of that, nor is a `_mask`, `_gt` or `_label` at the end of the
    mask's name. Where this fits several images, the one of the mask's own split is meant.

    Args:
        images: paths below the data set's folder.
        masks: likewise.

    Returns:
        Image -> mask, and the masks that fit no image or several, or share one.
    """
    owners: dict[tuple[bool, tuple[str, ...], str], list[Path]] = defaultdict(list)
    for image in images if masks else ():
        for with_splits in (True, False):
            owners[(with_splits, _folders(image, with_splits), image.stem)].append(image)
    found: dict[Path, list[Path]] = defaultdict(list)
    left = []
    for mask in masks:
        keys = (
            (with_splits, _folders(mask, with_splits), stem)
            for with_splits in (True, False)
            for stem in (mask.stem, _SUFFIX.sub("", mask.stem))
        )
        fits = next((owners[key] for key in keys if key in owners), [])
        if len(fits) == 1:
            found[fits[0]].append(mask)
        else:
            left.append(mask)
    left += [mask for shared in found.values() if len(shared) > 1 for mask in shared]
    return {image: fits[0] for image, fits in found.items() if len(fits) == 1}, sorted(left)


def _folders(path: Path, with_splits: bool) -> tuple[str, ...]:
    passed = (MASK_FOLDERS | PASSED_FOLDERS) - (set(SPLIT_WORDS) if with_splits else set())
    return tuple(name for name in map(str.lower, path.parts[:-1]) if name not in passed)
