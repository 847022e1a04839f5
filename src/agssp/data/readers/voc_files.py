"""Which files a Pascal VOC folder has: the XML file and the mask of each image, and the images of each split."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice

from agssp.data.readers.listing import IMAGE_SUFFIXES, Listing, composed, plain_stem, read_text
from agssp.data.readers.report import ReadReport
from agssp.data.readers.splits import default_split, in_split, same_split, split_named
from agssp.data.readers.xml_files import read_xml, root_tag
from agssp.errors import InputError

ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "xml", "xmls")
OBJECT_MASKS = "segmentationobject"
MASK_FOLDERS = ("masks", "segmentationclass", OBJECT_MASKS)
# Folders that tell nothing of what lies in them.
_PASSED = {*ANNOTATION_FOLDERS, *MASK_FOLDERS, "images", "jpegimages", "data", "image", "img"}
_SNIFFED = 5
_LISTS = re.compile(r"(?<![^/])imagesets(/main|/segmentation)?$", re.IGNORECASE)
# A list of one class has, behind each name, whether the image shows that class: 1, -1, or 0 where it is hard to tell.
_MEMBERSHIP = re.compile(r"\s+-?[01]$")


def is_voc(listing: Listing, beside: bool = False) -> bool:
    """Whether a folder has a folder of VOC's XML files; or, with `beside`, XML files beside its images."""
    # Those named like an image first: other XML files may lie among them.
    files = listing.named_like_images_first(".xml") if beside else _xml_files(listing)
    return any(root_tag(listing.path(name)) == "annotation" for name in islice(files, _SNIFFED))


def voc_lists(listing: Listing) -> dict[str, str]:
    """Lists of images of each split in `ImageSets/Main` (or `ImageSets`), by the split's name; not those of a class.

    `dent_train` is the list of a class: it lies beside `train`.

    Raises:
        InputError: several folders have lists of their own; they are named.
    """
    found: dict[str, str] = {}
    owners = set()
    for name in listing.with_suffix(".txt"):
        place = _LISTS.search(posixpath.dirname(name))
        stem = posixpath.splitext(posixpath.basename(name))[0]
        if place:
            found.setdefault(stem, name)
            owners.add(name[: place.start()] or "./")
    plain = {stem.lower() for stem in found}
    found = {
        stem: name for stem, name in found.items() if not ("_" in stem and stem.lower().rpartition("_")[2] in plain)
    }
    if len(owners) > 1:
        raise InputError(
            f"{listing.root}: {', '.join(sorted(owners))} have ImageSets of their own; give one of these folders as "
            "the data set"
        )
    return found


def images_and_masks(listing: Listing) -> tuple[list[str], list[str]]:
    """The images of a folder, and the masks; of those that lie there by classes and by objects the ones by classes."""
    masks = [name for name in listing.images if in_folder(name, MASK_FOLDERS) or name in listing.masks]
    of_classes = {posixpath.basename(name) for name in masks if not in_folder(name, (OBJECT_MASKS,))}
    seconds = {name for name in masks if in_folder(name, (OBJECT_MASKS,)) and posixpath.basename(name) in of_classes}
    every = set(masks)
    return [name for name in listing.images if name not in every], [name for name in masks if name not in seconds]


def match_xml(listing: Listing, images: Sequence[str], report: ReadReport) -> dict[str, str]:
    """Image -> its XML file; what is left over is noted.

    Raises:
        InputError: there are XML files, and none has an image; the first is named.
    """
    in_folders, stems = _xml_files(listing), {posixpath.splitext(name)[0] for name in images}
    beside = {name for name in listing.with_suffix(".xml") if posixpath.splitext(name)[0] in stems}
    xml_files = sorted({*in_folders, *beside}) if in_folders else listing.with_suffix(".xml")
    files = by_name(xml_files)
    found = {name: file for name in images if (file := match(name, files))}
    matched = set(found.values())
    has_one = {relative_key(name) for name in found}
    second = [name for name in xml_files if name not in matched and relative_key(name) in has_one]
    left = [name for name in xml_files if name not in matched and relative_key(name) not in has_one]
    found |= _match_by_filename(listing, left, [name for name in images if name not in found], report)
    matched = set(found.values())
    orphans = [str(listing.path(name)) for name in left if name not in matched]
    if orphans and not found:
        raise InputError(f"{orphans[0]}: has no image of that name in {listing.root}, nor has any other file beside it")
    report.note_all("orphans", orphans)
    report.note_all("second_label_files", [str(listing.path(name)) for name in second])
    return found


def chosen_images(listing: Listing, split: str | None, images: Sequence[str], report: ReadReport) -> set[str]:
    """The images of the asked split, or of the one for training where there are several, in lists or folders.

    Raises:
        InputError: there is no such split, none is for training, or a list names images that are not there.
    """
    lists = voc_lists(listing)
    splits = {name: file for name, file in lists.items() if split_named(name) or name.lower() == "trainval"} or lists
    if len(lists) < 2 and splits is lists and (split is None or split not in lists):
        # The one list of a whole data set, as CVAT calls it `default`, tells of no split.
        return in_split(images, split, listing.root, report)
    if split is not None:
        found = [name for name in lists if name == split] or [name for name in lists if same_split(name, split)]
        if len(found) != 1:
            raise InputError(f"{listing.root}: has no split {split!r}; it has {', '.join(lists)}")
        chosen = found[0]
    else:
        training = [name for name in splits if split_named(name) == "train"] or [
            name for name in splits if name.lower() == "trainval"
        ]
        usual = default_split(training or splits)
        if usual is None:
            raise InputError(f"{listing.root}: has the splits {', '.join(splits)}; say which one is to be read")
        chosen = usual
        if len(splits) > 1:
            report.note("split_by_default", f"{chosen} of {', '.join(splits)} in {listing.root}")
    levels = _levels(images)
    told = _images_in(listing, lists[chosen], levels)
    if not told:
        raise InputError(f"{listing.path(lists[chosen])}: lists no images; name another split")
    others = (_images_in(listing, file, levels, strict=False) for file in splits.values())
    listed = told.union(*others)
    report.note_all("outside_splits", [name for name in images if name not in listed])
    return told


def _levels(images: Sequence[str]) -> list[dict[str, list[str]]]:
    """Images by what a list may call them, the surest first: their path, that without suffix, their own name."""
    levels: list[dict[str, list[str]]] = [defaultdict(list) for _ in range(5)]
    for image in images:
        plain = posixpath.splitext(image)[0]
        keys = (image, plain, relative_key(image), posixpath.basename(image), posixpath.basename(plain))
        for level, key in zip(levels, keys, strict=True):
            level[key].append(image)
    return levels


def _images_in(listing: Listing, name: str, levels: Sequence[Mapping[str, list[str]]], strict: bool = True) -> set[str]:
    """The images that a list names, one a line: with blanks, folders and suffixes in their names, or without."""
    found: set[str] = set()
    file = listing.path(name)
    for line in read_text(file).splitlines():
        text = line.strip().replace("\\", "/")
        if not text:
            continue
        # A name may end in a number, as does a line that tells of a class.
        spellings = [name for each in (text, _MEMBERSHIP.sub("", text)) for name in _spellings(each)]
        hits = next((level[each] for each in spellings for level in levels if each in level), None)
        if hits is None and strict:
            raise InputError(f"{file}: lists an image that is not in {listing.root}: {text}")
        found.update(hits or ())
    return found


def _spellings(text: str) -> list[str]:
    """A listed name, without the folders before it, and without the suffix of an image."""
    names = list(dict.fromkeys((posixpath.normpath(text), posixpath.basename(text))))
    return names + [
        posixpath.splitext(name)[0] for name in names if posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES
    ]


def _xml_files(listing: Listing) -> list[str]:
    """XML files in a folder of annotations, at any depth."""
    return [
        name for name in listing.with_suffix(".xml") if name.split("/")[0].lower() in ANNOTATION_FOLDERS and "/" in name
    ]


def in_folder(name: str, folders: Sequence[str]) -> bool:
    """Whether a file lies below one of some folders, given in small letters."""
    return any(part in folders for part in _folders_of(name.rpartition("/")[0]))


@lru_cache
def _folders_of(path: str) -> tuple[str, ...]:
    return tuple(path.lower().split("/"))


def relative_key(name: str) -> str:
    """A file's path without suffix and without the folders that only tell its kind."""
    folder, _, own = name.rpartition("/")
    return _telling_folders(folder) + posixpath.splitext(own)[0]


@lru_cache
def _telling_folders(folder: str) -> str:
    """A folder's path, with a slash at its end, without the folders that only tell what kind of file lies there."""
    return "".join(f"{part}/" for part in folder.split("/") if part and part.lower() not in _PASSED)


def by_name(files: Sequence[str]) -> dict[str, list[str]]:
    """Files by their path without suffix and folders of their kind, and by their bare stem."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in files:
        key = relative_key(file)
        for each in {key, key.rsplit("/", 1)[-1]}:
            found[each].append(file)
    return found


def match(name: str, files: Mapping[str, list[str]]) -> str | None:
    """Of files, by their names, the one beside an image, else that of its relative name, else the only one of its stem.

    Args:
        name: of the image.
        files: as `by_name` gives them.
    """
    key, folder = relative_key(name), name.rpartition("/")[0]
    of_stem = files.get(key.rpartition("/")[2], [])
    beside = [file for file in of_stem if file.rpartition("/")[0] == folder]
    return next((found[0] for found in (beside, files.get(key, []), of_stem) if len(found) == 1), None)


def _match_by_filename(
    listing: Listing, xml_files: Sequence[str], images: Sequence[str], report: ReadReport
) -> dict[str, str]:
    """Image -> XML file, for files that are named otherwise than the image whose `filename` they give, or spelt so."""
    by_own: dict[str, list[str]] = defaultdict(list)
    for image in images:
        own = composed(posixpath.basename(image)).lower()
        for key in {own, posixpath.splitext(own)[0], plain_stem(posixpath.splitext(own)[0])}:
            by_own[key].append(image)
    found: dict[str, str] = {}
    for name in xml_files:
        file = listing.path(name)
        if root_tag(file) != "annotation":
            continue
        text = (read_xml(file).findtext("filename") or "").strip()
        asked = composed(posixpath.basename(text.replace("\\", "/"))).lower()
        fits = by_own.get(asked) or by_own.get(plain_stem(posixpath.splitext(posixpath.basename(name))[0]), [])
        if len(fits) == 1 and fits[0] not in found:
            report.note("found_by_name", f"{file}: {text} is {fits[0]}")
            found[fits[0]] = name
    return found
