"""supervision: COCO and YOLO as in Roboflow's folders, with masks; Pascal VOC beside the images; CreateML."""

import os
from pathlib import Path

import numpy as np
from exports.common import BOXES, CLASSES, SMALL, keep, keep_refused, pictures, xywh
from supervision import DetectionDataset, Detections, mask_to_xyxy

TOOL = "supervision-0.31.2"


def masks() -> Detections:
    """One object in one piece, and one in two, which supervision marks as a crowd."""
    pixels = np.zeros((2, 60, 80), bool)
    pixels[0, 10:20, 30:45] = pixels[1, 40:50, 5:20] = pixels[1, 40:50, 25:35] = True
    return Detections(xyxy=mask_to_xyxy(pixels), mask=pixels, class_id=np.array([0, 1]))


def data(files: list[str], *, with_masks: bool) -> DetectionDataset:
    found = {}
    for file in files:
        boxes = BOXES[Path(file).name]
        found[file] = Detections.empty()
        if boxes:
            corners = np.array([box for _, box in boxes], np.float32)
            found[file] = Detections(xyxy=corners, class_id=np.array([CLASSES.index(label) for label, _ in boxes]))
        if with_masks and file.endswith(SMALL):
            found[file] = masks()
    return DetectionDataset(classes=CLASSES, images=files, annotations=found)


def split_of(folder: str, dataset: DetectionDataset) -> dict:
    images = {}
    for path, image, found in dataset:
        labels = [dataset.classes[label] for label in found.class_id] if len(found) else []
        crowds = found.data.get("iscrowd", [0] * len(found))
        objects = list(zip(labels, map(xywh, found.xyxy), crowds, strict=True))
        images[os.path.relpath(path, folder)] = (image.shape[1], image.shape[0], objects)
    return {"train": images}


def write() -> None:
    files = pictures(Path("in"))
    boxes, mixed = data(files, with_masks=False), data(files, with_masks=True)

    name = f"{TOOL}-coco"
    places = (f"{name}/train", f"{name}/train/_annotations.coco.json")
    mixed.as_coco(*places)
    splits = split_of(name, DetectionDataset.from_coco(*places))
    keep(name, "DetectionDataset.from_coco", splits, because="numbers are written in full")

    name = f"{TOOL}-yolo"
    places = (f"{name}/train/images", f"{name}/train/labels", f"{name}/data.yaml")
    mixed.as_yolo(*places)
    splits = {"": split_of(name, DetectionDataset.from_yolo(*places))["train"]}  # its data.yaml names no split
    keep(name, "DetectionDataset.from_yolo", splits, tolerance=0.02, because="fractions of 5 digits")

    name = f"{TOOL}-voc"
    places = (f"{name}/train", f"{name}/train")
    boxes.as_pascal_voc(*places)
    splits = split_of(name, DetectionDataset.from_pascal_voc(*places))
    because = "its least pixel is 1, which Pascal VOC has no field to say: a reader that counts from 0 is off by 1 px"
    keep(name, "DetectionDataset.from_pascal_voc", splits, tolerance=1.01, because=because)

    name = f"{TOOL}-createml"
    boxes.as_createml(name, f"{name}/_annotations.createml.json")
    keep_refused(name, "_annotations.createml.json")
