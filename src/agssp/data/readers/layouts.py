"""Tell in which layout a data set lies, by looking at its files."""

from collections.abc import Sequence
from pathlib import Path

from agssp.data.readers.coco import find_coco, is_coco
from agssp.data.readers.cvat import find_cvat, is_cvat
from agssp.data.readers.folder_masks import is_mask
from agssp.data.readers.label_studio import find_label_studio, is_label_studio
from agssp.data.readers.labelme import is_labelme
from agssp.data.readers.listing import Listing
from agssp.data.readers.metadata import TABLE
from agssp.data.readers.report import ReadReport
from agssp.data.readers.splits import default_split, folder_splits, same_split, split_named
from agssp.data.readers.tables import parquet_splits
from agssp.data.readers.unread import unread_labels
from agssp.data.readers.voc_files import is_voc, voc_lists
from agssp.data.readers.yolo import has_labels, has_table
from agssp.errors import InputError
from agssp.hub_client.names import is_hub_id, near_hint
from agssp.parsing import read_json

FORMATS = (
    "imagefolder", "metadata", "coco", "yolo", "voc", "labelme", "label_studio", "cvat", "parquet", "saved", "hub",
)  # fmt: skip
SPLITS = "splits"
"""In place of a format: a folder whose subfolders are labelled splits, each in a layout of its own."""


def find_format(source: str | Path) -> str:
    """Tell the layout of a data set by looking at it: one of `FORMATS`; of a folder of splits that of the first.

    Raises:
        InputError: there is nothing at `source` and it is no Hub id.
    """
    path = Path(source)
    if path.is_file():
        return format_of_file(path)
    if path.is_dir():
        listing = Listing(path)
        found = layout_of(listing)
        return layout_of(listing.below(split_folders(listing)[0])) if found == SPLITS else found
    if not is_hub_id(source):
        raise InputError(
            f"{source}: no such file or folder, and not a Hub id of the form owner/name{near_hint(source)}"
        )
    return "hub"


def format_of_file(file: Path) -> str:
    """Tell the layout of a data set that a single file stands for.

    Raises:
        InputError: the file is of no kind that is read; the message names the kinds.
    """
    suffix = file.suffix.lower()
    if suffix in (".parquet", ".yaml", ".yml", ".data"):
        return "parquet" if suffix == ".parquet" else "yolo"
    if suffix == ".json":
        content = Listing(file.parent, [file.name]).json(file.name)
        if content is None:
            raise InputError(f"{file}: not valid JSON")
        return "label_studio" if is_label_studio(content) and not is_coco(content) else "coco"
    if suffix == ".xml" and is_cvat(file):
        return "cvat"
    raise InputError(
        f"{file}: expected a folder, a COCO or Label Studio .json, a YOLO data.yaml or obj.data, CVAT's "
        "annotations.xml or a .parquet file"
    )


def layout_of(listing: Listing) -> str:
    """Tell the layout of a folder: one of `FORMATS`, or `SPLITS`."""
    labelled = labelled_layouts(listing)
    if labelled:
        return labelled[0]
    if split_folders(listing):
        return SPLITS
    beside = labels_beside(listing)
    if beside:
        return beside[0]
    if any(name.lower().endswith(f"/{TABLE}") for name in listing.with_suffix(".jsonl")):
        return "metadata"
    return "parquet" if listing.with_suffix(".parquet") else "imagefolder"


def labelled_layouts(listing: Listing) -> list[str]:
    """Layouts of which a folder itself has the tables or folders of labels, the one that is read first."""
    if "dataset_info.json" in listing or "dataset_dict.json" in listing:
        return ["saved"]
    looks = (
        ("metadata", any(name.lower() == TABLE for name in listing.with_suffix(".jsonl"))),
        ("voc", is_voc(listing)),
        ("yolo", has_table(listing)),
        ("coco", bool(find_coco(listing))),
        ("cvat", bool(find_cvat(listing))),
        ("label_studio", bool(find_label_studio(listing))),
    )
    return [name for name, is_there in looks if is_there]


def labels_beside(listing: Listing) -> list[str]:
    """Layouts of labels beside their images, or in `labels`, without a table, the one that is read first."""
    looks = (
        ("voc", is_voc(listing, beside=True)),
        ("labelme", is_labelme(listing)),
        ("yolo", has_labels(listing)),
    )
    return [name for name, is_there in looks if is_there]


def split_folders(listing: Listing) -> list[str]:
    """Subfolders that are labelled splits; none where labelled images lie elsewhere, too."""
    folders = sorted({name.split("/")[0] for name in listing.files if "/" in name})
    named = [name for name in folders if split_named(name)]
    # Parquet in folders of splits is one table with these splits.
    labelled = [name for name in named if layout_of(listing.below(name)) not in ("imagefolder", "parquet")]
    elsewhere = any(name.lower().endswith(f"/{TABLE}") and name.split("/")[0] not in labelled for name in listing.files)
    return [] if elsewhere else labelled


def choose_split_folder(listing: Listing, split: str | None, report: ReadReport) -> str:
    """The subfolder of the asked split, in any spelling, or of the usual one.

    Raises:
        InputError: there is no such split, or there are several and none is for training; they are named.
    """
    folders = sorted({name.split("/")[0] for name in listing.files if "/" in name})
    if split is not None:
        found = [name for name in folders if name == split] or [name for name in folders if same_split(name, split)]
        if len(found) != 1:
            there = [name for name in folders if split_named(name)]
            raise InputError(
                f"{listing.root}: has {'no split' if not found else 'several splits'} {split!r}; it has "
                f"{', '.join(found or there) or 'no folders train, val, test'}"
            )
        return found[0]
    labelled = split_folders(listing)
    chosen = default_split(labelled)
    if chosen is None:
        raise InputError(f"{listing.root}: has the splits {', '.join(labelled)}; say which one is to be read")
    if len(labelled) > 1:
        report.note("split_by_default", f"{chosen} of {', '.join(labelled)} in {listing.root}")
    _note_left_out(listing, labelled, report)
    return chosen


def _note_left_out(listing: Listing, labelled: Sequence[str], report: ReadReport) -> None:
    """Note what lies in none of the labelled splits: splits without labels that are read, and other images."""
    there = {name.split("/")[0] for name in listing.images if "/" in name}
    for folder in sorted(there - set(labelled)):
        if split_named(folder):
            below = listing.below(folder)
            files = [f"{below.path(file)} ({what})" for file, what in unread_labels(below)]
            report.note("other_splits", f"{folder} in {listing.root}, without labels that are read")
            report.note_all("unread_files", files)
    outside = [
        name for name in listing.images if not is_mask(name) and not ("/" in name and split_named(name.split("/")[0]))
    ]
    report.note_all("outside_splits", outside)


def find_splits(source: str | Path) -> list[str]:
    """Names of the splits that a data set has, as `read_dataset` takes them; empty for one that is all one.

    Splits that only a YOLO `data.yaml`, COCO file names or the Hub tell of are not looked for.
    """
    path = Path(source)
    kind = find_format(source)
    if kind == "parquet":
        return list(parquet_splits(path))
    if kind == "saved":
        table = path / "dataset_dict.json"
        return list(map(str, read_json(table, keys=("splits",))["splits"])) if table.is_file() else []
    if not path.is_dir():
        return []
    listing = Listing(path)
    found = layout_of(listing)
    if found in ("voc", "labelme"):
        lists = list(voc_lists(listing)) if found == "voc" else []
        folders = sorted(set(folder_splits(listing.images).values()))
        return lists or (folders if len(folders) > 1 else [])
    return split_folders(listing) if found == SPLITS else []
