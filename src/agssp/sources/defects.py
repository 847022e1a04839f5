"""Where an image's defects are, in whatever form a source tells it, as one mask a class and as boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from agssp.data.encoded import open_encoded, storage_faults_told
from agssp.data.images import ImageError, open_image
from agssp.data.mask_reading import MaskReading
from agssp.data.masks import decode_mask
from agssp.data.readers.records import Box
from agssp.data.run_lengths import checked_polygons, checked_runs
from agssp.errors import InputError
from agssp.sources.file_sizes import file_bytes
from agssp.sources.outlines import as_polygons


@dataclass(frozen=True)
class MaskFile:
    """A picture of the defects: all that it shows is of one class, or each value is a class of its own.

    Attributes:
        path: the picture.
        defect_type: the class of all its defects; unused where `values` is given.
        values: pixel value -> class; other values are background.
        reading: how the masks of its source are read where `values` is empty; None: this one by itself.
    """

    path: Path
    defect_type: str
    values: tuple[tuple[int, str], ...] = ()
    reading: MaskReading | None = None

    def read(self, size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
        """Bool masks (H, W) with their classes; `size` is (H, W) px of the image.

        Raises:
            ImageError: it cannot be read, or is of another size.
        """
        name = self.name
        if not self.values:
            masks = [(self.defect_type, decode_mask(self.path, name, self.reading))]
        else:
            numbers = _pixel_values(self.path, name)
            masks = [(defect_type, numbers == value) for value, defect_type in self.values]
        height, width = masks[0][1].shape
        if (height, width) != size:
            raise ImageError(f"{name}: is {width} x {height} px, its image {size[1]} x {size[0]}")
        return masks

    @property
    def name(self) -> str:
        """How errors name it."""
        return f"mask {self.path.name}"

    def describe(self) -> str:
        """What decides the result, wherever the files lie."""
        return f"{self.path.name} {file_bytes(self.path)} {self.defect_type} {self.values}"


@dataclass(frozen=True)
class MaskRuns:
    """Run lengths as in Severstal's train.csv: `start length start length ...`, from 1 on, down the columns."""

    text: str
    defect_type: str
    where: str

    def read(self, size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
        """The bool mask (H, W) with its class.

        Raises:
            ImageError: the runs reach beyond the image.
        """
        height, width = size
        flat = np.zeros(height * width, bool)
        for start, length in parse_runs(self.text, self.where):
            if start + length > flat.size:
                raise ImageError(f"{self.where}: a run reaches beyond the image of {width} x {height} px")
            flat[start : start + length] = True
        return [(self.defect_type, flat.reshape(width, height).T)]

    def describe(self) -> str:
        """What decides the result."""
        return f"{self.defect_type} {self.text}"


@dataclass(frozen=True)
class MaskShape:
    """An outline in COCO's form: polygons `[[x, y, x, y, ...], ...]` in px, or `{"size", "counts"}`."""

    segmentation: Any
    defect_type: str
    where: str

    def read(self, size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
        """The bool mask (H, W) with its class.

        Raises:
            ImageError: it is no outline of an image of this size.
        """
        from faster_coco_eval.core import mask as coco_mask

        height, width = size
        outline = self.segmentation
        try:
            if isinstance(outline, dict):
                checked = checked_runs(outline)
                runs = coco_mask.frPyObjects(checked, *checked["size"])
            else:
                polygons = checked_polygons(as_polygons(outline), size)
                runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
            mask = coco_mask.decode(runs).astype(bool)
        except Exception as error:  # the decoder raises any kind on what is no outline
            raise ImageError(
                f"{self.where}: expected polygons or run lengths, got {str(outline)[:60]}: {error}"
            ) from error
        if mask.shape != size:
            raise ImageError(f"{self.where}: its mask is {mask.shape[1]} x {mask.shape[0]} px, not {width} x {height}")
        return [(self.defect_type, mask)]

    def describe(self) -> str:
        """What decides the result."""
        return f"{self.defect_type} {self.segmentation}"


Mask = MaskFile | MaskRuns | MaskShape


def parse_runs(text: str, where: str) -> list[tuple[int, int]]:
    """Start (from 0 on) and length of each run.

    Raises:
        InputError: it is no list of pairs of positive numbers.
    """
    try:
        numbers = [int(word) for word in text.split()]
    except ValueError as error:
        raise InputError(f"{where}: expected run lengths `start length start length ...`, got {text[:60]!r}") from error
    if len(numbers) % 2 or any(number < 1 for number in numbers):
        raise InputError(f"{where}: expected pairs of start (from 1 on) and length (from 1 on), got {text[:60]!r}")
    return [(start - 1, length) for start, length in zip(numbers[::2], numbers[1::2], strict=True)]


def read_masks(masks: Sequence[Mask], size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    """Bool masks (H, W) of an image, with their classes; `size` is its (H, W) px.

    Raises:
        ImageError: one cannot be read, or does not fit the image.
    """
    return [part for mask in masks for part in mask.read(size)]


def boxes_of_masks(masks: Sequence[tuple[str, np.ndarray]], smallest: int) -> list[Box]:
    """A box around each defect: the tight rectangle of every 8-connected component, class by class.

    Args:
        masks: bool (H, W) with their classes; those of one class are put together first.
        smallest: components of fewer px are noise, and get no box.
    """
    united: dict[str, np.ndarray] = {}
    for defect_type, mask in masks:
        united[defect_type] = united[defect_type] | mask if defect_type in united else mask
    boxes = []
    for defect_type, mask in united.items():
        _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        for left, top, width, height, area in statistics[1:].tolist():
            if area >= smallest:
                boxes.append(Box((left, top, width, height), defect_type))
    return boxes


def _pixel_values(path: Path, name: str) -> np.ndarray:
    """The numbers stored in a grey or palette picture (H, W), palettes not looked up."""
    with open_encoded(path, name) as file, storage_faults_told(name, file):
        return _stored_numbers(file, name)


def _stored_numbers(file: BinaryIO, name: str) -> np.ndarray:
    try:
        with open_image(file, name) as picture:
            return np.asarray(picture if picture.mode in ("L", "P", "I;16", "I") else picture.convert("L"))
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise any kind on a damaged file
        raise ImageError(f"{name}: cannot be read: {error}") from error
