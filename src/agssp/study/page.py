"""The page of a study: its table, bars or lines with intervals, and the commands that made it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from agssp.report.figures import INK, STYLE, empty
from agssp.report.page import Code, Picture, Section, Table, Text, write_page
from agssp.report.pictures import COLOURS

from .definition import Study
from .results import CellResult, row_estimate
from .statistics import Estimate
from .table import curve_tables, described, shared_facts, table_rows

THRESHOLD_CAPTION = "Lines: one fixed threshold for all categories. Dashed: the adaptive rule, which sees no mask."


def write_study_page(
    path: Path, study: Study, found: Sequence[CellResult], facts: dict[str, str], lines: Sequence[str]
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        study: the study.
        found: results of all planned cells.
        facts: versions and hardware.
        lines: command lines of all stages.
    """
    summary = [Text(study.warning, note=True)] if study.warning else []
    summary += [Text(study.about)] if study.about else []
    summary += [Text(text + ".") for text in shared_facts(study, found)]
    sections = [Section("What is compared", summary), Section("Figures", figures(study, found))]
    tables: list[Any] = [table_rows(study, found, group) for group in study.groups.values()]
    sections.append(Section("Table", [Table(*table) for table in tables if table[1]]))
    for title, heading, rows in curve_tables(study, found):
        sections.append(Section(title, [Table(heading, rows)]))
    kinds = [(row.group, row.label, described(row)) for row in study.rows]
    sections.append(Section("Rows", [Table(("group", "row", "what it is"), kinds)]))
    failed = [(entry.cell.name, entry.cell.seed, entry.error) for entry in found if entry.state == "failed"]
    if failed:
        sections.append(Section("Failed", [Table(("cell", "seed", "error"), failed)]))
    sections.append(
        Section("How it was made", [Table(("", ""), list(facts.items())), Code("\n".join(lines), "every command")])
    )
    write_page(path, study.title, sections)


def figures(study: Study, found: Sequence[CellResult]) -> list[Picture]:
    """A figure for each data set and metric; in a study of maps also IoU over thresholds, for each data set."""
    lines = bool(study.rows) and all(row.x is not None for row in study.rows)
    pictures = []
    for entry in study.data:
        for metric, title in study.metrics.items():
            draw = _lines if lines else _bars
            pictures.append(Picture(draw(study, found, entry.name, metric, f"{entry.name}: {title}")))
        curves = [result for result in found if result.cell.data == entry.name and result.curves.get("threshold")]
        if curves:
            pictures.append(Picture(_thresholds(curves, f"{entry.name}: mask IoU"), THRESHOLD_CAPTION))
    return pictures


def _bars(study: Study, found: Sequence[CellResult], data: str, metric: str, title: str) -> Figure:
    """Horizontal bars, a colour a group, with intervals; rows without a finished cell are left out."""
    entries: list[tuple[str, int, Estimate]] = []
    for number, group in enumerate(study.groups):
        for row in study.rows:
            value = row_estimate(found, group, row.label, data, metric)
            if row.group == group and value.count:
                entries.append((f"{group}  {row.label}".strip(), number, value))
    if not entries:
        return empty(f"{title}: nothing yet")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.9 + 0.24 * len(entries)), layout="constrained")
        axes = figure.add_subplot()
        for place, (_, number, value) in enumerate(entries):
            width = 0 if math.isnan(value.half_width) else value.half_width
            axes.barh(place, value.mean, 0.72, color=COLOURS[number % len(COLOURS)], xerr=width or None,
                      error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2})  # fmt: skip
            axes.annotate(f"{value.mean:.1f}", (value.mean + width, place), (4, 0), textcoords="offset points",
                          va="center", fontsize=7.5)  # fmt: skip
        axes.set_yticks(range(len(entries)), [name for name, _, _ in entries])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set(title=title, xlabel="percent, mean over seeds with its 95 % interval")
    return figure


def _lines(study: Study, found: Sequence[CellResult], data: str, metric: str, title: str) -> Figure:
    """Lines over the rows' `x`, one a series, with intervals."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        names = dict.fromkeys((row.group, row.series) for row in study.rows)
        for number, (group, series) in enumerate(names):
            rows = [row for row in study.rows if (row.group, row.series) == (group, series)]
            values = [row_estimate(found, group, row.label, data, metric) for row in rows]
            points = sorted((float(row.x or 0), value) for row, value in zip(rows, values, strict=True) if value.count)
            widths = np.nan_to_num([value.half_width for _, value in points])
            label = " ".join(part for part in (group, series) if part)
            axes.errorbar([x for x, _ in points], [value.mean for _, value in points], yerr=widths, marker="o",
                          markersize=4, capsize=3, label=label, color=COLOURS[number % len(COLOURS)])  # fmt: skip
        axes.set_xticks(sorted({float(row.x or 0) for row in study.rows}))
        axes.set(title=title, xlabel=study.x_label, ylabel="percent, mean and 95 % interval")
        axes.legend()
    return figure


def _thresholds(results: Sequence[CellResult], title: str) -> Figure:
    """IoU over fixed thresholds, a line a row and seed, and the level of the adaptive rule in the same colour."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        colours = {row: COLOURS[number % len(COLOURS)]
                   for number, row in enumerate(dict.fromkeys(result.cell.row for result in results))}  # fmt: skip
        for result in results:
            curve, row = result.curves["threshold"], result.cell.row
            first = result is next(other for other in results if other.cell.row == row)
            axes.plot(list(curve), [100 * value for value in curve.values()], color=colours[row], linewidth=1.3,
                      label=row if first else None)  # fmt: skip
            axes.axhline(100 * result.metrics["adaptive_iou"], color=colours[row], linestyle="--", linewidth=1.3)
        axes.set(title=title, xlabel="fixed threshold", ylabel="mean IoU, percent")
        axes.legend()
    return figure
