"""The page about anomaly maps: how well they agree with what is known of the defects, in numbers and in pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agssp.boxes.extraction import resize_map
from agssp.data.images import ImageError, decode_image
from agssp.data.mask_reading import MaskReading
from agssp.data.masks import image_truth
from agssp.evaluation.maps import Compared, Levels
from agssp.maps.store import MapStore

from . import figures
from .page import Code, Picture, Row, Section, Table, Text, write_page
from .pictures import COLOURS, TRUTH, mask_overlay, tile

MEAN, POOLED = "mean over the images", "all pixels together"
FALSE, MISSED = COLOURS[1], COLOURS[0]
SIDE = 300
EACH = 3
MOST_CURVES = 8
LISTED = 50


def write_map_report(
    path: Path,
    metrics: dict[str, Any],
    compared: Sequence[Compared],
    store: MapStore,
    dataset: Any,
    levels: Levels,
    next_step: str,
    reading: MaskReading | None = None,
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        metrics: what `agssp evaluate-maps` writes as metrics.json.
        compared: the images.
        store: the maps.
        dataset: the images and their labels.
        levels: where the maps were cut.
        next_step: the command line that uses what was found.
        reading: how the data set's masks are read.
    """
    sections = [_numbers(metrics), _scores(compared)]
    if metrics["masks"] is not None:
        sections.append(_thresholds(metrics))
        boxes = metrics["masks"] == "boxes"
        examples = example_tiles(compared, store, dataset, levels, boxes_as_mask=boxes, reading=reading)
        if examples:
            sections.append(_examples(examples, metrics["masks"]))
    left = [(entry["image_id"], entry["reason"]) for entry in [*metrics["skipped"], *metrics["without_map"]]]
    if left:
        more = f" Only the first {LISTED} are listed; metrics.json has all." if len(left) > LISTED else ""
        caption = f"{len(left):,} images count in no number.{more}"
        sections.append(Section("Left out", [Table(("image", "reason"), left[:LISTED], caption)]))
    best = metrics["masks"] == "masks" and metrics["mean_iou"]["best_delta"] is not None
    what = "Cut boxes with the delta that met the masks best:" if best else "Cut boxes from these maps:"
    sections.append(Section("Next", [Code(next_step, what)]))
    subtitle = f"{metrics['teacher']} on `{metrics['dataset']}`, rule {metrics['rule']}, delta {metrics['delta']:g}"
    write_page(path, "Anomaly maps", sections, subtitle)


def by_category(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of each category and, where there are several, of all images last."""
    categories = metrics["categories"]
    return dict(categories) if len(categories) == 1 else {**categories, "all images": metrics}


def _numbers(metrics: dict[str, Any]) -> Section:
    counts = ("images", "normal", "defective", "with_masks", "image_auroc", "pixel_auroc")
    rows = by_category(metrics)
    unknown = metrics["images"] - metrics["defective"] - metrics["normal"]
    blocks: list[Any] = [
        f"{metrics['images']:,} images with a map: {metrics['defective']:,} defective, {metrics['normal']:,} normal"
        + (f"; of {unknown:,} nothing is known." if unknown else "."),
        Table(
            ("category", "images", "normal", "defective", "with known pixels", "image AUROC", "pixel AUROC"),
            [(name, *(_cell(row[key]) for key in counts)) for name, row in rows.items()],
            "Area under the ROC curve: how often a defective image, or pixel, scores higher than a normal one. "
            "A dash stands where there are none of one side.",
            strong_row=len(rows) - 1 if len(rows) > 1 else None,
        ),
    ]
    if metrics["mask_reading"] is not None:
        blocks.append(Text(f"Masks are read as {metrics['mask_reading']}.", note=True))
    if metrics["masks"] == "boxes":
        blocks.append(Text("Boxes stand in for masks: all pixels of a box count as defective.", note=True))
    if metrics["masks"] != "masks" and metrics["with_crowds"]:
        text = f"{metrics['with_crowds']} images have crowd regions; which of their pixels are defective is not known."
        blocks.append(Text(text, note=True))
    return Section("Numbers", blocks)


def _scores(compared: Sequence[Compared]) -> Section:
    known = [entry for entry in compared if entry.defective is not None]
    groups = {
        name: [entry.score for entry in known if entry.defective is value]
        for name, value in (("normal", False), ("defective", True))
    }
    histogram = figures.histogram(
        {name: values for name, values in groups.items() if values}, title="Image scores", x_label="anomaly score",
        y_label="images",
    )  # fmt: skip
    return Section("Scores", [Picture(histogram, "Scores of the images that are known to be normal or defective.")])


def _thresholds(metrics: dict[str, Any]) -> Section:
    """Fig. 7: what fixed thresholds reach, what the adaptive rule does, and which delta it takes."""
    parts = {MEAN: metrics["mean_iou"], POOLED: metrics["pooled_iou"]}
    fixed = figures.curves(
        {name: _line(metrics["thresholds"], part["by_threshold"]) for name, part in parts.items()},
        title="Fixed thresholds",
        x_label="threshold in the maps' units",
        y_label="mask IoU",
        levels=_known({name: part["default"] for name, part in parts.items()}),
        limits=(0, None),
    )
    adaptive = figures.curves(
        {name: _line(metrics["deltas"], part["by_delta"]) for name, part in parts.items()},
        title=f"Adaptive threshold, rule {metrics['rule']}",
        x_label="delta",
        y_label="mask IoU",
        levels=_known({name: part["best_threshold_iou"] for name, part in parts.items()}),
        limits=(0, None),
    )
    rows = by_category(metrics)
    header = ("category", "adaptive threshold", "IoU", "best delta", "IoU", "best fixed threshold", "IoU")
    keys = ("default", "best_delta", "best_delta_iou", "best_threshold", "best_threshold_iou")
    blocks: list[Any] = [
        _verdict(metrics),
        Row(
            [
                Picture(fixed, f"Dashed: the adaptive rule at delta {metrics['delta']:g}, a threshold a category."),
                Picture(adaptive, "Dashed: the best of the fixed thresholds, the same for all categories."),
            ]
        ),
    ]
    for title, key in ((MEAN, "mean_iou"), (POOLED, "pooled_iou")):
        table = [
            (name, _cell(row.get("threshold")), *(_cell(row[key][part]) for part in keys)) for name, row in rows.items()
        ]
        caption = f"IoU with the masks, {title}."
        if key == "mean_iou":
            caption += " Only images with a defect in their mask count."
        blocks.append(Table(header, table, caption, strong_row=len(table) - 1 if len(table) > 1 else None))
    measured = {
        name: row["mean_iou"] for name, row in metrics["categories"].items() if row["mean_iou"]["default"] is not None
    }
    if 1 < len(measured) <= MOST_CURVES:
        own = figures.curves(
            {name: _line(metrics["thresholds"], iou["by_threshold"]) for name, iou in measured.items()},
            title="Fixed thresholds, a category at a time",
            x_label="threshold in the maps' units",
            y_label=f"mask IoU, {MEAN}",
            levels={name: iou["default"] for name, iou in measured.items()},
            limits=(0, None),
        )
        blocks.append(Picture(own, f"Dashed: the adaptive rule at delta {metrics['delta']:g} in the same category."))
    return Section("Thresholds", blocks)


def _verdict(metrics: dict[str, Any]) -> str:
    """In words: does the rule, which sees no label, reach the best threshold, which was chosen by the labels?"""
    iou = metrics["mean_iou"]
    if iou["default"] is None:
        return "No image has a defect in its mask, so there is no mean IoU."
    above = iou["default"] > iou["best_threshold_iou"]
    one = (
        " With masks of one category the rule gives one threshold, so it is a fixed one that was chosen without labels."
        if sum(row["mean_iou"]["default"] is not None for row in metrics["categories"].values()) == 1
        else ""
    )
    return (
        f"The adaptive rule at delta {metrics['delta']:g} has a mean IoU of **{iou['default']:.3f}**, and is "
        f"{'above' if above else 'not above'} the best of {len(metrics['thresholds'])} fixed thresholds, "
        f"**{iou['best_threshold_iou']:.3f}** at {iou['best_threshold']:.3g}. The best delta, {iou['best_delta']:g}, "
        f"reaches **{iou['best_delta_iou']:.3f}**. The best threshold and delta were chosen by these very masks.{one}"
    )


def _cell(value: float | None) -> float:
    """A number for a table; what is not known is set as a dash among the numbers."""
    return np.nan if value is None else value


def _line(places: Sequence[float], values: Sequence[float | None]) -> tuple[list[float], list[float]]:
    known = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
    return [place for place, _ in known], [value for _, value in known]


def _known(values: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _examples(examples: tuple[list[list[Any]], list[str]], masks: str) -> Section:
    rows, titles = examples
    labelled = "mask" if masks == "masks" else "boxes"
    sheet = figures.contact_sheet(
        rows,
        row_titles=titles,
        tile_inches=2.5,
        column_titles=("image", "anomaly map", labelled, "above the threshold"),
    )
    text = (
        "The images on which the adaptive threshold meets the masks best, in the middle and worst. Heat is on one "
        "scale within a category. On the right, green is found, orange a false alarm, blue missed."
    )
    return Section("Examples", [text, Picture(sheet)])


def example_tiles(
    compared: Sequence[Compared],
    store: MapStore,
    dataset: Any,
    levels: Levels,
    *,
    boxes_as_mask: bool = False,
    reading: MaskReading | None = None,
    each: int = EACH,
) -> tuple[list[list[Any]], list[str]] | None:
    """Rows of tiles and their titles for the best, the median and the worst images; None if there are none.

    Args:
        compared: the images.
        store: the maps.
        dataset: the images and their labels.
        levels: where the maps were cut.
        boxes_as_mask: whether boxes stand in for masks.
        reading: how the data set's masks are read.
        each: how many of each kind.
    """
    ranked = sorted((entry for entry in compared if not np.isnan(entry.iou)), key=lambda entry: -entry.iou)
    middle = max((len(ranked) - each) // 2, 0)
    kinds = {"best": ranked[:each], "median": ranked[middle : middle + each], "worst": ranked[-each:]}
    # Of a handful of images each is shown once.
    chosen = {entry.image_id: (kind, entry) for kind, entries in kinds.items() for entry in entries}
    maps = {name: store[name].astype(np.float32) for name in chosen}
    index = {name: row for row, name in enumerate(dataset["image_id"]) if name in chosen}
    ranges = {
        category: (
            float(min(maps[name].min() for name, (_, entry) in chosen.items() if entry.category == category)),
            float(max(maps[name].max() for name, (_, entry) in chosen.items() if entry.category == category)),
        )
        for category in {entry.category for _, entry in chosen.values()}
    }
    rows, titles = [], []
    for name, (kind, entry) in sorted(chosen.items(), key=lambda item: -item[1][1].iou):
        row = dataset[index[name]]
        try:
            image = decode_image(row["image"], name)
            size = image.height, image.width
            truth = image_truth(row, size, boxes_as_mask=boxes_as_mask, reading=reading)
        except ImageError:
            continue
        if truth.mask is None:
            continue
        mask = truth.mask
        above = resize_map(maps[name], size) > np.float32(levels.adaptive[entry.category][0])
        if truth.ignored is not None:
            above &= ~truth.ignored
        picture = tile(image, side=SIDE)
        rows.append(
            [
                (picture, name if len(name) < 40 else f"…{name[-38:]}"),
                (tile(image, anomaly_map=maps[name], value_range=ranges[entry.category], side=SIDE), entry.category),
                mask_overlay(picture, {TRUTH: mask}),
                (
                    mask_overlay(picture, {MISSED: mask & ~above, FALSE: above & ~mask, TRUTH: above & mask}),
                    f"IoU {entry.iou:.3f}",
                ),
            ]
        )
        titles.append(kind)
    return (rows, titles) if rows else None
