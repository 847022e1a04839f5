"""The page of a study: tables, bars or lines with intervals, and the commands that made it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agssp.report.figures import INK, STYLE, empty
from agssp.report.page import Code, Picture, Section, Table, Text, write_page
from agssp.report.pictures import COLOURS

from .definition import DataSet, Study
from .results import CellResult, row_estimate
from .statistics import Estimate
from .table import curve_tables, described, difference_rows, numbers, published, shared_facts

THRESHOLD_CAPTION = "Lines: one fixed threshold for all categories. Dashed: the adaptive rule, which sees no mask."
Entries = list[tuple[str, str, float | None, Estimate]]  # group, row or its series, place, value


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
    sections = [Section("What is compared", summary)]
    sets = [entry for entry in study.data if any(result.cell.data == entry.name for result in found)]
    sections += [Section(entry.name, _data_set(study, found, entry)) for entry in sets]
    sections += [Section(title, [Table(heading, rows)]) for title, heading, rows in curve_tables(study, found)]
    planned = {(entry.cell.group, entry.cell.row) for entry in found}
    rows = [row for row in study.rows if (row.group, row.label) in planned]
    kinds = [(row.group, row.label, described(row)) for row in rows]
    sections.append(Section("Rows", [Table(("group", "row", "what it is"), kinds)]))
    failed = [(entry.cell.name, entry.cell.seed, entry.error) for entry in found if entry.state == "failed"]
    sections += [Section("Failed", [Table(("cell", "seed", "error"), failed)])] if failed else []
    sections.append(
        Section("How it was made", [Table(("", ""), list(facts.items())), Code("\n".join(lines), "Every command:")])
    )
    write_page(path, study.title, sections)


def _data_set(study: Study, found: Sequence[CellResult], entry: DataSet) -> list[Table | Picture]:
    """Table and figures of one data set."""
    planned = {(result.cell.group, result.cell.row) for result in found if result.cell.data == entry.name}
    rows = [row for row in study.rows if (row.group, row.label) in planned]
    grouped, paper = any(row.group for row in rows), any(entry.name in row.paper for row in rows)
    heading = [*(["group"] if grouped else []), "row", *study.metrics.values(), "seeds", *(["paper"] if paper else [])]
    lines = [
        [*([row.group] if grouped else []), row.label, *numbers(study, found, row, entry.name)]
        + ([published(row, entry.name)] if paper else [])
        for row in rows
    ]
    blocks: list[Table | Picture] = [Table(heading, lines)]
    for group in study.groups.values():
        titles, differences = difference_rows(study, found, group, [entry.name])
        blocks += [Table(titles, differences)] if differences else []
    if len(rows) > 1:
        blocks.append(Picture(figure(study, found, entry.name)))
    curves = [result for result in found if result.cell.data == entry.name and result.curves.get("threshold")]
    return [*blocks, Picture(_thresholds(curves, "Mask IoU"), THRESHOLD_CAPTION)] if curves else blocks


def figure(study: Study, found: Sequence[CellResult], data: str) -> Figure:
    """All metrics on one data set beside each other: lines where all rows have a place on an axis, else bars."""
    lines = bool(study.rows) and all(row.x is not None for row in study.rows)
    panels: dict[str, Entries] = {}
    for metric, title in study.metrics.items():
        values = [(row, row_estimate(found, row.group, row.label, data, metric)) for row in study.rows]
        entries: Entries = [
            (row.group, row.series if lines else row.label, row.x, value) for row, value in values if value.count
        ]
        if entries:
            panels[title] = entries
    if not panels:
        return empty(f"{data}: nothing yet")
    draw: Callable[[Axes, Entries], None] = _lines if lines else _bars
    height = 3.4 if lines else 0.9 + 0.24 * max(map(len, panels.values()))
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(10, height), layout="constrained")
        # Bars share their names on the left, lines each have their own scale.
        axes = picture.subplots(1, len(panels), sharey=not lines, squeeze=False)[0]
        for panel, (title, entries) in zip(axes, panels.items(), strict=True):
            draw(panel, entries)
            panel.set_title(f"{title}, percent")
            if lines:
                panel.set_xlabel(study.x_label)
    return picture


def _bars(axes: Axes, entries: Entries) -> None:
    """Horizontal bars, a colour a group, with intervals."""
    groups = list(dict.fromkeys(group for group, _, _, _ in entries))
    for place, (group, _, _, value) in enumerate(entries):
        width = 0.0 if math.isnan(value.half_width) else value.half_width
        axes.barh(place, value.mean, 0.72, color=COLOURS[groups.index(group) % len(COLOURS)], xerr=width or None,
                  error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2})  # fmt: skip
        axes.annotate(f"{value.mean:.1f}", (value.mean + width, place), (4, 0), textcoords="offset points",
                      va="center", fontsize=7.5)  # fmt: skip
    axes.set_yticks(range(len(entries)), [f"{group}  {label}".strip() for group, label, _, _ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)


def _lines(axes: Axes, entries: Entries) -> None:
    """A line for each series of each group, with intervals."""
    for number, (group, series) in enumerate(dict.fromkeys((group, series) for group, series, _, _ in entries)):
        points = sorted((float(x or 0), value) for own, name, x, value in entries if (own, name) == (group, series))
        widths = np.nan_to_num([value.half_width for _, value in points])
        axes.errorbar([x for x, _ in points], [value.mean for _, value in points], yerr=widths, marker="o",
                      markersize=4, capsize=3, label=f"{group} {series}".strip(),
                      color=COLOURS[number % len(COLOURS)])  # fmt: skip
    axes.set_xticks(sorted({float(x or 0) for _, _, x, _ in entries}))
    axes.legend()


def _thresholds(results: Sequence[CellResult], title: str) -> Figure:
    """IoU over fixed thresholds, a line a row and seed, and the level of the adaptive rule in the same colour."""
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = picture.add_subplot()
        rows = list(dict.fromkeys(result.cell.row for result in results))
        for result in results:
            curve, row = result.curves["threshold"], result.cell.row
            first = result is next(other for other in results if other.cell.row == row)
            colour = COLOURS[rows.index(row) % len(COLOURS)]
            axes.plot(list(curve), [100 * value for value in curve.values()], color=colour, linewidth=1.3,
                      label=row if first else None)  # fmt: skip
            axes.axhline(100 * result.metrics["adaptive_iou"], color=colour, linestyle="--", linewidth=1.3)
        axes.set(title=title, xlabel="fixed threshold", ylabel="mean IoU, percent")
        axes.legend()
    return picture
