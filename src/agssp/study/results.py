"""What a study has found so far, cell by cell, read from the folders of the finished stages."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.parsing import read_json

from .definition import Study
from .runner import State
from .stage import Cell
from .statistics import Estimate, estimate, separated_best

_AGAIN = "remove that folder, and `agssp study` runs its stage again"


@dataclass(frozen=True)
class CellResult:
    """One cell and what came of it.

    Attributes:
        cell: the cell.
        state: `done`, `failed` or `missing`.
        metrics: of the study's metrics, 0..1; NaN where one cannot be given; empty unless done.
        error: which stage failed, and why.
        curves: in a study of maps, mean mask IoU by `delta` and by `threshold`.
    """

    cell: Cell
    state: str
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""
    curves: dict[str, dict[float, float]] = field(default_factory=dict)


def results(study: Study, state: State) -> list[CellResult]:
    """The result of every planned cell."""
    return [_result(study, state, cell) for cell in state.plan.cells]


def provenance(state: State) -> dict[str, list[str]]:
    """Hardware and versions that the finished stages were run with, from their records: all that occur, if several.

    Returns:
        `hardware` -> its names, and each library -> its versions, in the order of the plan.
    """
    found: dict[str, dict[str, None]] = {"hardware": {}}
    for key in state.plan.stages:
        path = state.root / key / "run.json"
        if path.is_file() and state.record(key):
            facts = read_json(path, keys=("hardware", "versions"), remedy=_AGAIN)
            for name, value in {"hardware": facts["hardware"], **facts["versions"]}.items():
                found.setdefault(name, {})[value] = None
    return {name: list(values) for name, values in found.items()}


def csv_table(study: Study, found: Sequence[CellResult]) -> str:
    """One line a cell; the same results give the same text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "row", "data", "seed", "state", *study.metrics, "stages", "error"])
    for entry in found:
        cell = entry.cell
        numbers = [entry.metrics.get(name, "") for name in study.metrics]
        named = [cell.group, cell.row, cell.data, cell.seed, entry.state]
        writer.writerow([*named, *numbers, " ".join(cell.stages), entry.error])
    return text.getvalue()


def of_row(found: Sequence[CellResult], group: str, row: str, data: str) -> list[CellResult]:
    """The cells of a row on a data set, seed by seed."""
    wanted = (group, row, data)
    return [entry for entry in found if (entry.cell.group, entry.cell.row, entry.cell.data) == wanted]


def row_estimate(found: Sequence[CellResult], group: str, row: str, data: str, metric: str) -> Estimate:
    """Mean and interval of a metric, in percent, over the finished seeds of a row on a data set."""
    values = [entry.metrics.get(metric, math.nan) for entry in of_row(found, group, row, data)]
    return estimate([100 * value for value in values if not math.isnan(value)])


def difference(found: Sequence[CellResult], group: str, row: str, other: str, data: str, metric: str) -> Estimate:
    """Mean and interval of the difference of two rows, in percent points, over the seeds that both have finished.

    Rows with the same seed have the same training and test images, so what makes a seed hard is in both and cancels.
    """
    sides = [
        {entry.cell.seed: entry.metrics.get(metric, math.nan) for entry in of_row(found, group, label, data)}
        for label in (row, other)
    ]
    values = [100 * (sides[0][seed] - sides[1][seed]) for seed in sides[0] if seed in sides[1]]
    return estimate([value for value in values if not math.isnan(value)])


def best_row(found: Sequence[CellResult], group: str, data: str, metric: str) -> str | None:
    """The row of a group that stands out, once all planned cells of the group on this data set are done."""
    cells = [entry for entry in found if (entry.cell.group, entry.cell.data) == (group, data)]
    if any(entry.state != "done" for entry in cells):
        return None
    rows = dict.fromkeys(entry.cell.row for entry in cells)
    return separated_best({row: row_estimate(found, group, row, data, metric) for row in rows})


def _result(study: Study, state: State, cell: Cell) -> CellResult:
    last = cell.stages[-1]
    if state.record(last):
        read = _measured_maps if study.kind == "maps" else _tested_detector
        metrics, curves = read(state.root / last)
        return CellResult(cell, "done", metrics, curves=curves)
    blocking = state.blocked_by(last)
    failure = state.failure(blocking) if blocking else None
    if blocking is None or failure is None:
        return CellResult(cell, "missing")
    return CellResult(cell, "failed", error=f"{blocking}: {' '.join(failure['error'].split())}")


def _tested_detector(folder: Path) -> tuple[dict[str, float], dict[str, dict[float, float]]]:
    tested = read_json(folder / "run.json", keys=("results",), remedy=_AGAIN)["results"]["test"]
    return {name: _number(tested[name]) for name in ("map_50", "map_50_95")}, {}


def _measured_maps(folder: Path) -> tuple[dict[str, float], dict[str, dict[float, float]]]:
    facts = read_json(folder / "metrics.json", keys=("mean_iou",), remedy=_AGAIN)
    overlap = facts["mean_iou"] or {}
    metrics = {name: _number(facts[name]) for name in ("image_auroc", "pixel_auroc")}
    metrics |= {"adaptive_iou": _number(overlap.get("default"))}
    metrics |= {"best_fixed_iou": _number(overlap.get("best_threshold_iou"))}
    places = (("delta", "deltas", "by_delta"), ("threshold", "thresholds", "by_threshold"))
    curves = {
        name: dict(zip(facts[x] or [], map(_number, overlap.get(y) or []), strict=False)) for name, x, y in places
    }
    return metrics, curves


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
