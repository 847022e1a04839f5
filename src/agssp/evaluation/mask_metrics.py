"""How well thresholded anomaly maps meet the masks of defects (Fig. 7): IoU at many thresholds in one pass a map."""

from typing import Any

import numpy as np


def mask_overlap(anomaly_map: Any, mask: Any, thresholds: Any) -> np.ndarray:
    """Count what a map above each threshold has in common with a mask.

    The pixels above all thresholds are counted in one pass, by how many of the thresholds they exceed.

    Args:
        anomaly_map: (H, W) finite, compared as float32, in which `boxes.pseudo_boxes` cuts its boxes. Of an image with
            ignored pixels the others, (n,).
        mask: of the same shape, non-zero where there is a defect.
        thresholds: (t,) in any order; a pixel above one counts as defective.

    Returns:
        int64 (2, t): pixels of the intersection, and of the union.

    Raises:
        ValueError: map and mask differ in size.
    """
    values, defect = np.asarray(anomaly_map, np.float32), np.asarray(mask).astype(bool)
    if values.shape != defect.shape:
        raise ValueError(f"the map is {values.shape} and the mask {defect.shape}; resize one to the other first")
    levels = np.asarray(thresholds, np.float32)
    order = np.argsort(levels, kind="stable")
    exceeded = np.searchsorted(levels[order], values)
    above = np.empty((2, len(levels)), np.int64)
    for side, pixels in enumerate((exceeded[~defect], exceeded[defect])):
        counts = np.bincount(pixels, minlength=len(levels) + 1)
        # Whoever exceeds n thresholds is above the n lowest.
        above[side, order] = np.cumsum(counts[::-1])[::-1][1:]
    false, found = above
    return np.stack([found, np.count_nonzero(defect) + false])


def mean_iou(overlaps: np.ndarray) -> np.ndarray:
    """The mean of the images' IoU, in which a small defect counts as much as a large one.

    Args:
        overlaps: (n, 2, t) of images whose mask has a pixel, as `mask_overlap` gives them.

    Returns:
        float64 (t,) in 0..1; NaN for no images.
    """
    if not len(overlaps):
        return np.full(overlaps.shape[2], np.nan)
    return (overlaps[:, 0] / overlaps[:, 1]).mean(0)


def pooled_iou(overlaps: np.ndarray) -> np.ndarray:
    """The IoU of all pixels together, in which false alarms on sound images count too.

    Args:
        overlaps: (n, 2, t), as `mask_overlap` gives them, of sound images as well.

    Returns:
        float64 (t,) in 0..1; NaN where no pixel is defective and none above the threshold.
    """
    intersection, union = overlaps.sum(0)
    return np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)
