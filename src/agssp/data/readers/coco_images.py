"""Where the images of a COCO file lie, which tools put in many places."""

import posixpath
from collections.abc import Iterable, Sequence

from agssp.data.readers.folder_masks import is_mask
from agssp.data.readers.listing import Listing
from agssp.data.readers.report import ReadReport
from agssp.data.readers.splits import same_split, split_in
from agssp.errors import InputError


def image_folders(name: str) -> list[str]:
    """Folders, below the data set's, that the image names of a COCO file may be relative to, the likeliest first."""
    folder, stem = posixpath.dirname(name), posixpath.splitext(posixpath.basename(name))[0]
    subset = stem.rsplit("_", 1)[-1]  # instances_train2017.json has its images in train2017/
    names = ("", "images", "data", subset, f"images/{subset}", f"{subset}/images")
    places = dict.fromkeys((folder, posixpath.dirname(folder)))
    return [posixpath.normpath(posixpath.join(place, below)).removeprefix(".") for place in places for below in names]


def _folders_of_split(listing: Listing, name: str) -> list[str]:
    """Folders called like the split that the name of a COCO file says, in any spelling, and `images` or `data` in them.

    `annotations/instances_Validation.json` may have its images in `images/val` or in `images/Validation/Data`.
    """
    stem = posixpath.splitext(posixpath.basename(name))[0]
    subset, split = stem.rsplit("_", 1)[-1], split_in(stem)

    def is_of_split(folder: str) -> bool:
        own = posixpath.basename(folder)
        return same_split(own, subset) or (split is not None and same_split(own, split))

    return [
        folder
        for folder in sorted(listing.folders)
        if is_of_split(folder)
        or (posixpath.basename(folder).lower() in ("images", "data") and is_of_split(posixpath.dirname(folder)))
    ]


def find_images(listing: Listing, name: str, names: Sequence[str], report: ReadReport) -> tuple[str, list[str]]:
    """Find the images of a COCO file.

    Args:
        listing: of the data set's folder.
        name: of the file, below that folder.
        names: of the images, as the file says.
        report: gets a note of those that were found by their own name.

    Returns:
        The folder that most of them lie in as the file says, and the path of each below the data set's.

    Raises:
        InputError: images that are missing, that could be several files, or that seem to be one file.
    """
    likely = dict.fromkeys((*image_folders(name), *_folders_of_split(listing, name)))
    folders = [place for place in likely if not place or place in listing.folders]
    prefixes = {place: f"{place}/" if place else "" for place in folders}
    hits = {place: sum(prefix + text in listing for text in names) for place, prefix in prefixes.items()}
    root = max(folders, key=lambda place: hits[place]) if folders else ""
    order = sorted(folders, key=lambda place: -hits[place])
    paths, missing = [], []
    file = listing.path(name)
    for text in names:
        try:
            paths.append(listing.find(text, str(file), report, order, alone=len(names) == 1))
        except InputError as error:
            if "several files" in str(error):
                raise
            missing.append((text, error))
    if missing and len(missing) == len(names):
        looked = ", ".join(str(listing.root / place) for place in folders)
        raise InputError(f"{missing[0][1]}; its image {missing[0][0]!r} was not found; looked in {looked}")
    if missing:
        raise InputError(
            f"{file}: {len(missing)} of its {len(names)} images are not in {listing.root / root}: {missing[0][0]} ..."
        )
    owners: dict[str, str] = {}
    for text, path in zip(names, paths, strict=True):
        if owners.setdefault(path, text) != text:
            raise InputError(
                f"{file}: its images {owners[path]!r} and {text!r} both seem to be {path}; give each image a name of "
                "its own, and write its path below that folder into the file"
            )
    return root, paths


def note_unlisted(
    listing: Listing, root: str, paths: Iterable[str], elsewhere: Iterable[str], report: ReadReport
) -> None:
    """Note images in the folder of a COCO file's images that no COCO file of the data set lists.

    Args:
        listing: of the data set's folder.
        root: the folder of the file's images, below that.
        paths: of the file's images.
        elsewhere: names of images that other files list.
        report: gets the notes.
    """
    # A dict takes a third of the memory of a set.
    listed, others = dict.fromkeys(paths), {posixpath.basename(name.replace("\\", "/")) for name in elsewhere}
    prefix = f"{root}/" if root else ""
    for path in listing.images:
        is_known = path in listed or posixpath.basename(path) in others or is_mask(path)
        if path.startswith(prefix) and not is_known:
            report.note("unlisted", path)
