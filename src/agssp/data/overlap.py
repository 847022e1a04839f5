"""Find pictures that two data sets share, also when one copy was turned, mirrored, resized, re-compressed or cropped.

Factory surfaces look alike: two plates with one dark edge agree to 0.99 in plain correlation. What tells one photograph
from another is its grain, so everything here is compared after local contrast normalisation, where each place counts
the same however strong its contrast. Small thumbnails in all orientations find candidates in one matrix product;
larger ones, aligned to a fraction of a pixel, decide.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from agssp.data.picture_alignment import ORIENTATIONS, SIDE, Alignment, align, local_contrast, oriented

COARSE = 16
"""Side in px of the thumbnails that find candidates."""
# A share of the side, and where the part lies. With coarse cells of a 16th these reach crops to about 0.88.
CROPS = ((1.0, 0.5, 0.5), (0.93, 0.5, 0.5), (0.93, 0.0, 0.0), (0.93, 1.0, 0.0), (0.93, 0.0, 1.0), (0.93, 1.0, 1.0))
CANDIDATES = 3
LEAST_COARSE = 0.3
"""True pairs score higher than this at the coarse size unless most of a picture is clipped to white or black."""
THRESHOLD = 0.62
"""Similarity from which two images are called near duplicates; other photographs of one line stay below 0.6."""
COPIES = 8
"""Of the copies of one validation image so many are named beside an image that is near to it."""
_CHUNK = 256


@dataclass(frozen=True)
class Look:
    """What is kept of an image.

    Attributes:
        image_id: its id.
        size: (width, height) in px.
        pixels: hash of its upright RGB pixels; equal for lossless copies in any file format.
        thumbnail: grey uint8 (SIDE, SIDE).
    """

    image_id: str
    size: tuple[int, int]
    pixels: str
    thumbnail: np.ndarray

    @property
    def is_flat(self) -> bool:
        """Whether nothing is seen on it, so that it can be compared pixel by pixel alone."""
        return not signature(self.thumbnail).any()

    @classmethod
    def of(cls, image_id: str, image: Image.Image) -> "Look":
        """Look at an upright RGB image."""
        digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
        grey = np.asarray(image.convert("L"))
        # Averaging of areas is right for making smaller and cubic for making larger; a picture may need one a side.
        for axis, side in enumerate(grey.shape):
            way = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
            target = (grey.shape[1], SIDE) if axis == 0 else (SIDE, grey.shape[0])
            grey = cv2.resize(grey, target, interpolation=way)
        return cls(image_id, image.size, digest, grey)


@dataclass(frozen=True)
class Pair:
    """An image of the corpus and one of the validation set that show the same.

    Attributes:
        corpus_id: of the corpus' image.
        validation_id: of the validation image.
        kind: `exact` for the same pixels, else `near`.
        similarity: correlation of the aligned pictures after local contrast normalisation, -1 to 1.
        transformation: what was done to the validation image to get the corpus' image, in words.
        orientation: index into `ORIENTATIONS` of the validation image that lies as the corpus' image does.
    """

    corpus_id: str
    validation_id: str
    kind: str
    similarity: float
    transformation: str
    orientation: int


def signature(thumbnail: np.ndarray) -> np.ndarray:
    """The small picture that finds candidates, as a unit vector float32 (COARSE * COARSE,); zeros for a flat image."""
    small = cv2.resize(thumbnail, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    values = local_contrast(small, 2).ravel()
    values -= values.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm > 1e-3 and np.ptp(small) > 1 else np.zeros_like(values)


def cropped(thumbnail: np.ndarray, crop: tuple[float, float, float]) -> np.ndarray:
    """A part of a thumbnail at the size of the whole."""
    if crop[0] == 1:
        return thumbnail
    return cv2.warpAffine(
        thumbnail, _crop_matrix(crop), thumbnail.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


class Gallery:
    """The validation images, ready to be compared with any number of others.

    Takes 80 kB a picture: its thumbnail, and signatures in 8 orientations of 6 crops. Images with the same pixels, as
    blank frames are, count as one picture, of which more copies are a name each.

    Args:
        looks: the validation images; gone through once.

    Attributes:
        looks: the first image of each picture.
        copies: ids of all images of each picture.
        by_pixels: row of each picture, by the hash of its pixels.
    """

    def __init__(self, looks: Iterable[Look]) -> None:
        self.looks: list[Look] = []
        self.copies: list[list[str]] = []
        self.by_pixels: dict[str, int] = {}
        for look in looks:
            row = self.by_pixels.setdefault(look.pixels, len(self.looks))
            if row == len(self.looks):
                self.looks.append(look)
                self.copies.append([])
            self.copies[row].append(look.image_id)
        self.queries = np.empty((len(self.looks), len(CROPS), len(ORIENTATIONS), COARSE**2), np.float32)
        for row, look in enumerate(self.looks):
            for turn in range(len(ORIENTATIONS)):
                turned = oriented(look.thumbnail, turn)
                for index, crop in enumerate(CROPS):
                    self.queries[row, index, turn] = signature(cropped(turned, crop))

    def scores(self, looks: Sequence[Look]) -> tuple[np.ndarray, np.ndarray]:
        """Coarse similarity of images with all validation pictures, over all orientations and crops of one of both.

        Args:
            looks: n images.

        Returns:
            The best score of each pair, float32 (n, validation pictures), -1 to 1, and the signatures of the crops,
            float32 (n, crops, COARSE * COARSE).
        """
        own = np.stack([[signature(cropped(look.thumbnail, crop)) for crop in CROPS] for look in looks])
        best = np.empty((len(looks), len(self.looks)), np.float32)
        for start in range(0, len(self.looks), _CHUNK):
            part = self.queries[start : start + _CHUNK]
            width = len(part)
            # The whole of ours against crops of theirs, then crops of ours against the whole of theirs.
            first = own[:, 0] @ part.reshape(-1, COARSE**2).T
            found = first.reshape(len(looks), width, -1).max(2)
            whole = part[:, 0].reshape(-1, COARSE**2).T
            for index in range(1, len(CROPS)):
                np.maximum(found, (own[:, index] @ whole).reshape(len(looks), width, -1).max(2), out=found)
            best[:, start : start + _CHUNK] = found
        return best, own

    def candidates(self, looks: Sequence[Look]) -> Iterator[tuple[int, int, int]]:
        """Pairs worth a closer look: row of `looks`, validation row, orientation of the validation image."""
        if not self.looks or not looks:
            return
        best, own = self.scores(looks)
        count = min(CANDIDATES, len(self.looks))
        for row in range(len(looks)):
            nearest = np.argpartition(best[row], -count)[-count:]
            for column in nearest[best[row, nearest] >= LEAST_COARSE]:
                queries = self.queries[column]
                turns = np.maximum((queries @ own[row, 0]).max(0), (own[row] @ queries[0].T).max(0))
                yield row, int(column), int(turns.argmax())

    def same(self, looks: Sequence[Look]) -> Iterator[tuple[str, int]]:
        """Ids of images whose pixels are those of a validation picture, and its row."""
        return ((look.image_id, self.by_pixels[look.pixels]) for look in looks if look.pixels in self.by_pixels)

    def near(self, looks: Sequence[Look]) -> Iterator[tuple[Pair, int]]:
        """The few most similar pictures with other pixels of each image, paired with the first copy, and their row."""
        for row, column, turn in self.candidates(looks):
            ours, theirs = looks[row], self.looks[column]
            if ours.pixels != theirs.pixels:
                found = align(ours.thumbnail, theirs.thumbnail, turn)
                words = describe(found, ours.size, theirs.size)
                yield Pair(ours.image_id, theirs.image_id, "near", found.similarity, words, turn), column

    def with_copies(self, pair: Pair, row: int) -> list[Pair]:
        """A pair of `near`, and the same with further copies of the validation image, `COPIES` in all."""
        return [replace(pair, validation_id=name) for name in self.copies[row][:COPIES]]

    def compare(self, looks: Sequence[Look]) -> Iterator[Pair]:
        """Every pair with the same pixels, and the few most similar others of each image, however similar they are."""
        for image_id, row in self.same(looks):
            for name in self.copies[row]:
                yield exact_pair(image_id, name)
        for pair, row in self.near(looks):
            yield from self.with_copies(pair, row)


def exact_pair(corpus_id: str, validation_id: str) -> Pair:
    """A pair with the same pixels."""
    return Pair(corpus_id, validation_id, "exact", 1.0, "none", 0)


def describe(alignment: Alignment, corpus_size: tuple[int, int], validation_size: tuple[int, int]) -> str:
    """What was done to the validation image to get the corpus' image, in words."""
    words = [ORIENTATIONS[alignment.orientation]] if alignment.orientation else []
    if abs(alignment.scale - 1) > 0.015:
        part, whole = ("corpus", alignment.scale) if alignment.scale < 1 else ("validation", 1 / alignment.scale)
        words.append(f"the {part} image is a crop of {whole:.2f} of the side")
    width, height = validation_size[::-1] if alignment.orientation % 2 else validation_size
    expected = (width * min(alignment.scale, 1), height * min(alignment.scale, 1))
    if any(abs(has / want - 1) > 0.04 for has, want in zip(corpus_size, expected, strict=True)):
        words.append(f"resized from {validation_size[0]} x {validation_size[1]} to {corpus_size[0]} x {corpus_size[1]}")
    if abs(alignment.gain - 1) > 0.04:
        words.append(f"{'brighter' if alignment.gain > 1 else 'darker'} by {abs(alignment.gain - 1):.0%}")
    return ", ".join(words) or "re-encoded"


def _crop_matrix(crop: tuple[float, float, float]) -> np.ndarray:
    """From px of a crop's thumbnail to px of the whole's thumbnail, float32 (2, 3)."""
    share, x, y = crop
    # Pixel centres, not corners, lie at whole numbers.
    shift = (1 - share) * SIDE * np.array([x, y]) + (share - 1) / 2
    return np.array([[share, 0, shift[0]], [0, share, shift[1]]], np.float32)
