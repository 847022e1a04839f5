"""Which images of YOLO data are read: those of a split that the table, lists or folders tell."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence

from agssp.data.readers.listing import IMAGE_SUFFIXES, Listing, read_text
from agssp.data.readers.report import ReadReport
from agssp.data.readers.splits import default_split, same_split, split_named
from agssp.data.readers.yolo_files import IMAGE_FOLDERS, LabelFiles, pictures
from agssp.data.readers.yolo_table import Table, base_folder, find_file, find_folder, folders_of
from agssp.errors import InputError, StorageError

# CVAT's folder of the images of a subset.
_SUBSET = re.compile(r"obj_(.+)_data", re.IGNORECASE)


def images_to_read(
    listing: Listing, files: LabelFiles, table: Table | None, split: str | None, report: ReadReport
) -> list[str]:
    """The images of the asked split, or of the usual one; or all of a data set without splits.

    Splits are those of the table; else those of lists beside it (`train.txt`); else those that folders are named for
    (`images/train`, `train/images`, CVAT's `obj_train_data`).

    Args:
        listing: of the data's folder.
        files: its label files.
        table: what the table says; None where there is none.
        split: the name of the split, in any spelling.
        report: gets a note of what is left out.

    Raises:
        InputError: no such split, several of which none is for training, an image that is not there, or no images.
    """
    told = table.splits if table is not None else {}
    where = str(listing.root if table is None else table.file)
    splits = told or {posixpath.splitext(name)[0]: [name] for name in listing.in_folder("") if _is_list(listing, name)}
    if not splits:
        images = _told_by_folders(listing, files, split, report)
    else:
        listed = table if table is not None else Table(listing.root)
        chosen = _choose_split(list(splits), split, where, report)
        images = _listed(listing, listed, chosen, splits[chosen], report)
        named = set(images)
        for other in splits.keys() - {chosen}:
            try:
                named.update(_listed(listing, listed, other, splits[other], ReadReport()))
            except StorageError:
                raise
            except InputError:
                # Another split that is not there is no matter of this one.
                continue
        report.note_all("unlisted", [name for name in pictures(listing) if name not in named])
    if not images:
        raise InputError(f"{where}: there are no images{f' in its split {split!r}' if split else ' to read'}")
    return images


def _listed(listing: Listing, table: Table, split: str, entries: Sequence[str], report: ReadReport) -> list[str]:
    """The images of a split's entries, each once."""
    found: dict[str, None] = {}
    where = f"{table.file}: {split}"
    for entry in entries:
        folder = find_folder(listing, entry, table, where, report)
        if folder is None:
            names = _of_list(listing, table, entry, where, report)
        else:
            prefix = f"{folder}/" if folder else ""
            names = [name for name in pictures(listing) if name.startswith(prefix)]
        for name in names:
            if name in found:
                report.note("listed_twice", f"{name} ({where})")
            found[name] = None
    return list(found)


def _of_list(listing: Listing, table: Table, entry: str, where: str, report: ReadReport) -> list[str]:
    """The images of a .txt list, one a line; or the one image that an entry is itself."""
    suffix = posixpath.splitext(entry.strip())[1].lower()
    if suffix != ".txt" and suffix not in IMAGE_SUFFIXES:
        hint = (
            f"; its `path`, {table.base!r}, counts where the table is given by itself and that folder holds {entry!r}"
            if table.base
            else "; data in another folder than the table's need a `path` in it"
        )
        raise InputError(
            f"{where}: there is no folder {entry!r} with files below {listing.root}; expected a folder of images or a "
            f".txt list of them{hint}"
        )
    base = base_folder(listing, table)
    folders = tuple(dict.fromkeys([*([] if base is None else [base]), *folders_of(listing, table.file)]))
    file = find_file(listing, entry, where, report, folders)
    if suffix != ".txt":
        return [file]
    path = listing.path(file)
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    folders = tuple(dict.fromkeys([posixpath.dirname(file), *folders]))
    return [
        find_file(listing, line, f"{path}:{number}", report, folders, alone=len(lines) == 1) for number, line in lines
    ]


def _told_by_folders(listing: Listing, files: LabelFiles, split: str | None, report: ReadReport) -> list[str]:
    """The images of a split that folders tell, or all of a data set that is all one."""
    there = pictures(listing)
    inside = {name for name in there if IMAGE_FOLDERS.intersection(name.lower().split("/")[:-1])}
    if any(files.of(name) for name in inside):
        # Previews and plots that lie about are no part of the data set, but what is labelled is.
        inside.update(name for name in there if files.of(name))
    groups: dict[str, list[str]] = defaultdict(list)
    for name in there:
        if name in inside or not inside:
            groups[_split_of_path(name)].append(name)
    rest = groups.pop("", [])
    labelled = [name for name, images in groups.items() if any(map(files.of, images))]
    has_training = any(split_named(name) == "train" for name in labelled)
    if split is None and (not labelled or (not has_training and any(map(files.of, rest)))):
        report.note_all("other_splits", [f"{name} in {listing.root}" for name in groups if rest])
        images = rest or there
    else:
        images = groups[_choose_split(list(groups if split else labelled), split, str(listing.root), report)]
    told = set(images).union(*groups.values())
    report.note_all("outside_splits", [name for name in there if name not in told])
    return images


def _is_list(listing: Listing, name: str) -> bool:
    """Whether a file is a list of the images of a split: `train.txt`."""
    stem, suffix = posixpath.splitext(name)
    if suffix.lower() != ".txt" or split_named(stem) is None:
        return False
    first = read_text(listing.path(name)).strip().partition("\n")[0]
    return posixpath.splitext(first.strip())[1].lower() in IMAGE_SUFFIXES


def _split_of_path(name: str) -> str:
    """The name of the first folder on the way to an image that is a split; "" where none is."""
    for folder in name.split("/")[:-1]:
        subset = _SUBSET.fullmatch(folder)
        if split_named(told := subset[1] if subset else folder):
            return told
    return ""


def _choose_split(splits: Sequence[str], split: str | None, where: str, report: ReadReport) -> str:
    told = ", ".join(splits) or "none"
    if split is None:
        chosen = default_split(splits)
        if chosen is None:
            raise InputError(f"{where}: has the splits {told}; say which one is to be read")
        if len(splits) > 1:
            report.note("split_by_default", f"{chosen} of {told} in {where}")
        return chosen
    found = [name for name in splits if name == split] or [name for name in splits if same_split(name, split)]
    if len(found) != 1:
        raise InputError(f"{where}: has {'no split' if not found else 'several splits'} {split!r}; it has {told}")
    return found[0]
