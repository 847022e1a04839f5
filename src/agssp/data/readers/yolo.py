"""YOLO's layouts as records: label files with a data.yaml, darknet's obj.data or a list of class names."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from agssp.data.containment import Boundary, is_delivered, outside
from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord, folder_category
from agssp.data.readers.report import ReadReport
from agssp.data.readers.yolo_files import label_files
from agssp.data.readers.yolo_labels import Classes, read_labels
from agssp.data.readers.yolo_splits import images_to_read
from agssp.data.readers.yolo_table import Table, choose_table, find_tables, lists_names, read_names, read_table
from agssp.errors import InputError


def has_table(listing: Listing) -> bool:
    """Whether a folder has a table of YOLO data, or a list of class names, and label files for its images.

    With a table label files of no image will do: that they have none is told when they are read.
    """
    has_table = bool(find_tables(listing))
    has_list = any("/" not in name and lists_names(name) for name in listing.files)
    if not listing.with_suffix(".txt") or not (has_table or has_list):
        return False
    files = label_files(listing, has_table)
    return files.are_there() or (has_table and bool(files.orphans([])))


def has_labels(listing: Listing) -> bool:
    """Whether a folder has label files for its images, without a table; texts that are none do not count."""
    if not listing.with_suffix(".txt"):
        return False
    files = label_files(listing, False)
    return files.begin_with_labels() or (files.are_there() and any(map(lists_names, listing.files)))


def locate_yolo(file: Path) -> tuple[Listing, str]:
    """The folder of the data that a table given by itself belongs to, and the table's path.

    That is the folder where the table lies; or the one that its `path` names, where that lies elsewhere and holds an
    entry of the table. A relative `path` begins at the table, or else where the program runs.

    Raises:
        InputError: the table came with a repository, and its `path` leads out of the table's folder.
    """
    own = file.absolute().parent
    if file.suffix.lower() != ".data":
        table = read_table(file, Listing(own, []), ReadReport())
        entries = [entry for split in table.splits.values() for entry in split] or ["."]
        for start in (own, Path.cwd()):
            place = Path(posixpath.normpath((start / table.base).as_posix()))
            # Path's own methods raise at names that are too long to be any.
            if os.path.isdir(place) and any(os.path.exists(place / name) for name in entries):  # noqa: PTH110, PTH112
                is_inside = place.resolve().is_relative_to(own.resolve())
                if not is_inside and is_delivered(file.absolute()) and not Boundary(own).holds(place):
                    raise outside(f"{file}: `path`", f"{place}/", own)
                return Listing(file.parent if is_inside else place), str(file)
            if not table.base:
                break
    return Listing(file.parent), str(file)


def read_yolo(
    listing: Listing, table: str | None, split: str | None, category: str | None, report: ReadReport
) -> tuple[list[ImageRecord], list[str]]:
    """Read a YOLO data set.

    The table gives the class names and, for `train`, `val` and `test` in any spelling, a folder, a list of folders or a
    .txt list of images. An image without a label file has no defects, unless none of the images has one: then nothing
    is known.

    Args:
        listing: of the data's folder, which is never left.
        table: path of the table, where it was given by itself; default: looked for in the folder.
        split: which of the splits, see `images_to_read`; default: the one for training, or the only one.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed, guessed or left out.

    Returns:
        The records, and the class names in the order of their numbers.

    Raises:
        InputError: no class names, no such split, an image that is not there, a malformed line, or a class without a
            name; file and line are named.
    """
    told = _table(listing, table, report)
    files = label_files(listing, told is not None)
    images = images_to_read(listing, files, told, split, report)
    owned = [files.of(image) for image in images]
    classes, are_numbers = _classes(listing, told, [file for file in owned if file], report)
    paths = [listing.path(file) if file else None for file in owned]
    labels = read_labels(paths, classes, report)
    if are_numbers:
        report.note_all("numbered_classes", [label.where for found in labels for label in found])
    is_labelled = any(owned)
    object_category = category or folder_category(listing.root)
    records = []
    sharing: dict[Path, list[str]] = defaultdict(list)
    for image, file, found in zip(images, paths, labels, strict=True):
        if file is None and is_labelled:
            report.note("no_label_file", image)
        if file is not None and found:
            sharing[file].append(image)
        records.append(
            ImageRecord(
                path=listing.path(image),
                image_id=image,
                category=object_category,
                labels=found if is_labelled else None,
                fractions=True,
            )
        )
    report.note_all(
        "found_by_name",
        [f"{listing.path(other)} is of {image}" for image in images if (other := files.spelt_otherwise.get(image))],
    )
    report.labels_from = next((file for file in owned if file), "")
    report.with_label_file = sum(file is not None for file in owned)
    report.share(sharing)
    report.note_all("orphans", [str(listing.path(file)) for file in files.orphans(images)])
    report.note_all(
        "second_label_files", [str(listing.path(file)) for image in images for file in files.seconds(image)]
    )
    return records, list(classes.names.values())


def _table(listing: Listing, given: str | None, report: ReadReport) -> Table | None:
    """What the table says; None where the folder has none."""
    if given is None:
        name = choose_table(listing, report)
        return None if name is None else read_table(listing.path(name), listing, report)
    if not Path(given).resolve().is_relative_to(listing.root.resolve()):
        report.note("data_elsewhere", f"{given}: {listing.root}")
    return read_table(Path(given), listing, report)


def _classes(listing: Listing, table: Table | None, labels: Sequence[str], report: ReadReport) -> tuple[Classes, bool]:
    """The class names: of the table; else of the lists of names beside the labels or above; else numbers.

    The second value says whether they are numbers.

    Args:
        listing: of the data's folder.
        table: what the table says; None where there is none.
        labels: the label files that are read.
        report: gets a note of classes without names.
    """
    where = str(listing.root if table is None else table.file)
    names = table.names if table is not None else {}
    if names:
        others = [other for other, contrary in _lists_of_names(listing, labels).items() if contrary != names]
        report.note_all("contrary_names", [f"{other} (the names of {where} count)" for other in others])
    count = table.count if table is not None else None
    if not names:
        lists = _lists_of_names(listing, labels)
        where, names = next(iter(lists.items()), (where, {}))
        for other, contrary in lists.items():
            if contrary != names:
                raise InputError(
                    f"{where} and {other}: the lists of class names differ, so that numbers in label files may mean "
                    "either; keep one, or write a data.yaml with `names`"
                )
        if names and count is not None and count not in (len(names), max(names) + 1):
            raise InputError(
                f"{where}: has {len(names)} class names, but the table says that there are {count} classes"
            )
    are_numbers = not names and count is not None
    if not names and count is not None:
        names = {number: str(number) for number in range(count)}
    if not names:
        raise InputError(
            f"{where}: the labels have class numbers, but there are no names for these; expected a data.yaml with "
            "`names`, or a classes.txt with one name a line"
        )
    gaps = [number for number in range(max(names)) if number not in names]
    report.note_all("class_gaps", [f"{number} in {where}" for number in gaps])
    return Classes(names, where, table.keypoints if table is not None else 0), are_numbers


def _lists_of_names(listing: Listing, labels: Sequence[str]) -> dict[str, dict[int, str]]:
    """The class names of each list beside the label files or above; where there is none, of each that there is."""
    lists = [name for name in listing.files if lists_names(name)]
    folders = {f"{posixpath.dirname(name)}/" for name in labels}
    above = {name: posixpath.dirname(name) for name in lists}
    near = [name for name in lists if not above[name] or any(f.startswith(f"{above[name]}/") for f in folders)]
    return {str(listing.path(name)): names for name in near or lists if (names := read_names(listing.path(name)))}
