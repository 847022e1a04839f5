"""Turns two small pictures until one lies on the other, and says how well they agree."""

import itertools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

SIDE = 128
"""Side in px of the thumbnails that decide; every image is stretched to a square, so a change of aspect is none."""
ORIENTATIONS = (
    "", "rotated by 90", "rotated by 180", "rotated by 270",
    "mirrored", "mirrored and rotated by 90", "mirrored and rotated by 180", "mirrored and rotated by 270",
)  # fmt: skip
"""The eight orientations of `oriented`, in its order; degrees are counter-clockwise."""
SHARES = (1.0, 0.96, 0.92, 0.88)
"""Shares of a side that crops may keep, as far as the alignment starts from them."""


@dataclass(frozen=True)
class Alignment:
    """How two thumbnails lie on each other.

    Attributes:
        similarity: correlation after local contrast normalisation, -1 to 1, where both have something to compare.
        orientation: index into `ORIENTATIONS`, of the validation image.
        scale: side of the corpus' view as a share of the side of the validation image's view; below 1, it is a crop.
        gain: ratio of the mean grey values, corpus to validation, where they overlap.
    """

    similarity: float
    orientation: int
    scale: float
    gain: float


def oriented(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a picture (H, W) or (H, W, 3) into one of the eight `ORIENTATIONS`."""
    mirrored = image[:, ::-1] if orientation >= 4 else image
    return np.ascontiguousarray(np.rot90(mirrored, orientation % 4))


def local_contrast(values: np.ndarray, window: float) -> np.ndarray:
    """Take away the local mean and divide by the local standard deviation.

    Args:
        values: (H, W) grey values, 0 to 255.
        window: standard deviation of the Gaussian that says what is local, in px.

    Returns:
        float32 (H, W), about -2 to 2; 0 where there is no contrast.
    """
    values = values.astype(np.float32)
    values = values - cv2.GaussianBlur(values, (0, 0), window)
    # Half a grey level keeps the rounding of a flat picture from looking like grain.
    return values / (np.sqrt(cv2.GaussianBlur(values * values, (0, 0), window)) + 0.5)


def align(corpus: np.ndarray, validation: np.ndarray, orientation: int) -> Alignment:
    """Lay one thumbnail on another and measure how well they agree.

    Args:
        corpus: uint8 (SIDE, SIDE).
        validation: uint8 (SIDE, SIDE).
        orientation: of the validation image.

    Returns:
        The better of the best crop on a grid and of its refinement by ECC (Evangelidis and Psarakis, 2008).
    """
    turned = oriented(validation, orientation)
    # Half the size, and smooth: the grid of crops need not be finer than this grain.
    ours, theirs = (
        cv2.GaussianBlur(local_contrast(each, 6), (0, 0), 1.5)[::2, ::2].copy() for each in (corpus, turned)
    )
    start = _best_crop(ours, theirs)
    found = [(*_agreement(corpus, turned, matrix), matrix) for matrix in (start, _refined(ours, theirs, start))]
    similarity, gain, matrix = max(found, key=lambda each: each[0])
    return Alignment(similarity, orientation, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))), gain)


def _best_crop(corpus: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Where one picture lies in the other if it is a crop of it, among crops of the grid `SHARES`.

    Args:
        corpus: float32, local contrast at half of SIDE.
        turned: the same of the validation image.

    Returns:
        float32 (2, 3), from px of the corpus' thumbnail to px of the turned validation thumbnail.
    """
    best = -2.0
    matrix: Any = np.eye(2, 3, dtype=np.float32)
    side = len(corpus)
    for across, down in itertools.product(SHARES, SHARES):
        size = (round(side * across), round(side * down))
        for small, large, is_corpus in ((corpus, turned, True), (turned, corpus, False)):
            part = small if size == (side, side) else cv2.resize(small, size, interpolation=cv2.INTER_AREA)
            _, score, _, corner = cv2.minMaxLoc(cv2.matchTemplate(large, part, cv2.TM_CCOEFF_NORMED))
            if score > best:
                best, share = score, np.array(size) / side
                inside = np.column_stack([np.diag(share), 2 * np.array(corner) + share - 1]).astype(np.float32)
                matrix = inside if is_corpus else cv2.invertAffineTransform(inside)
    return matrix


def _refined(corpus: np.ndarray, turned: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The matrix after ECC; the start where it does not converge, which is what different pictures do."""
    matrix: Any = start.copy()
    matrix[:, 2] /= 2
    everywhere: Any = None
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        matrix = cv2.findTransformECC(corpus, turned, matrix, cv2.MOTION_AFFINE, stop, everywhere, 1)[1]
    except cv2.error:
        return start
    matrix[:, 2] *= 2
    # Beyond a quarter it is no slight crop but a match forced by bending.
    return matrix if np.abs(matrix[:, :2] - np.eye(2)).max() < 0.25 else start


def _agreement(corpus: np.ndarray, turned: np.ndarray, matrix: np.ndarray) -> tuple[float, float]:
    """Correlation after local contrast normalisation where the pictures overlap, and the ratio of their means."""
    size, way = (SIDE, SIDE), cv2.WARP_INVERSE_MAP
    inside = cv2.warpAffine(np.ones(size, np.uint8), matrix, size, flags=cv2.INTER_NEAREST | way) > 0
    warped = cv2.warpAffine(turned, matrix, size, flags=cv2.INTER_LINEAR | way, borderMode=cv2.BORDER_REFLECT)
    if inside.mean() < 0.6:
        return -1.0, 1.0
    gain = float(corpus[inside].mean() / max(float(warped[inside].mean()), 1.0))
    # A brightened copy is white where the other still has grain: nothing can be compared there.
    clipped = ((corpus >= 253) | (corpus <= 2) | (warped >= 253) | (warped <= 2)).astype(np.uint8)
    seen = inside & (cv2.dilate(clipped, np.ones((5, 5), np.uint8)) == 0)
    if seen.mean() < 0.1:
        seen = inside
    # One px of smoothing leaves out what JPEG and resizing change.
    values = [local_contrast(cv2.GaussianBlur(image, (0, 0), 1), 6)[seen] for image in (corpus, warped)]
    first, second = (part - part.mean() for part in values)
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return (float(first @ second) / norm if norm > 1e-3 else 0.0), gain
