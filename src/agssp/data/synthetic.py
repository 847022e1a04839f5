"""Synthetic metal surfaces with scratches, pits and inclusions: for the quickstart and for trying things out.

Nothing measured on these pictures says how good a detector is on a real line. They are made so that every step of the
chain has something to find, with boxes and masks that are exact because the defects were drawn.
"""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from agssp.data.origin import DATASET_FILE
from agssp.files import remove_leftovers, whole_file, write_json

DEFECT_TYPES = ("inclusion", "pit", "scratch")


def make_surfaces(
    output: str | Path, *, unlabelled: int = 240, labelled: int = 90, normal: int = 8, seed: int = 0, size: int = 256
) -> Path:
    """Write synthetic images of three metal surfaces.

    Args:
        output: folder; gets `unlabelled/<category>/{normal,unlabelled}/*.png`, and `labelled/<category>/*.png` with
            `labelled/masks/` and `labelled/metadata.jsonl` (boxes in COCO xywh px), and `dataset.json`, which says
            that they are synthetic.
        unlabelled: images without labels, over all categories; three quarters of them have defects.
        labelled: images with boxes and masks, over all categories; each has at least one defect.
        normal: images known to be sound, in each category.
        seed: of everything; the same numbers give the same bytes.
        size: side of the square images in px.

    Returns:
        The folder.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    # Whatever is trained on these images says so in its record and on its card.
    about = {"name": "synthetic-surfaces", "title": "Synthetic metal surfaces", "synthetic": True}
    remove_leftovers(output)
    write_json(output / DATASET_FILE, about)
    names = sorted(SURFACES)
    for part, count in (("normal", normal * len(names)), ("unlabelled", unlabelled)):
        for index in range(count):
            category = names[index % len(names)]
            generator = np.random.default_rng((seed, ("normal", "unlabelled").index(part), index))
            image = SURFACES[category](size, generator)
            if part == "unlabelled" and index % 4:
                image, _ = add_defects(image, generator)
            _write(output, output / "unlabelled" / category / part / f"{index:05d}.png", image)
    rows = []
    for index in range(labelled):
        category = names[index % len(names)]
        generator = np.random.default_rng((seed, 2, index))
        # Every type comes first in turn, so that a few images a class can always be found.
        image, masks = add_defects(SURFACES[category](size, generator), generator, first=index // len(names))
        name, mask_name = f"{category}/{index:05d}.png", f"masks/{index:05d}.png"
        _write(output, output / "labelled" / name, image)
        mask = np.any([mask for _, mask in masks], axis=0)
        _write(output, output / "labelled" / mask_name, mask.astype(np.uint8) * 255)
        boxes = [[*map(int, cv2.boundingRect(mask.astype(np.uint8)))] for _, mask in masks]
        objects = {"bbox": boxes, "category": [kind for kind, _ in masks]}
        rows.append({"file_name": name, "category": category, "mask_file_name": mask_name, "objects": objects})
    with whole_file(output / "labelled" / "metadata.jsonl", parts=output) as lines:
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return output


def brushed_steel(size: int, generator: np.random.Generator) -> np.ndarray:
    """Bright steel with fine horizontal brush marks; uint8 (size, size)."""
    noise = generator.normal(0, 1, (size, size))
    lines = cv2.GaussianBlur(noise, (0, 0), sigmaX=size / 8, sigmaY=0.6)
    surface = 165 + 14 * lines / lines.std() + 3 * noise
    return _finish(surface + _light(size, generator, 22))


def cast_iron(size: int, generator: np.random.Generator) -> np.ndarray:
    """Dark, coarse-grained casting; uint8 (size, size)."""
    grain = sum(
        weight * _unit(cv2.GaussianBlur(generator.normal(0, 1, (size, size)), (0, 0), sigma))
        for sigma, weight in ((1.0, 7.0), (2.5, 6.0), (6.0, 4.0))
    )
    return _finish(92 + grain + _light(size, generator, 16))


def rolled_strip(size: int, generator: np.random.Generator) -> np.ndarray:
    """Hot-rolled strip with soft vertical bands and scale; uint8 (size, size)."""
    bands = _unit(cv2.GaussianBlur(generator.normal(0, 1, (1, size)), (0, 0), size / 24)) * np.ones((size, 1))
    scale = _unit(cv2.GaussianBlur(generator.normal(0, 1, (size, size)), (0, 0), sigmaX=1.2, sigmaY=5))
    return _finish(128 + 9 * bands + 7 * scale + generator.normal(0, 2.5, (size, size)) + _light(size, generator, 20))


SURFACES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "brushed_steel": brushed_steel,
    "cast_iron": cast_iron,
    "rolled_strip": rolled_strip,
}
"""Category -> how its sound surface is drawn."""


def add_defects(
    image: np.ndarray, generator: np.random.Generator, *, first: int | None = None
) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Draw one to three defects that do not touch.

    Args:
        image: uint8 (H, W) sound surface.
        generator: all randomness.
        first: type of the first defect, counted through `DEFECT_TYPES`; default: any.

    Returns:
        The image with defects, and for each its type and its mask, bool (H, W).
    """
    surface = image.astype(np.float32)
    taken = np.zeros(image.shape, bool)
    defects: list[tuple[str, np.ndarray]] = []
    wanted = int(generator.integers(1, 4))
    for _ in range(4 * wanted):
        kind = DEFECT_TYPES[(first if first is not None and not defects else int(generator.integers(3))) % 3]
        alpha, change = _DRAW[kind](image.shape[0], generator)
        mask = alpha > 0.25
        near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
        if mask.sum() < 12 or (near & taken).any():
            continue
        surface += alpha * change
        taken |= near
        defects.append((kind, mask))
        if len(defects) == wanted:
            break
    return np.clip(np.rint(surface), 0, 255).astype(np.uint8), defects


def _scratch(size: int, generator: np.random.Generator) -> tuple[np.ndarray, np.float32]:
    """A thin, slightly bent line: bright where metal shows, or dark."""
    length, angle = generator.uniform(0.18, 0.6) * size, generator.uniform(0, np.pi)
    middle = generator.uniform(0.2, 0.8, 2) * size
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    steps, bend = np.linspace(-1, 1, 24), generator.uniform(-0.12, 0.12) * length
    points = middle + np.outer(steps * length / 2, along) + np.outer(bend * (1 - steps**2), across)
    drawn = np.zeros((size, size), np.uint8)
    thickness = max(1, round(size * generator.uniform(0.006, 0.016)))
    cv2.polylines(drawn, [np.rint(points * 8).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 3)
    alpha = cv2.GaussianBlur(drawn.astype(np.float32) / 255, (0, 0), 0.6)
    return alpha, np.float32(generator.choice([-1, 1]) * generator.uniform(30, 80))


def _pit(size: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A round dark hole with a lit rim."""
    radius = size * generator.uniform(0.018, 0.05)
    x, y = generator.uniform(0.1, 0.9, 2) * size
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    squeeze = generator.uniform(0.75, 1.3)
    distance = np.hypot((columns - x) * squeeze, (rows - y) / squeeze) / radius
    alpha = np.clip(1.25 - distance, 0, 1).astype(np.float32)
    lit = np.clip(((columns - x) + (rows - y)) / (2 * radius), 0, 1)
    return alpha, (-generator.uniform(40, 85) + 60 * lit).astype(np.float32)


def _inclusion(size: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An irregular stretched blot with its own texture."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    x, y = generator.uniform(0.15, 0.85, 2) * size
    angle, long = generator.uniform(0, np.pi), size * generator.uniform(0.06, 0.15)
    u = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    v = -(columns - x) * np.sin(angle) + (rows - y) * np.cos(angle)
    wobble = _unit(cv2.GaussianBlur(generator.normal(0, 1, (size, size)), (0, 0), size / 40))
    distance = np.hypot(u / long, v / (long * generator.uniform(0.3, 0.6))) + 0.22 * wobble
    alpha = np.clip((1.05 - distance) * 4, 0, 1).astype(np.float32)
    # The wobble may cut islands off; one defect is one piece.
    count, pieces, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.25).astype(np.uint8))
    if count > 1:
        alpha *= pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    texture = _unit(cv2.GaussianBlur(generator.normal(0, 1, (size, size)), (0, 0), 1.2))
    return alpha, (generator.choice([-1.0, -1.0, 1.0]) * generator.uniform(25, 60) + 9 * texture).astype(np.float32)


_DRAW = {"scratch": _scratch, "pit": _pit, "inclusion": _inclusion}


def _light(size: int, generator: np.random.Generator, strength: float) -> np.ndarray:
    """Uneven illumination: a slope across the image."""
    angle = generator.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size)
    return strength * (np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]) + generator.normal(0, strength / 4)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def _finish(surface: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(surface), 0, 255).astype(np.uint8)


def _write(output: Path, path: Path, image: np.ndarray) -> None:
    with whole_file(path, parts=output, durable=False) as part:
        # By Python, which says why a file cannot be written.
        part.write_bytes(cv2.imencode(".png", image)[1].tobytes())
