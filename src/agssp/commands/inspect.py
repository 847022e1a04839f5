"""Read a data set and show what was read: numbers, changes, and images with their boxes drawn.

    agssp inspect NEU-DET --output inspection.html
    agssp inspect labelled/data.yaml --split val --image-size 320 --output inspection.html

What to run first on images and labels of one's own: it says how many images have labels, boxes by class, and all that
was dropped, clipped, scaled, turned, deduplicated or guessed, counted by cause. PAGE shows 24 images, the oddest
first; beside it PAGE.json holds the report.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.command_lines import maps_command, shell_command
from agssp.errors import InputError
from agssp.output_folder import hold_output, keeps_outputs
from agssp.terminal import on_terminal

POSITIONAL = ("dataset",)
MARK = "Written by agssp"


@dataclass
class InspectArguments:
    """Which data set to look at."""

    dataset: str = field(
        metadata={"help": "images with labels or without: folder, COCO, YOLO, VOC, labelme, ..., Parquet or Hub id"}
    )
    output: str = field(metadata={"help": "HTML page to write; PAGE.json is written beside it"})
    split: str | None = field(default=None, metadata={"help": "split of a data set that has several"})
    category: str | None = field(default=None, metadata={"help": "object category, where the layout does not tell"})
    crowds: str = field(
        default="auto", metadata={"help": "what boxes marked iscrowd are: auto, ignore (regions) or objects"}
    )
    image_size: int = field(default=640, metadata={"help": "side of the detector's input in px, to tell small boxes"})
    check_images: bool = field(default=False, metadata={"help": "decode every image, and name those that cannot be"})


ARGUMENTS = (InspectArguments,)


@on_terminal
@keeps_outputs
def main(arguments: InspectArguments) -> None:
    """Write the page and the report."""
    from agssp.data.reading import read_told
    from agssp.data.schema import defect_names
    from agssp.files import write_json
    from agssp.report.inspection import inspection_sections
    from agssp.report.page import write_page

    if arguments.image_size < 1:
        raise InputError(f"--image-size {arguments.image_size}: expected 1 px or more")
    page = Path(arguments.output)
    check_page(page)
    hold_output(page, "inspect", file=True)
    dataset, report = read_told(
        arguments.dataset, split=arguments.split, category=arguments.category, crowds=arguments.crowds
    )
    classes = defect_names(dataset)
    bad = unreadable(dataset) if arguments.check_images else {}
    step = next_step(arguments, dataset)
    sections = inspection_sections(dataset, classes, report, arguments.dataset, arguments.image_size, step)
    write_page(page, "What was read", sections, subtitle=f"`{arguments.dataset}`")
    facts = {"dataset": arguments.dataset, "split": arguments.split, **report.as_json()}
    if arguments.check_images:
        facts["unreadable"] = bad
        print(f"{len(bad)} of {report.images} images cannot be decoded{': ' if bad else ''}{', '.join(list(bad)[:5])}")
    write_json(page.with_name(f"{page.name}.json"), facts)
    print(f"look at {page}; the report: {page}.json")
    print(f"next: {step}")


def next_step(arguments: InspectArguments, dataset: Any) -> str:
    """What can be done with these images: maps where no box is known, else a split that leaves some to test on."""
    from agssp.data.labels import crowds_of

    source = {"dataset": arguments.dataset, "split": arguments.split, "category": arguments.category}
    labelled = [] if "objects" not in dataset.features else [row for row in dataset["objects"] if row is not None]
    images: Counter[int] = Counter()
    for row in labelled:
        crowds = crowds_of(row)
        images.update({label for label, crowd in zip(row["category"], crowds, strict=True) if not crowd})
    if not images:
        return maps_command(**source)
    if arguments.crowds != "auto":
        source["crowds"] = arguments.crowds
    few = min(10, min(images.values()) // 2)
    if not few:
        return shell_command("split", **source, fraction=0.5, output="few")
    return shell_command("split", **source, per_class=few, output="few")


def check_page(page: Path) -> None:
    """Raise InputError unless the page may be written: it ends in .html and takes the place of no other file."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {page}: expected the name of a page, such as {page / 'inspection.html'}")
    if page.is_dir() or (page.is_file() and MARK not in page.read_text(encoding="utf-8", errors="replace")):
        raise InputError(f"--output {page}: is there already and is no page of ours; name another file")


def unreadable(dataset) -> dict[str, str]:
    """image_id -> reason, of the images that cannot be decoded."""
    from tqdm import tqdm

    from agssp.data.images import ImageError, decode_image

    bad = {}
    for row in tqdm(dataset.select_columns(["image_id", "image"]), desc="decode", unit="image"):
        try:
            decode_image(row["image"], row["image_id"])
        except ImageError as error:
            bad[row["image_id"]] = str(error)
    return bad
