"""A small detector that really finds bright squares, and images of them."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from agssp.models.detection import YoloConfig, YoloForObjectDetection

CLASSES = ("light", "dark")


@lru_cache
def detector() -> YoloForObjectDetection:
    """YOLOv8n with random weights and class biases that let some boxes through."""
    torch.manual_seed(0)
    model = YoloForObjectDetection(YoloConfig(id2label=dict(enumerate(CLASSES)), image_size=64))
    with torch.no_grad():
        for branch in model.head.cv3:
            branch[-1].weight.normal_(0, 0.3)
            branch[-1].bias.normal_(-2, 1)
    return model.eval()


def save_detector(folder: Path) -> str:
    """The detector's folder."""
    detector().save_pretrained(folder)
    return str(folder)


def make_images(folder: Path, count: int = 5, labelled: bool = True, seed: int = 0) -> str:
    """An image folder with metadata.jsonl; every image holds one light and one dark square, the last one none."""
    generator = np.random.default_rng(seed)
    (folder / "plate").mkdir(parents=True)
    lines = []
    for index in range(count):
        image = generator.integers(100, 150, (50 + 6 * index, 80, 3), dtype=np.uint8)
        boxes = []
        for value in (255, 0) if index < count - 1 else ():
            left, top = (int(x) for x in generator.integers(0, 30, 2))
            image[top : top + 15, left : left + 18] = value
            boxes.append([left, top, 18, 15])
        Image.fromarray(image).save(folder / "plate" / f"{index}.png")
        objects = {"bbox": boxes, "category": list(CLASSES[: len(boxes)])}
        lines.append(json.dumps({"file_name": f"plate/{index}.png", "category": "plate", "objects": objects}))
    if labelled:
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)
