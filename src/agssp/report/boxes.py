"""The page about pseudo boxes: what was found, on how many images, and what it looks like."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from agssp.data.images import ImageError, decode_image
from agssp.data.readers import read_dataset
from agssp.errors import InputError, StorageError
from agssp.maps.store import MapStore
from agssp.report.figures import contact_sheet, histogram
from agssp.report.page import Picture, Row, Section, Table, write_page
from agssp.report.pictures import tile


def write_box_report(
    path: Path, store: MapStore, rows: Iterable[dict[str, Any]], facts: dict[str, Any], dataset: str | None = None
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        store: the maps.
        rows: the boxes, columns of `box_features`; gone through several times.
        facts: what thresholds.json holds.
        dataset: where the images are; default: what the store says.
    """
    numbers, in_category = array("i"), Counter[str]()
    shares, highest = array("d"), array("d")
    for row in rows:
        objects, area = row["objects"], row["width"] * row["height"]
        numbers.append(len(objects["bbox"]))
        in_category[store.categories[row["category"]]] += len(objects["bbox"])
        highest.extend(objects["score"])
        shares.extend(bbox[2] * bbox[3] / area for bbox in objects["bbox"])
    counts, share, scores = (np.array(values) for values in (numbers, shares, highest))
    per_category = [
        [
            name,
            entry["images"],
            entry["mean_max"],
            entry["median"],
            entry["threshold"],
            in_category[name],
        ]
        for name, entry in facts["categories"].items()
    ]
    normal = (
        f"{facts['normal_images_with_boxes']} of {facts['normal_images']} images known to be normal got boxes."
        if facts["normal_images"]
        else "No image is known to be normal, so false boxes cannot be counted."
    )
    sections = [
        Section(
            "What was found",
            [
                f"{facts['boxes']} boxes on {facts['images_with_boxes']} of {facts['images']} images. {normal}",
                Table(["category", "images", "mean of maxima", "median", "threshold", "boxes"], per_category),
                Row(
                    [
                        Picture(histogram(counts, title="Boxes an image", x_label="boxes", bins="integers")),
                        Picture(histogram(share, title="Size", x_label="share of the image's area", log_x=True)),
                        Picture(histogram(scores, title="Score", x_label="largest map value in the box")),
                    ]
                ),
            ],
        )
    ]
    sheet = example_tiles(store, rows, dataset)
    if sheet:
        sections.append(
            Section(
                "Examples",
                [
                    "Image, anomaly map and boxes; heat is on one scale within a category. Images are drawn at random.",
                    Picture(contact_sheet(sheet, column_titles=["image", "map", "boxes"] * 2)),
                ],
            )
        )
    write_page(
        path,
        "Pseudo-defect boxes",
        sections,
        subtitle=f"{facts['teacher']}, rule {facts['rule']}, delta {facts['delta']:g}",
    )


def example_tiles(
    store: MapStore, rows: Iterable[dict[str, Any]], dataset: str | None, *, examples: int = 12, seed: int = 0
) -> list[list[Any]]:
    """Rows of tiles for random images of every category; empty if the images are not at hand."""
    source = store.manifest.get("source", {})
    place = dataset or source.get("dataset")
    if not place:
        return []
    try:
        images = read_dataset(place, split=source.get("split"), category=source.get("category"))
    except StorageError:
        raise
    except InputError:
        return []
    index = {image_id: position for position, image_id in enumerate(images["image_id"])}
    generator = np.random.default_rng(seed)
    triples = []
    places: dict[int, array[int]] = defaultdict(lambda: array("q"))
    for number, row in enumerate(rows):
        places[row["category"]].extend([number] if row["image_id"] in index else [])
    drawn = {
        category: [numbers[i] for i in generator.permutation(len(numbers))[: max(2, examples // len(places))]]
        for category, numbers in sorted(places.items())
    }
    wanted = {number for numbers in drawn.values() for number in numbers}
    members = {number: row for number, row in enumerate(rows) if number in wanted}
    for category, chosen in drawn.items():
        maps = {i: store[members[i]["image_id"]].astype(np.float32) for i in chosen}
        if not maps:
            continue
        low, high = min(m.min() for m in maps.values()), max(m.max() for m in maps.values())
        for i, anomaly_map in maps.items():
            row = members[i]
            try:
                image = decode_image(images[index[row["image_id"]]]["image"], row["image_id"])
            except ImageError:
                continue
            corners = np.array(row["objects"]["bbox"], np.float32).reshape(-1, 4)
            corners[:, 2:] += corners[:, :2]
            name = store.categories[category]
            triples.append(
                [
                    (tile(image, side=240), name),
                    tile(image, anomaly_map=anomaly_map, value_range=(float(low), float(high)), side=240),
                    tile(image, boxes=corners, scores=np.array(row["objects"]["score"]), side=240),
                ]
            )
    return [[*triples[i], *(triples[i + 1] if i + 1 < len(triples) else [None] * 3)] for i in range(0, len(triples), 2)]
