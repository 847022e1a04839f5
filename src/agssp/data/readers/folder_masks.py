"""Which mask of a folder belongs to which of its images, told by their names alone."""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from agssp.data.readers.splits import PLAIN_FOLDERS, SPLIT_WORDS

MASK_FOLDERS = {"mask", "masks", "ground_truth", "ground-truth", "groundtruth"}
# Folders that tell nothing of what lies in them.
PASSED_FOLDERS = PLAIN_FOLDERS
# Folders of pictures of labels, where images of the same names lie elsewhere.
_PICTURE_FOLDER = re.compile(
    r"labels?|annotations?|ann_dir|label_images|trimaps|segmentation(class|object)?|gt|(.+[_-])?(masks?|gt)",
    re.IGNORECASE,
)
_OF_WHAT = re.compile(r"(?<=.)[_-](masks?|gt)$", re.IGNORECASE)
_BY_OBJECTS = "segmentationobject"
_SUFFIX = re.compile(r"[_-](mask|gt|label)$", re.IGNORECASE)


def is_mask(name: str) -> bool:
    """Whether a file lies in a folder of masks; its posix path is that below the data set's folder."""
    return _holds_masks(name.rpartition("/")[0])


@lru_cache
def _holds_masks(folder: str) -> bool:
    return not MASK_FOLDERS.isdisjoint(folder.lower().split("/"))


def find_masks(names: Sequence[str]) -> set[str]:
    """Which images of a folder are masks, told by their paths and names alone.

    These are images in a folder of masks; those whose name is that of an image beside or above them and `_mask`, `_gt`
    or `_label`; and those in a folder that is called like one of labels (`labels`, `annotations`, `ann_dir`,
    `train_mask`, `SegmentationClass`) and have the name of an image outside of it.

    Args:
        names: paths of all images below the data set's folder.
    """
    masks = {name for name in names if is_mask(name)}
    stems = {stem for name in names if (stem := name[: name.rfind(".")])}
    for name in names:
        folder, _, own = name[: name.rfind(".")].rpartition("/")
        plain = _SUFFIX.sub("", own)
        above = (folder, folder.rpartition("/")[0])
        if plain != own and any((f"{place}/{plain}" if place else plain) in stems for place in above):
            masks.add(name)
    suspects = [name for name in names if name not in masks and _in_picture_folder(name)]
    outside = {_stem(name) for name in names if name not in masks and not _in_picture_folder(name)} if suspects else ()
    masks.update(name for name in suspects if {_stem(name), _SUFFIX.sub("", _stem(name))} & set(outside))
    return masks


def _in_picture_folder(name: str) -> bool:
    return any(_PICTURE_FOLDER.fullmatch(folder) for folder in name.split("/")[:-1])


def _stem(name: str) -> str:
    own = name.rpartition("/")[2]
    return own[: own.rfind(".")]


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
    of_classes = {mask.name for mask in masks if not _is_by_objects(mask)}
    # VOC's masks by objects are second ones of those by classes.
    masks = [mask for mask in masks if not (_is_by_objects(mask) and mask.name in of_classes)]
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


def _is_by_objects(mask: Path) -> bool:
    return any(folder.lower() == _BY_OBJECTS for folder in mask.parts[:-1])


def _folders(path: Path, with_splits: bool) -> tuple[str, ...]:
    passed = (MASK_FOLDERS | PASSED_FOLDERS) - (set(SPLIT_WORDS) if with_splits else set())
    # `train_mask` is of `train`.
    names = (_OF_WHAT.sub("", name) for name in map(str.lower, path.parts[:-1]))
    return tuple(name for name in names if name not in passed and not _PICTURE_FOLDER.fullmatch(name))
