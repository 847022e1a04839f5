"""Read a data set for a command: what was found is told, and labels that are missing or lost are errors."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from agssp.data.image_notes import EXAMPLES
from agssp.data.images import ImageError, image_frame
from agssp.data.labels import with_known_boxes
from agssp.data.mosaic import MIN_SIDE
from agssp.data.readers import ReadReport, read_dataset
from agssp.data.readers.columns import with_column
from agssp.data.readers.listing import Listing
from agssp.data.readers.unread import what_lies_there
from agssp.data.schema import objects_feature
from agssp.data.source_names import source_name
from agssp.errors import InputError
from agssp.files import write_text
from agssp.parsing import read_json

logger = logging.getLogger(__name__)

EXPECTED = (
    "expected COCO .json, YOLO label files with a data.yaml, Pascal VOC or CVAT XML, labelme or Label Studio JSON, a "
    "metadata.jsonl with `objects`, or a table with a column `objects`"
)
OF_MASKS = "write boxes around their parts (cv2.connectedComponentsWithStats) as `objects` into a metadata.jsonl"
SMALL = (int(MIN_SIDE), 4, 8)
"""Shorter sides in px at the input size under which boxes are counted; training drops those of the first, or less."""


def read_told(source: Any, flag: str = "--dataset", **options: Any) -> tuple[Any, ReadReport]:
    """Read a data set, and log what was found, changed and left out.

    Args:
        source: as `read_dataset` takes it.
        flag: that named the data set, for messages.
        options: of `read_dataset`.

    Returns:
        The data set, and the report; for a stream it grows with the rows that are read.

    Raises:
        InputError: as `read_dataset`; the flag is named.
    """
    report = ReadReport()
    try:
        dataset = read_dataset(source, report=report, **options)
    except InputError as error:
        # A fault of the machine stays one.
        raise (error if flag == "--dataset" else type(error)(f"{flag} {error}")) from error
    if not report.streamed:
        tell(report, source_name(source))
    return dataset, report


def tell(report: ReadReport, source: str) -> None:
    """Log a report as information; a command prints it, on the first process alone."""
    for line in (*report.summary(), *report.lines()):
        logger.info("%s: %s", source, line)


def keep_reading(path: Path, report: ReadReport) -> None:
    """Write a report as JSON beside a command's results.

    What was noticed in images that earlier runs of the same command decoded, which need not be decoded again, is kept:
    it is taken from the file that is there.

    Args:
        path: of the file.
        report: of this run.
    """
    facts = report.as_json()
    before = read_json(path, remedy="remove it") if path.is_file() else {}
    for kind, noted in before.get("image_notes", {}).items():
        now = facts["image_notes"].setdefault(kind, {"count": 0, "examples": []})
        now["count"] += noted["count"]
        now["examples"] = sorted({*noted["examples"], *now["examples"]})[:EXAMPLES]
    content = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    write_text(path, content)


def read_labelled(
    source: Any,
    flag: str = "--dataset",
    *,
    boxes_needed: bool = True,
    image_size: int | None = None,
    **options: Any,
) -> tuple[Dataset, ReadReport]:
    """Read a data set for what needs labels.

    Args:
        source: as `read_dataset` takes it.
        flag: that named the data set, for messages.
        boxes_needed: whether images known to be sound are not enough, as where a detector is to learn.
        image_size: side in px of the input that the boxes will be learned at; what is too small for it is told.
        options: of `read_dataset`.

    Returns:
        The rows of which the boxes are known, be there none; and the report, of all rows.

    Raises:
        InputError: nothing is known of any image, or no box is left; the message says which files of labels lie there
            and how to give them. Or all boxes are too small for the input size.
    """
    dataset, report = read_told(source, flag, **options)
    source = source_name(source)
    dataset = with_sound_images(dataset, options.get("defect_types") or [])
    known = report.images - report.unknown
    if "objects" not in dataset.features or not known or (boxes_needed and not report.with_boxes):
        what = "no label was found for any of its" if not known else "no box is left on any of its"
        raise InputError(f"{flag} {source}: {what} {report.images} images{_instead(source, report)}")
    if image_size is not None and report.with_boxes:
        tell_small_boxes(report.shares, image_size, source)
    return with_known_boxes(dataset, source if flag == "--dataset" else f"{flag} {source}"), report


def with_sound_images(dataset: Any, defect_types: Sequence[str]) -> Any:
    """A data set without labels whose images are said to be sound, with the labels that this amounts to: no boxes."""
    if "objects" in dataset.features or not any(dataset["is_normal"]):
        return dataset
    empty: dict[str, list[Any]] = {name: [] for name in objects_feature([])}
    return with_column(
        dataset,
        "objects",
        objects_feature(defect_types),
        ["is_normal"],
        lambda row: empty if row["is_normal"] else None,
    )


def _instead(source: str, report: ReadReport) -> str:
    """What a user who expected labels can do: which files lie there, and what happened to labels that were there."""
    lost = [line for line in report.lines() if "dropped" in line or "left out" in line or "not read" in line]
    path = Path(source)
    there = what_lies_there(Listing(path)) if path.is_dir() else ""
    masks = f"{report.with_mask} images have masks, which are no boxes: {OF_MASKS}" if report.with_mask else ""
    parts = [part for part in (*lost, masks, there) if part]
    return f"; {'; '.join(parts or [EXPECTED])}"


def small_boxes(shares: Mapping[str, Sequence[float]], image_size: int) -> dict[str, dict[str, int]]:
    """How many boxes of each class are how small at an input size.

    Args:
        shares: of each class the shorter side of each box as a share of its image's longer side.
        image_size: side of the square input in px, into which images are fitted.

    Returns:
        Class -> {"boxes", "under 2 px", "under 4 px", "under 8 px"}.
    """
    table = {}
    for name, values in shares.items():
        sides = np.asarray(values, np.float64) * image_size
        # The first as training has it, which keeps what is over its smallest side.
        counts = (sides <= SMALL[0], sides < SMALL[1], sides < SMALL[2])
        under = {f"under {limit} px": int(count.sum()) for limit, count in zip(SMALL, counts, strict=True)}
        table[name] = {"boxes": len(sides)} | under
    return table


def tell_small_boxes(shares: Mapping[str, Sequence[float]], image_size: int, source: str) -> None:
    """Log which boxes are small at an input size.

    Args:
        shares: see `small_boxes`.
        image_size: see there.
        source: names the data set.

    Raises:
        InputError: training would drop every box.
    """
    table = small_boxes(shares, image_size)
    lost, _, least = (sum(row[f"under {limit} px"] for row in table.values()) for limit in SMALL)
    boxes = sum(row["boxes"] for row in table.values())
    if boxes and lost == boxes:
        largest = max(max(values, default=0) for values in shares.values())
        raise InputError(
            f"--image-size {image_size}: all {boxes} boxes of {source} have a side of {SMALL[0]} px or less at that "
            f"size, which training drops; one alone needs {math.floor(MIN_SIDE / largest) + 1} px or more"
        )
    if not least:
        return
    lines = [f"{source}: small boxes at --image-size {image_size} (training drops those of {SMALL[0]} px or less):"]
    for name, row in table.items():
        if row[f"under {SMALL[-1]} px"]:
            counts = ", ".join(f"{row[f'under {limit} px']} under {limit} px" for limit in SMALL)
            lines.append(f"  {name}: of {row['boxes']} boxes {counts}")
    for line in lines:
        logger.info("%s", line)


def box_shares(dataset: Dataset, boxes: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """The shorter side of each pseudo box as a share of its image's longer side.

    Args:
        dataset: rows of the schema.
        boxes: by image id, COCO xywh px (n, 4) and scores (n,).

    Returns:
        One value a box; those of images that cannot be opened are left out.
    """
    shares = []
    for row in dataset.select_columns(["image_id", "image"]):
        bbox = boxes[row["image_id"]][0] if row["image_id"] in boxes else ()
        if len(bbox):
            try:
                size, _ = image_frame(row["image"], row["image_id"])
            except ImageError:
                continue
            shares += [min(w, h) / max(size) for _, _, w, h in np.asarray(bbox, np.float64).tolist()]
    return shares
