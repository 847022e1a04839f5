"""Boxes of a whole store of maps: statistics, thresholds and limits of its categories, and a shard after the other."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from agssp.boxes.extraction import RULES, CategoryStatistics, category_statistics, pseudo_boxes
from agssp.boxes.store import pseudo_objects, write_boxes
from agssp.errors import InputError
from agssp.maps.store import MapStore

DEFAULT_DELTA = {"paper": 0.1, "relative": 0.2, "robust": 3.0}


def threshold_rule(store: MapStore, rule: str = "auto", delta: float | None = None) -> tuple[str, float]:
    """The rule of thresholds and its delta: as asked for, or by the kind of teacher that drew the maps.

    Args:
        store: of maps.
        rule: one of `RULES`, or `auto`.
        delta: the rule's number; None: its usual one.

    Raises:
        InputError: there is no such rule, or `fixed` comes without a delta.
    """
    if rule == "auto":
        rule = "relative" if str(store.manifest.get("teacher", "")).startswith("timm:") else "paper"
    if rule not in RULES:
        raise InputError(f"--threshold-rule {rule!r}: expected auto, {', '.join(RULES)}")
    if rule == "fixed" and delta is None:
        raise InputError("--threshold-rule fixed needs --delta, the threshold itself")
    return rule, float(delta if delta is not None else DEFAULT_DELTA[rule])


def store_statistics(store: MapStore) -> dict[str, CategoryStatistics]:
    """Statistics of each category over the whole store, shard by shard."""
    maxima: dict[int, list[np.ndarray]] = {}
    medians: dict[int, list[np.ndarray]] = {}
    for table, maps in store.iter_shards():
        categories = table["category"].to_numpy()
        flat = maps.reshape(len(maps), store.grid_size**2)
        for category in np.unique(categories):
            part = flat[categories == category]
            maxima.setdefault(int(category), []).append(part.max(1))
            medians.setdefault(int(category), []).append(np.median(part, axis=1))
    if not maxima:
        skipped = store.skipped()
        first = f", the first: {skipped[0]['image_id']}: {skipped[0]['reason']}" if skipped else ""
        raise InputError(f"{store.path}: holds no map; {len(skipped)} images were skipped{first}")
    return {
        store.categories[category]: category_statistics(
            np.concatenate(maxima[category]), np.concatenate(medians[category])
        )
        for category in sorted(maxima)
    }


def score_limits(
    store: MapStore, score_threshold: float | None = None, score_quantile: float | None = None
) -> dict[str, float]:
    """The image score that each category's images must exceed to get boxes; empty for no limit.

    Args:
        store: of maps.
        score_threshold: the limit of all categories.
        score_quantile: the same as a quantile of each category's image scores, 0 to 1.
    """
    if score_threshold is not None:
        return dict.fromkeys(store.categories, score_threshold)
    if score_quantile is None:
        return {}
    table = store.table()
    categories, scores = table["category"].to_numpy(), table["anomaly_score"].to_numpy()
    return {
        store.categories[category]: float(np.quantile(scores[categories == category], score_quantile))
        for category in np.unique(categories)
    }


def one_thread() -> None:
    """Keep a worker to its one core; the threads of torch and OpenCV would fight over it."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def write_shard(
    file: Path,
    store_path: str,
    path: Path,
    thresholds: dict[str, float],
    scores: dict[str, float],
    options: dict[str, Any],
) -> int:
    """Write the boxes of one shard, which no other process needs to hold; how many images it has."""
    rows = shard_boxes(store_path, path, thresholds, scores, options)
    write_boxes(file, MapStore.open(store_path).categories, rows)
    return len(rows)


def shard_boxes(
    store_path: str, path: Path, thresholds: dict[str, float], scores: dict[str, float], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of `box_features` for one shard."""
    store = MapStore.open(store_path)
    table, maps = store.read_shard(path)
    rows = []
    for row, anomaly_map in zip(table.to_pylist(), maps, strict=True):
        name = store.categories[row["category"]]
        gated = name in scores and not row["anomaly_score"] > scores[name]
        limit = float("inf") if gated else thresholds[name]
        found = pseudo_boxes(anomaly_map, (row["height"], row["width"]), limit, **options)
        bbox = found.boxes.copy()
        bbox[:, 2:] -= bbox[:, :2]
        objects = pseudo_objects(bbox, found.scores)
        rows.append({key: value for key, value in row.items() if key != "map_max"} | {"objects": objects})
    return rows


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Counts of images and boxes, and how many normal images got boxes."""
    names = ("images", "images_with_boxes", "boxes", "normal_images", "normal_images_with_boxes")
    counts = dict.fromkeys(names, 0)
    for row in rows:
        boxes, is_normal = len(row["objects"]["bbox"]), bool(row["is_normal"])
        counts["images"] += 1
        counts["images_with_boxes"] += boxes > 0
        counts["boxes"] += boxes
        counts["normal_images"] += is_normal
        counts["normal_images_with_boxes"] += is_normal and boxes > 0
    return counts
