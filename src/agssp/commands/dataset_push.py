"""Publish images with their anomaly maps and boxes as a data set on the Hugging Face Hub, with a card.

    agssp dataset push magnetic-tile me/magnetic-tile --maps maps
    agssp dataset push my-images me/my-defects --maps maps --boxes boxes --licence cc-by-4.0
    agssp dataset push my-images me/my-defects --private --ids hash
    agssp dataset push my-images me/my-defects --maps maps --licence cc-by-4.0 --card-only card

DIR is what `agssp dataset build` or `agssp split` wrote, or any images that --dataset takes. Rows go up as Parquet
shards one by one, with image, image_id, category, is_normal, and mask, objects, anomaly_map, anomaly_score and map_max
where there are any; all of it becomes visible in one commit with the card, so that no half of it can be loaded. After
an interruption the same command goes on: shards that arrived are not sent again. The pixels' bytes go up as they are;
EXIF (GPS position, serial numbers, owner), XMP, IPTC, texts and previews are taken out of the files unless --keep-exif
is given. Images are named by their paths in DIR, or with --ids hash by digests of these. Sources whose licence forbids
to pass their images on are refused, also with --private: that repository lies on the Hub too.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agssp.command_lines import maps_command, shell_command
from agssp.errors import InputError
from agssp.output_folder import hold_output, keeps_outputs
from agssp.terminal import on_terminal

if TYPE_CHECKING:
    from agssp.data.readers import ReadReport
    from agssp.hub.dataset_rows import Rows

POSITIONAL = ("folder", "repo_id")


@dataclass
class DatasetPushArguments:
    """What to publish, and where."""

    flag_groups: ClassVar = {
        "input": ("folder", "maps", "boxes", "splits", "category", "crowds"),
        "output": (
            "repo_id", "title", "licence", "ids", "keep_exif", "private", "revision", "message", "replace",
            "shard_images", "card_only",
        ),
    }  # fmt: skip

    folder: str = field(metadata={"help": "images: a built data set, a folder, COCO, YOLO, VOC, Parquet"})
    repo_id: str = field(metadata={"help": "OWNER/NAME on the Hub; made if it is not there"})
    maps: str | None = field(default=None, metadata={"help": "map store of these images (`agssp anomaly-maps`)"})
    boxes: str | None = field(default=None, metadata={"help": "pseudo boxes of these images (`agssp pseudo-boxes`)"})
    splits: list[str] | None = field(default=None, metadata={"help": "splits to publish; default: all that are found"})
    category: str | None = field(default=None, metadata={"help": "object category, where the layout does not tell"})
    crowds: str = field(
        default="auto",
        metadata={"help": "boxes with iscrowd 1: objects, ignore (regions), or auto: objects if all of a file have it"},
    )
    title: str | None = field(default=None, metadata={"help": "name on the card; default: as recorded, else NAME"})
    licence: str | None = field(
        default=None, metadata={"help": "licence of your own images, such as cc-by-4.0, under which they are passed on"}
    )
    ids: str = field(
        default="path",
        metadata={
            "help": "published names of images: path (as in DIR), or hash (a digest of that, the same every time)"
        },
    )
    keep_exif: bool = field(
        default=False, metadata={"help": "publish what image files tell of camera, place and people (EXIF, XMP, texts)"}
    )
    private: bool = field(default=False, metadata={"help": "make the new repository visible to its owner alone"})
    revision: str | None = field(default=None, metadata={"help": "branch to push to; made if it is not there"})
    message: str | None = field(default=None, metadata={"help": "of the commit"})
    replace: bool = field(
        default=False, metadata={"help": "take the place of another data set, or of other files, of this name"}
    )
    shard_images: int = field(default=1000, metadata={"help": "images a shard at most"})
    card_only: str | None = field(
        default=None, metadata={"help": "write the card into this folder instead, without asking the Hub"}
    )


ARGUMENTS = (DatasetPushArguments,)


@on_terminal
@keeps_outputs
def main(arguments: DatasetPushArguments) -> None:
    """Publish, or write the card alone."""
    from tqdm import tqdm

    from agssp.files import write_bytes
    from agssp.hub.dataset_facts import check_licence, describe_rows, recorded_facts
    from agssp.hub.dataset_publishing import Upload, describing_files, write_shards
    from agssp.hub.dataset_rows import Rows
    from agssp.hub.image_ids import IDS
    from agssp.hub.names import check_name

    if arguments.ids not in IDS:
        raise InputError(f"--ids {arguments.ids}: expected {' or '.join(IDS)}")
    if arguments.shard_images < 1:
        raise InputError(f"--shard-images {arguments.shard_images}: expected 1 or more")
    check_name(arguments.repo_id)
    if arguments.card_only is not None:
        check_card_folder(Path(arguments.card_only), Path(arguments.folder))
        hold_output(arguments.card_only, "dataset push", flag="--card-only")
    recorded = recorded_facts(arguments.folder)
    sources = check_licence(recorded, arguments.licence, arguments.private)
    title = arguments.title or recorded.get("title") or arguments.repo_id.split("/")[-1]
    upload = None
    if arguments.card_only is None:
        upload = Upload(
            arguments.repo_id, recorded.get("name") or title, private=arguments.private, revision=arguments.revision,
            replace=arguments.replace,
        )  # fmt: skip
    reports: dict[str, ReadReport] = {}
    splits = read_splits(arguments, reports)
    rows = Rows(splits, arguments.maps, arguments.boxes, ids=arguments.ids, keep_exif=arguments.keep_exif)
    facts = describe_rows(rows, recorded, sources, title=title, licence=arguments.licence, boxes=arguments.boxes)
    say_ids(rows)
    if upload is not None:
        upload.begin()
    images = sum(map(len, rows.splits.values()))
    with tqdm(total=images, desc="publish" if upload else "count", unit="image") as progress:
        picture = write_shards(rows, facts, arguments.shard_images, upload.keep if upload else None, progress)
    # Places where something happened are names of the publisher's own files.
    facts["reading"] = {name: report.as_json(places=False) for name, report in reports.items()}
    files = describing_files(rows, facts, arguments.repo_id, picture)
    say_left_out(rows)
    say_metadata(rows)
    if upload is None:
        folder = Path(str(arguments.card_only))
        for name, content in files.items():
            write_bytes(folder / name, content)
        print(f"card in {folder / 'README.md'}")
        return
    address = upload.commit(files, arguments.message)
    print(f"{images} images in {len(upload.additions)} shards: {', '.join(facts['columns'])}")
    if upload.removed:
        more = " ..." * (len(upload.removed) > 5)
        print(f"{len(upload.removed)} files are no part of it and were removed: {', '.join(upload.removed[:5])}{more}")
    print(f"published: {address}")
    print(f"next: {next_step(arguments.repo_id, rows, arguments.revision)}")


def check_card_folder(folder: Path, source: Path) -> None:
    """Raise InputError unless a card may be written into a folder: no records and no images of others are there."""
    from agssp.hub.dataset_publishing import DESCRIBING

    if source.exists() and folder.resolve().is_relative_to(source.resolve()):
        raise InputError(f"--card-only {folder}: lies in {source}, whose records it would replace; name another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--card-only {folder}: a file of this name exists; expected a folder")
    # Hidden files are what an interrupted run left behind.
    there = {entry.name for entry in folder.iterdir() if entry.name[0] != "."} if folder.exists() else set()
    # A card that was written before may be written again.
    foreign = sorted(there - set(DESCRIBING) if DESCRIBING[0] in there else there)
    if foreign:
        raise InputError(
            f"--card-only {folder}: holds what is no card of a data set ({', '.join(foreign[:5])}"
            f"{' ...' if len(foreign) > 5 else ''}); name a new or empty folder"
        )


def refuse_outside(split: str, report: "ReadReport") -> None:
    """Refuse to publish pictures from anywhere on this machine, which a table may name without the user's knowing.

    Raises:
        InputError: the table names some; the first is named.
    """
    if count := report.count("outside_files"):
        raise InputError(
            f"split {split}: {count} of its pictures lie outside of the table's folder, first "
            f"{report.examples('outside_files')[0]}; what is published must lie there: put the pictures' bytes into "
            "the table, as `agssp split` does, or, if they are your own, allow their folder with AGSSP_DATA_FOLDERS"
        )


def read_splits(arguments: DatasetPushArguments, reports: "dict[str, ReadReport] | None" = None) -> dict[str, Any]:
    """All splits to be published, with the same class labels in each.

    Args:
        arguments: of the command.
        reports: is filled with the report of each split.
    """
    from agssp.data.readers import find_splits
    from agssp.data.readers.relabelling import relabel
    from agssp.data.reading import read_told
    from agssp.data.schema import category_names, defect_names

    found = {} if reports is None else reports
    options: dict[str, Any] = {"category": arguments.category, "crowds": arguments.crowds}
    asked = arguments.splits or find_splits(arguments.folder)
    if not asked:
        dataset, found["train"] = read_told(arguments.folder, "FOLDER", **options)
        refuse_outside("train", found["train"])
        return {"train": dataset}
    read = {name: read_told(arguments.folder, "FOLDER", split=name, **options) for name in asked}
    found |= {name: report for name, (_, report) in read.items()}
    for name, report in found.items():
        refuse_outside(name, report)
    categories, classes = (
        list(dict.fromkeys(name for dataset, _ in read.values() for name in names_of(dataset)))
        for names_of in (category_names, defect_names)
    )
    return {
        name: relabel(dataset, arguments.folder, categories, classes or None, report)
        for name, (dataset, report) in read.items()
    }


def say_left_out(rows: "Rows") -> None:
    """Name images that the maps' teacher could not read, and that are not published."""
    left_out = {name: reason for split in rows.splits.values() for name, reason in split.left_out.items()}
    if left_out:
        print(f"{len(left_out)} images cannot be read and are left out:")
        for name, reason in list(left_out.items())[:5]:
            print(f"  {name}: {reason}")


def say_ids(rows: "Rows") -> None:
    """Tell by which names images will be published, with three of them."""
    from itertools import chain, islice

    from agssp.hub.image_ids import published_id

    ids = chain.from_iterable(iter(split.dataset["image_id"]) for split in rows.splits.values())
    examples = ", ".join(published_id(name, rows.ids) for name in islice(ids, 3))
    if rows.ids == "path":
        print(f"images are published by their own names, such as {examples}; --ids hash gives digests of them instead")
    else:
        print(f"images are published by digests of their names, such as {examples}")


def say_metadata(rows: "Rows") -> None:
    """Tell what was taken out of the image files."""
    if rows.keep_exif:
        print("image files keep what they tell of camera, place and people, as --keep-exif asks")
    elif rows.metadata:
        files = " and ".join(f"{rows.metadata[part]} {part}" for part in ("images", "masks") if rows.metadata[part])
        kinds = (f"{kind} {count}" for kind, count in sorted(rows.metadata.items()) if kind not in ("images", "masks"))
        print(f"taken out of {files}, whose pixels stay as they are: {', '.join(kinds)}; --keep-exif leaves it in")


def next_step(repo_id: str, rows: "Rows", revision: str | None = None) -> str:
    """What anybody can do with it now."""
    if revision is not None:
        # The commands read the main branch.
        return f'datasets.load_dataset("{repo_id}", revision="{revision}")'
    if any(split.has_maps for split in rows.splits.values()):
        return shell_command(
            "pretrain-backbone",
            dataset=repo_id,
            streaming=True,
            max_steps=10000,
            backbone="resnet50",
            output="backbone",
        )
    if rows.defect_types:
        return shell_command("finetune", "MODEL", dataset=repo_id, output="my-detector")
    return maps_command(dataset=repo_id)
