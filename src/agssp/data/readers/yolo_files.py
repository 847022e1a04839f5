"""Which of YOLO's label files belongs to which image."""

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

from agssp.data.readers.listing import Listing, plain_stem
from agssp.data.readers.yolo_labels import looks_like_labels
from agssp.data.readers.yolo_table import lists_names
from agssp.errors import InputError

IMAGE_FOLDERS = {"images", "jpegimages", "image", "imgs", "img"}
LABEL_FOLDERS = ("labels", "label")
_LOOKED_AT = 5


def pictures(listing: Listing) -> list[str]:
    """The images of a folder but those that are masks."""
    return listing.once(_pictures)


def _pictures(listing: Listing) -> list[str]:
    return [name for name in listing.images if name not in listing.masks]


class LabelFiles:
    """Which label file belongs to which image of a folder.

    The labels of `images/a/b.jpg` are `labels/a/b.txt`, whatever the case of the folders' names and of the suffix; or
    they lie beside the image; or in a folder `labels` inside of its folder or of one above, with the image's folders
    below it or, where that is unambiguous, without them.

    Args:
        listing: of the folder.
        any_text: whether any text beside an image is its label file; else those are that begin with labels.
    """

    def __init__(self, listing: Listing, any_text: bool = False) -> None:
        self.listing = listing
        self._any_text = any_text
        self._files: dict[str, dict[str, str]] = defaultdict(dict)
        for name in listing.with_suffix(".txt"):
            folder, _, own = name.rpartition("/")
            if not lists_names(own):
                self._files[folder].setdefault(own[:-4], name)
        self._spelt: dict[str, list[str]] = defaultdict(list)
        for folder in self._files:
            self._spelt[folder.lower()].append(folder)
        self._stems: dict[str, set[str]] = defaultdict(set)
        self._images = pictures(listing)
        for name in self._images:
            folder, stem = _folder_and_stem(name)
            self._stems[folder].add(stem)
        self._places: dict[str, list[str]] = {}
        self._claims: dict[str, list[str]] = defaultdict(list)
        self.spelt_otherwise: dict[str, str] = {}

    def of(self, image: str) -> str | None:
        """The label file of an image; None where it has none.

        Raises:
            InputError: it lies in a flat folder `labels` and could as well be that of an image in another folder.
        """
        file = self._found.get(image)
        claims = self._claims.get(file or "", ())
        if len(claims) > 1 and len({posixpath.dirname(name) for name in claims}) > 1:
            raise InputError(
                f"{self.listing.path(file or '')}: is the label file of {' or of '.join(claims[:2])}; put the labels "
                "into folders like those of the images, such as labels/train"
            )
        return file

    def seconds(self, image: str) -> list[str]:
        """Label files of an image beside the one that is read."""
        folder, stem = _folder_and_stem(image)
        places = self.places(folder)
        if len(places) < 2:
            return []
        files = [self._files[place][stem] for place in places if stem in self._files[place]]
        return [file for file in files if file != self._found.get(image)]

    def orphans(self, images: Iterable[str]) -> list[str]:
        """Label files, in the folders where those of these images are looked for, that belong to no image at all."""
        used = {posixpath.dirname(file) for image in images if (file := self._found.get(image))}
        places = used.union(*map(self.places, {posixpath.dirname(image) for image in images})) or self._files.keys()
        owned = set(self._found.values())
        texts = [name for name in self.listing.with_suffix(".txt") if name not in owned and not lists_names(name)]
        names = [name for name in texts if posixpath.dirname(name) in places]
        seconds = {file for image in self._images for file in self.seconds(image)} if names else set()
        return [
            name for name in names if name not in seconds and looks_like_labels(self.listing.path(name)) is not False
        ]

    def are_there(self) -> bool:
        """Whether any image has a label file."""
        return bool(self._found)

    def begin_with_labels(self) -> bool:
        """Whether one of the first label files that are not empty begins with a label."""
        return bool(self._look(self._found.values()))

    def places(self, folder: str) -> list[str]:
        """Folders where the labels of a folder of images may lie, with all of its folders, the likeliest first."""
        if folder not in self._places:
            parts = folder.split("/") if folder else []
            swapped = [
                [*parts[:at], labels, *parts[at + 1 :]]
                for at in reversed(range(len(parts)))
                if parts[at].lower() in IMAGE_FOLDERS
                for labels in LABEL_FOLDERS
            ]
            inserted = [
                [*parts[:at], labels, *parts[at:]] for at in reversed(range(len(parts) + 1)) for labels in LABEL_FOLDERS
            ]
            found = self._spelling(swapped)
            # Texts beside images may be anything, captions for one; those in a folder `labels` are what it says.
            stems = self._stems[folder]
            beside = [name for stem, name in self._files.get(folder, {}).items() if stem in stems]
            if beside and (self._any_text or self._look(beside) is not False):
                found.append(folder)
            self._places[folder] = list(dict.fromkeys([*found, *self._spelling(inserted)]))
        return self._places[folder]

    @cached_property
    def _found(self) -> dict[str, str]:
        """Label file of each image that has one."""
        found, without = {}, []
        for image in self._images:
            folder, stem = _folder_and_stem(image)
            for place in self.places(folder):
                if stem in self._files[place]:
                    found[image] = self._files[place][stem]
                    break
            else:
                without.append(image)
        owned = set(found.values())
        flat: dict[str, list[str]] = {}
        for image in without:
            folder, stem = _folder_and_stem(image)
            if folder not in flat:
                flat[folder] = self._flat_places(folder)
            for place in flat[folder]:
                file = self._files[place].get(stem)
                if file is not None and file not in owned:
                    found[image] = file
                    self._claims[file].append(image)
                    break
        self.spelt_otherwise = self._alike([image for image in without if image not in found], set(found.values()))
        return found | self.spelt_otherwise

    def _alike(self, images: Iterable[str], owned: set[str]) -> dict[str, str]:
        """Label files of images that are spelt otherwise, see `plain_stem`, where only one file and image agree."""
        by_place: dict[str, dict[str, list[str]]] = {}
        fits: dict[str, list[str]] = defaultdict(list)
        for image in images:
            folder, stem = _folder_and_stem(image)
            for place in self.places(folder):
                if place not in by_place:
                    by_place[place] = defaultdict(list)
                    for own, file in self._files[place].items():
                        if file not in owned:
                            by_place[place][plain_stem(own)].append(file)
                files = by_place[place].get(plain_stem(stem), ())
                if len(files) == 1:
                    fits[files[0]].append(image)
                    break
        return {images[0]: file for file, images in fits.items() if len(images) == 1}

    def _flat_places(self, folder: str) -> list[str]:
        """Folders of labels above a folder of images, which lack some of its folders."""
        parts = folder.split("/") if folder else []
        return self._spelling(
            [*parts[:at], labels, *parts[below:]]
            for at in reversed(range(len(parts)))
            for below in range(at + 1, len(parts) + 1)
            for labels in LABEL_FOLDERS
        )

    def _spelling(self, places: Iterable[Sequence[str]]) -> list[str]:
        """Those folders that hold texts, as they are spelt."""
        return [folder for parts in places for folder in self._spelt.get("/".join(parts).lower(), ())]

    def _look(self, names: Iterable[str]) -> bool | None:
        """Whether one of the first files that are not empty begins with a label; None where all are empty."""
        looked = 0
        for name in names:
            answer = looks_like_labels(self.listing.path(name))
            looked += answer is not None
            if answer or looked >= _LOOKED_AT:
                return answer
        return False if looked else None


def label_files(listing: Listing, has_table: bool) -> LabelFiles:
    """The label files of a folder; with a table, texts beside images are meant as such, if there are no others."""
    files = listing.once(LabelFiles)
    return files if files.are_there() or not has_table else listing.once(_with_any_text)


def _with_any_text(listing: Listing) -> LabelFiles:
    return LabelFiles(listing, any_text=True)


def _folder_and_stem(name: str) -> tuple[str, str]:
    folder, _, own = name.rpartition("/")
    return folder, own[: own.rfind(".")]
