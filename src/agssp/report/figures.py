"""Matplotlib figures of a run: contact sheets, curves, histograms and bars, in one quiet style.

Every function returns a `matplotlib.figure.Figure` that belongs to no window: save it with `figure.savefig`, or put it
on a page with `page.Picture`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from agssp.files import whole_file

from .pictures import COLOURS

# The page swaps these three for the reader's light or dark colours, so nothing else may use them.
INK, MUTED, GRID = "#1b2431", "#5b6a7e", "#d9dfe7"
STYLE: Any = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
}

Tile = Image.Image | np.ndarray | tuple[Image.Image | np.ndarray, str]


def save(figure: Figure, path: Any, dpi: int = 150) -> None:
    """Write a figure as a picture, on white: to an open file as PNG, or to the path of a file, whole."""
    if not isinstance(path, str | os.PathLike):
        figure.savefig(path, dpi=dpi, facecolor="white")
        return
    with whole_file(path) as part:
        figure.savefig(part, format=Path(path).suffix.removeprefix("."), dpi=dpi, facecolor="white")


def contact_sheet(
    rows: Sequence[Sequence[Tile | None]],
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    tile_inches: float = 2.0,
) -> Figure:
    """Pictures in rows and columns.

    Args:
        rows: for each row its pictures (RGB, PIL or uint8 (H, W, 3)), each alone or as (picture, caption); None leaves
            a gap. `pictures.tile` makes pictures with heat and boxes.
        column_titles: written above the first row, of one or more lines.
        row_titles: written on the left of each row.
        tile_inches: width of a column.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        return empty("no pictures")
    tiles = [[_tile(entry) for entry in row] for row in rows]
    # A row is as high as its highest picture, within reason: strips of steel can be thirty times as wide as high.
    ratios = [
        float(np.clip(max((p.shape[0] / p.shape[1] for p, _ in row if p is not None), default=1), 0.25, 1.6))
        for row in tiles
    ]
    caption = 0.22 if any(text for row in tiles for _, text in row) else 0.0
    heights = [ratio * tile_inches + caption for ratio in ratios]
    margin = 0.28 if row_titles else 0.02
    head = 0.1 + 0.16 * max(title.count("\n") + 1 for title in column_titles) if column_titles else 0.02
    gap = 0.07
    width = margin + columns * tile_inches + (columns - 1) * gap + 0.02
    height = head + sum(heights) + (len(rows) - 1) * gap + 0.02
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        top = height - head
        for index, row in enumerate(tiles):
            for column, (picture, text) in enumerate(row):
                if picture is None:
                    continue
                left = margin + column * (tile_inches + gap)
                bottom = top - ratios[index] * tile_inches
                box = (left / width, bottom / height, tile_inches / width, ratios[index] * tile_inches / height)
                axes = figure.add_axes(box)
                axes.imshow(picture, aspect="equal")
                axes.axis("off")
                if text:
                    centre = (left + tile_inches / 2) / width
                    figure.text(centre, (bottom - 0.04) / height, text, ha="center", va="top", fontsize=7, color=MUTED)
            if index < len(row_titles):
                middle = (top - ratios[index] * tile_inches / 2) / height
                figure.text(0.05 / width, middle, row_titles[index], rotation=90, va="center", ha="left", weight="bold")
            top -= heights[index] + gap
        for column, title in enumerate(column_titles[:columns]):
            centre = (margin + column * (tile_inches + gap) + tile_inches / 2) / width
            figure.text(centre, 1 - 0.05 / height, title, ha="center", va="top", weight="bold")
    return figure


def histogram(
    values: Sequence[float] | np.ndarray | Mapping[str, Sequence[float] | np.ndarray],
    *,
    title: str,
    x_label: str,
    y_label: str = "count",
    bins: int | str | Sequence[float] = 30,
    log_x: bool = False,
    marks: Mapping[str, float] | None = None,
    size: tuple[float, float] = (4.6, 2.7),
) -> Figure:
    """How often values occur.

    Args:
        values: numbers, or named groups of numbers drawn beside each other. What is not finite is left out.
        title: heading of the figure.
        x_label: what the values are.
        y_label: what is counted.
        bins: their number, their edges, or `"integers"` for one bar a whole number.
        log_x: logarithmic bins (for areas); values that are not positive are left out.
        marks: named vertical lines, for instance a threshold.
        size: width and height in inches.
    """
    groups = dict(values) if isinstance(values, Mapping) else {"": values}
    arrays = {name: np.asarray(group, dtype=np.float64).ravel() for name, group in groups.items()}
    arrays = {name: a[np.isfinite(a) & ((a > 0) | (not log_x))] for name, a in arrays.items()}
    everything = np.concatenate(list(arrays.values())) if arrays else np.zeros(0)
    if not everything.size:
        return empty(f"{title}: nothing to count", size)
    low, high = float(everything.min()), float(everything.max())
    if isinstance(bins, str):
        edges = np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    elif not isinstance(bins, int):
        edges = np.asarray(bins, dtype=np.float64)
    elif log_x:
        edges = np.geomspace(low, max(high, low * 1.01), bins + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(size)
        labels = [f"{name} ({len(group)})" for name, group in arrays.items()] if arrays.keys() != {""} else None
        for index, group in enumerate(arrays.values()):
            # Groups lie over each other, each visible through the others.
            style = {"rwidth": 0.9} if labels is None else {"alpha": 0.55, "edgecolor": COLOURS[index % len(COLOURS)]}
            label = labels[index] if labels is not None else None
            axes.hist(group, bins=edges.tolist(), label=label, color=COLOURS[index % len(COLOURS)], **style)
        if log_x:
            axes.set_xscale("log")
        if isinstance(bins, str) and high - low < 24:
            axes.set_xticks(np.arange(np.floor(low), np.ceil(high) + 1))
        for index, (name, value) in enumerate((marks or {}).items()):
            axes.axvline(value, color=COLOURS[6 - index % 3], linestyle="--", linewidth=1.4, label=name)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="x", visible=False)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        if labels or marks:
            axes.legend()
    return figure


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x_label: str = "epoch",
    y_label: str = "",
    levels: Mapping[str, float] | None = None,
    log_y: bool = False,
    limits: tuple[float | None, float | None] = (None, None),
    size: tuple[float, float] = (4.6, 2.9),
) -> Figure:
    """Lines over a common axis.

    Args:
        series: name -> (x, y). A series of one point is drawn as a dot.
        title: heading of the figure.
        x_label: what x is.
        y_label: what y is.
        levels: named horizontal lines, for instance where training began; one named as a series shares its colour.
        log_y: logarithmic y.
        limits: lowest and highest y; None leaves one to the data.
        size: width and height in inches.
    """
    if not any(len(x) for x, _ in series.values()):
        return empty(f"{title}: nothing was logged", size)
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(size)
        colours = {}
        for name, (x, y) in series.items():
            (line,) = axes.plot(x, y, label=name, marker="o" if len(x) < 30 else None, markersize=3)
            colours[name] = line.get_color()
        others = [name for name in levels or {} if name not in colours]
        for name, value in (levels or {}).items():
            if name in colours:
                axes.axhline(value, color=colours[name], linestyle="--", linewidth=1.3)
            else:
                dashes = ("--", ":", "-.")[others.index(name) % 3]
                axes.axhline(value, color=MUTED, linestyle=dashes, linewidth=1.3, label=name)
        if log_y:
            axes.set_yscale("log")
        axes.set_ylim(*limits)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=x_label in ("epoch", "step")))
        places = {value for x, _ in series.values() for value in x}
        if len(places) == 1:
            axes.set_xticks(list(places))
        axes.legend()
    return figure


def logged(
    history: Sequence[Mapping[str, Any]], keys: Mapping[str, str], x: str = "epoch"
) -> dict[str, tuple[list[float], list[float]]]:
    """Series for `curves` from what a transformers Trainer logged.

    Args:
        history: `log_history`: one mapping a log, with `epoch` and `step`.
        keys: name of a line -> key in the logs.
        x: what the lines go along, `epoch` or `step`.

    Returns:
        name -> (epochs or steps, values), for the keys that were logged at all.
    """
    series = {}
    for name, key in keys.items():
        points = [(entry[x], entry[key]) for entry in history if key in entry and x in entry]
        if points:
            series[name] = ([float(place) for place, _ in points], [float(value) for _, value in points])
    return series


def precision_recall(
    class_curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "Precision and recall at IoU 0.5",
    average_precision: Mapping[str, float] | None = None,
    size: tuple[float, float] = (4.6, 3.6),
) -> Figure:
    """A precision-recall curve for each class.

    Args:
        class_curves: class -> (recall, precision), ascending in recall, both 0..1.
        title: heading of the figure.
        average_precision: class -> AP, written into the legend.
        size: width and height in inches.
    """
    if not class_curves:
        return empty(f"{title}: no labelled boxes", size)
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(size)
        for name, (recall, precision) in class_curves.items():
            score = (average_precision or {}).get(name)
            axes.plot(recall, precision, label=name if score is None else f"{name}  {score:.3f}", linewidth=1.6)
        axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision", title=title)
        # Beside the curves, not over them: a good detector fills the whole square.
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, title="average precision", title_fontsize=8
        )
    return figure


def bars(
    groups: Mapping[str, Mapping[str, float | Sequence[float]]],
    *,
    title: str,
    y_label: str,
    limits: tuple[float | None, float | None] = (0, None),
    decimals: int = 3,
    size: tuple[float, float] = (4.8, 3.0),
) -> Figure:
    """Compare methods, measure by measure.

    Args:
        groups: measure -> method -> value, or the values of several seeds (bar: their mean; each drawn as a dot).
        title: heading of the figure.
        y_label: what the values are.
        limits: lowest and highest y; None leaves one to the data.
        decimals: digits written on the bars.
        size: width and height in inches.
    """
    methods = list(dict.fromkeys(method for measure in groups.values() for method in measure))
    if not methods:
        return empty(f"{title}: nothing to compare", size)
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(size)
        width = 0.8 / len(methods)
        for index, method in enumerate(methods):
            values = [np.atleast_1d(np.asarray(measure.get(method, np.nan), float)) for measure in groups.values()]
            centres = np.arange(len(groups)) - 0.4 + (index + 0.5) * width
            means = np.array([value.mean() for value in values])
            axes.bar(centres, means, width * 0.92, label=method, color=COLOURS[index % len(COLOURS)])
            for centre, mean, value in zip(centres, means, values, strict=True):
                if not np.isfinite(mean):
                    continue
                if len(value) > 1:
                    axes.plot([centre] * len(value), value, "o", color=INK, markersize=2.5, alpha=0.7)
                axes.annotate(f"{mean:.{decimals}f}", (centre, max(value.max(), mean)), (0, 3), ha="center",
                              textcoords="offset points", fontsize=7.5)  # fmt: skip
        axes.set_xticks(range(len(groups)), list(groups))
        axes.tick_params(axis="x", length=0, labelsize=9)
        axes.grid(axis="x", visible=False)
        axes.margins(y=0.14)
        # Bars of no height at all would leave the axis without a scale.
        axes.set_ylim(limits[0], limits[1] if limits[1] is not None or axes.dataLim.y1 > 0 else 1)
        axes.set(title=title, ylabel=y_label)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=3, borderaxespad=0)
    return figure


def empty(message: str, size: tuple[float, float] = (4.6, 0.8)) -> Figure:
    """A figure that says why there is nothing to show."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(size[0], 0.8))
        figure.text(0.02, 0.5, message, color=MUTED, va="center")
    return figure


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def _tile(entry: Tile | None) -> tuple[np.ndarray | None, str]:
    picture, text = entry if isinstance(entry, tuple) else (entry, "")
    return (None if picture is None else np.asarray(picture)), text
