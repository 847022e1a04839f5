"""Equations 9 to 11: from an anomaly map to pseudo-defect boxes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from agssp.errors import InputError

RULES = ("paper", "relative", "robust", "fixed")


@dataclass(frozen=True)
class PseudoBoxes:
    """Boxes of one image, the most anomalous first.

    Attributes:
        boxes: float32 (n, 4) xyxy px; the right and lower edge lie behind the last pixel.
        scores: float32 (n,) largest value of the map within each box's component.
    """

    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class CategoryStatistics:
    """What a category's maps look like, from one pass over all of them.

    Attributes:
        images: how many maps.
        mean_max: mu_c, the mean over the images of their map's maximum (Eq. 10).
        median_max: median of these maxima.
        mad_max: median absolute deviation of these maxima.
        median: median over the images of their map's median: the level of ordinary surface.
    """

    images: int
    mean_max: float
    median_max: float
    mad_max: float
    median: float


def category_statistics(map_maxima: np.ndarray, map_medians: np.ndarray) -> CategoryStatistics:
    """Statistics of one category.

    Args:
        map_maxima: (n,) maximum of each image's map.
        map_medians: (n,) median of each image's map.

    Returns:
        The statistics; all NaN for no images.
    """
    maxima, medians = np.asarray(map_maxima, np.float64), np.asarray(map_medians, np.float64)
    if len(maxima) == 0:
        return CategoryStatistics(0, *[float("nan")] * 4)
    middle = float(np.median(maxima))
    return CategoryStatistics(
        len(maxima), float(maxima.mean()), middle, float(np.median(np.abs(maxima - middle))), float(np.median(medians))
    )


def category_threshold(statistics: CategoryStatistics, rule: str, delta: float) -> float:
    """The value above which a map's cell belongs to a defect.

    Args:
        statistics: of the category.
        rule: `paper`: mu_c - delta (Eq. 9), delta in the units of the map; `relative`: mu_c - delta * (mu_c - the
            category's median), free of the teacher's scale; `robust`: median + delta MAD of the image maxima, which
            stays above sound images where most of a category is sound; `fixed`: delta itself.
        delta: see `rule`.

    Returns:
        The threshold in the units of the map.

    Raises:
        InputError: an unknown rule.
    """
    if rule == "paper":
        return statistics.mean_max - delta
    if rule == "relative":
        return statistics.mean_max - delta * (statistics.mean_max - statistics.median)
    if rule == "robust":
        return statistics.median_max + delta * statistics.mad_max
    if rule == "fixed":
        return delta
    raise InputError(f"threshold rule {rule!r}: expected one of {', '.join(RULES)}")


def pseudo_boxes(
    anomaly_map: np.ndarray,
    image_size: Sequence[int],
    threshold: float,
    *,
    top_k: int = 10,
    min_area: float | None = None,
    iou_threshold: float = 0.5,
    merge_distance: float = 0.0,
) -> PseudoBoxes:
    """Boxes around the connected parts of a map above a threshold (Eq. 11).

    The map is resized to the image (bilinear), cut at the threshold, and its 8-connected components are boxed.

    Args:
        anomaly_map: (g, g) finite.
        image_size: (H, W) px.
        threshold: T_c; cells above it are defective.
        top_k: as many boxes at most, the highest scores first, before suppression.
        min_area: smaller components (in px) are dropped; default max((H // 100) * (W // 100), 10).
        iou_threshold: of two boxes that overlap more, the lower score goes (torchvision's `nms`).
        merge_distance: boxes that are closer than this (in px) become one first; 0 leaves them apart.

    Returns:
        Boxes and scores.

    Raises:
        InputError: a map that is not square and finite, or an image without pixels.
    """
    height, width = (int(side) for side in image_size)
    grid = np.asarray(anomaly_map, dtype=np.float32)
    if grid.ndim != 2 or not np.isfinite(grid).all():
        raise InputError(
            f"expected a finite map (g, g), got shape {grid.shape}, finite: {bool(np.isfinite(grid).all())}"
        )
    if height < 1 or width < 1:
        raise InputError(f"expected an image size in px, got {height} x {width}")
    nothing = PseudoBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    # Resizing cannot raise a value above the grid's own maximum.
    if not (grid > threshold).any():
        return nothing
    resized = resize_map(grid, (height, width))
    smallest = max((height // 100) * (width // 100), 10) if min_area is None else min_area
    # An image smaller than the rule's 10 px still may hold a defect: all of it.
    smallest = min(smallest, height * width)
    boxes, scores = [], []
    for (x, y, w, h), component in components((resized > threshold).view(np.uint8)):
        if cv2.countNonZero(component) >= smallest:
            boxes.append((x, y, x + w, y + h))
            scores.append(cv2.minMaxLoc(resized[y : y + h, x : x + w], component)[1])
    if not boxes:
        return nothing
    found, values = np.array(boxes, np.float32), np.array(scores, np.float32)
    if merge_distance > 0:
        found, values = merge_close(found, values, merge_distance)
    order = np.argsort(-values, kind="stable")[:top_k]
    found, values = found[order], values[order]
    keep = nms(torch.from_numpy(found), torch.from_numpy(values), iou_threshold).numpy()
    return PseudoBoxes(found[keep], values[keep])


def resize_map(anomaly_map: np.ndarray, image_size: Sequence[int]) -> np.ndarray:
    """Stretch a map over its image, bilinearly: what a threshold cuts.

    Args:
        anomaly_map: (g, g).
        image_size: (H, W) px.

    Returns:
        float32 (H, W), within the range of the map.
    """
    height, width = image_size
    return cv2.resize(np.asarray(anomaly_map, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def components(mask: np.ndarray) -> Iterator[tuple[tuple[int, int, int, int], np.ndarray]]:
    """The 8-connected components of a mask, exactly as `cv2.connectedComponentsWithStats` has them, 5 times faster.

    Following the outer contours takes a fraction of the time of labelling every pixel; labels are needed only where the
    rectangles of two components overlap.

    Args:
        mask: uint8 (H, W) of 0 and 1.

    Yields:
        Rectangle (x, y, w, h) px around a component, and the component in it, uint8 (h, w) of 0 and 1.
    """
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # Contours with a parent are the rims of holes.
    outer = [contour for contour, links in zip(contours, hierarchy[0], strict=True) if links[3] < 0] if contours else []
    rectangles = np.array([cv2.boundingRect(contour) for contour in outer], np.int64).reshape(-1, 4)
    starts, ends = rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]
    for contour, (x, y, w, h) in zip(outer, rectangles.tolist(), strict=True):
        window = mask[y : y + h, x : x + w]
        if ((starts < (x + w, y + h)) & (ends > (x, y))).all(1).sum() > 1:
            _, labels = cv2.connectedComponents(window, connectivity=8)
            column, row = contour[0, 0]
            window = (labels == labels[row - y, column - x]).astype(np.uint8)
        yield (x, y, w, h), np.ascontiguousarray(window)


def merge_close(boxes: np.ndarray, scores: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Unite boxes whose gap is under `distance` px in both directions, until none is left; the best score stays.

    Args:
        boxes: (n, 4) xyxy px.
        scores: (n,).
        distance: in px.

    Returns:
        Fewer or as many boxes, and their scores.
    """
    boxes, scores = boxes.copy(), scores.copy()
    merged = True
    while merged and len(boxes) > 1:
        merged = False
        for index in range(len(boxes)):
            gap = np.maximum(boxes[:, :2] - boxes[index, 2:], boxes[index, :2] - boxes[:, 2:]).max(1)
            close = gap < distance
            if close.sum() > 1:
                union = np.concatenate([boxes[close][:, :2].min(0), boxes[close][:, 2:].max(0)])
                best = scores[close].max()
                boxes = np.concatenate([boxes[~close], union[None]])
                scores = np.concatenate([scores[~close], [best]]).astype(np.float32)
                merged = True
                break
    return boxes, scores
