"""Compare the maps of a store with what is known of their images' defects, and measure how well they agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agssp.boxes.extraction import resize_map
from agssp.data.images import ImageError
from agssp.data.mask_reading import MaskReading
from agssp.data.masks import image_truth
from agssp.evaluation.anomaly_metrics import PixelScores, binary_scores
from agssp.evaluation.mask_metrics import mask_overlap, mean_iou, pooled_iou
from agssp.maps.store import MapStore

TRUTH_COLUMNS = ("image_id", "is_normal", "mask", "objects")


@dataclass(frozen=True)
class Levels:
    """Where maps are cut.

    Attributes:
        delta: of the adaptive rule, as `agssp pseudo-boxes` takes it.
        deltas: (d,) others, ascending.
        thresholds: (f,) fixed ones in the maps' units, ascending.
        adaptive: category -> (1 + d,): the rule's threshold at `delta` and at each of `deltas`.
    """

    delta: float
    deltas: np.ndarray
    thresholds: np.ndarray
    adaptive: dict[str, np.ndarray]

    def of(self, category: str) -> np.ndarray:
        """All thresholds of a category, (1 + d + f,): the adaptive ones, then the fixed."""
        return np.concatenate([self.adaptive[category], self.thresholds])


@dataclass
class Compared:
    """One image's map beside what is known of the image.

    Attributes:
        image_id: the image's name.
        category: the map's.
        score: image score.
        error: why its truth could not be read; None if it could.
        defective: None where nothing tells.
        overlaps: int64 (2, 1 + d + f), as `mask_overlap` gives them; None where the pixels are not known.
        mask_pixels: how many pixels are defective.
    """

    image_id: str
    category: str
    score: float
    error: str | None = None
    defective: bool | None = None
    overlaps: np.ndarray | None = None
    mask_pixels: int = 0

    @property
    def iou(self) -> float:
        """IoU of the map above the default adaptive threshold; NaN where there is no defect in a mask."""
        return (
            float(self.overlaps[0, 0] / self.overlaps[1, 0])
            if self.overlaps is not None and self.mask_pixels
            else np.nan
        )


def compare_shard(
    store: MapStore,
    shard: Path,
    dataset: Any,
    index: dict[str, int],
    levels: Levels,
    pixels: dict[str, PixelScores],
    *,
    masks: str | None = "masks",
    reading: MaskReading | None = None,
    done: Callable[[], object] = lambda: None,
) -> list[Compared]:
    """Compare one shard's maps with the labels of their images.

    Args:
        store: the maps.
        shard: its file.
        dataset: labels: `TRUTH_COLUMNS`, as far as there are any.
        index: image_id -> row of the data set; maps of other images are left out.
        levels: where maps are cut.
        pixels: category -> scores, which get this shard's pixels.
        masks: where pixels are known from: `masks`, or `boxes` that stand in for them; None leaves pixels alone.
        reading: how the data set's masks are read; pixels that it ignores count in no number.
        done: called after each image.

    Returns:
        One entry for each image of the shard that the data set has.
    """
    table, maps = store.read_shard(shard)
    compared = []
    for row, anomaly_map in zip(table.to_pylist(), maps, strict=True):
        if row["image_id"] not in index:
            continue
        name = store.categories[row["category"]]
        entry = Compared(row["image_id"], name, row["anomaly_score"])
        compared.append(entry)
        size = row["height"], row["width"]
        try:
            labels = dataset[index[row["image_id"]]]
            truth = image_truth(labels, size, boxes_as_mask=masks == "boxes", reading=reading)
        except ImageError as error:
            entry.error = str(error).removeprefix(f"{entry.image_id}: ")
        else:
            entry.defective = truth.defective
            if masks is not None and truth.mask is not None:
                resized, mask = resize_map(anomaly_map, size), truth.mask
                if truth.ignored is not None:
                    resized, mask = resized[~truth.ignored], mask[~truth.ignored]
                pixels[name].update(resized, mask)
                entry.overlaps = mask_overlap(resized, mask, levels.of(name))
                entry.mask_pixels = int(np.count_nonzero(mask))
        done()
    return compared


def measure(compared: Sequence[Compared], pixels: dict[str, PixelScores], levels: Levels) -> dict[str, Any]:
    """All numbers, over all images and a category at a time.

    Args:
        compared: the images.
        pixels: category -> scores of its pixels.
        levels: where the maps were cut.

    Returns:
        What `agssp evaluate-maps` documents, from `images` to `categories`; None where a number cannot be given.
    """
    everything = PixelScores()
    for scores in pixels.values():
        everything.merge(scores.counts)
    categories = {}
    for name, scores in pixels.items():
        members = [entry for entry in compared if entry.category == name]
        categories[name] = _numbers(members, scores, levels) | {"threshold": float(levels.adaptive[name][0])}
    return _numbers(compared, everything, levels) | {"categories": categories}


def _numbers(compared: Sequence[Compared], pixels: PixelScores, levels: Levels) -> dict[str, Any]:
    good = [entry for entry in compared if entry.error is None]
    known = [entry for entry in good if entry.defective is not None]
    image_scores = binary_scores([entry.score for entry in known], [entry.defective for entry in known])
    pixel_scores = pixels.compute()
    masked = [entry for entry in good if entry.overlaps is not None]
    count = 1 + len(levels.deltas) + len(levels.thresholds)
    overlaps = np.array([entry.overlaps for entry in masked], np.int64).reshape(-1, 2, count)
    with_defect = np.array([entry.mask_pixels > 0 for entry in masked], bool)
    return {
        "images": len(good),
        "normal": sum(entry.defective is False for entry in good),
        "defective": sum(entry.defective is True for entry in good),
        "with_masks": len(masked),
        "image_auroc": image_scores["auroc"],
        "image_average_precision": image_scores["average_precision"],
        "pixel_auroc": pixel_scores["auroc"],
        "pixel_average_precision": pixel_scores["average_precision"],
        "mean_iou": _curves(mean_iou(overlaps[with_defect]), levels),
        "pooled_iou": _curves(pooled_iou(overlaps), levels),
    }


def _curves(iou: np.ndarray, levels: Levels) -> dict[str, Any]:
    """IoU at the default delta, at each delta and at each fixed threshold, and the best of each."""
    values = [None if np.isnan(value) else float(value) for value in iou]
    default, by_delta, by_threshold = values[0], values[1 : 1 + len(levels.deltas)], values[1 + len(levels.deltas) :]
    best_delta, best_delta_iou = _best(levels.deltas, by_delta)
    best_threshold, best_threshold_iou = _best(levels.thresholds, by_threshold)
    return {
        "default": default,
        "by_delta": by_delta,
        "by_threshold": by_threshold,
        "best_delta": best_delta,
        "best_delta_iou": best_delta_iou,
        "best_threshold": best_threshold,
        "best_threshold_iou": best_threshold_iou,
    }


def _best(places: np.ndarray, values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [(value, float(place)) for place, value in zip(places, values, strict=True) if value is not None]
    if not known:
        return None, None
    value, place = max(known, key=lambda pair: pair[0])
    return place, value
