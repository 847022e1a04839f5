"""Figures hold what they were given, and say so when that is nothing."""

import numpy as np
import pytest
from PIL import Image

from agssp.report import figures

RED = Image.new("RGB", (40, 20), "red")


@pytest.mark.parametrize(
    "figure",
    [
        figures.contact_sheet([]),
        figures.contact_sheet([[]]),
        figures.histogram([], title="areas", x_label="px"),
        figures.histogram({"a": [np.nan], "b": []}, title="areas", x_label="px"),
        figures.curves({}, title="loss"),
        figures.curves({"loss": ([], [])}, title="loss"),
        figures.precision_recall({}),
        figures.bars({}, title="mAP", y_label="mAP"),
    ],
)
def test_nothing_to_show_is_said_in_words(figure):
    assert not figure.axes
    assert figure.texts[0].get_text().split(":")[-1].strip()


def test_contact_sheet_places_every_picture():
    figure = figures.contact_sheet(
        [[(RED, "one"), RED, None], [np.zeros((80, 20, 3), np.uint8)]], column_titles=("a", "b", "c"), row_titles=("x",)
    )
    assert len(figure.axes) == 3
    assert {"one", "a", "b", "c", "x"} == {text.get_text() for text in figure.texts}
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    assert boxes[0].y0 > boxes[2].y1


def test_histogram_counts_everything_once():
    figure = figures.histogram(
        {"normal": [0.1, 0.2, np.nan], "defect": [0.9]}, title="scores", x_label="score", marks={"T": 0.5}
    )
    axes = figure.axes[0]
    assert sum(patch.get_height() for patch in axes.patches) == 3
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["normal (2)", "defect (1)", "T"]


@pytest.mark.parametrize("values", [[3, 3, 3], [0, 1, 5]])
def test_histogram_of_whole_numbers_has_one_bar_each(values):
    axes = figures.histogram(values, title="boxes", x_label="boxes", bins="integers").axes[0]
    heights = [patch.get_height() for patch in axes.patches]
    assert len(heights) == max(values) - min(values) + 1
    assert sum(heights) == len(values)


def test_histogram_on_a_logarithmic_axis_leaves_out_zero():
    axes = figures.histogram([0, 10, 1000], title="area", x_label="px²", log_x=True).axes[0]
    assert axes.get_xscale() == "log"
    assert sum(patch.get_height() for patch in axes.patches) == 2


def test_curves_draw_levels_and_series():
    axes = figures.curves({"alignment": ([1, 2], [0.1, 0.4])}, title="t", levels={"constant map": 0.0}).axes[0]
    assert [line.get_label() for line in axes.lines] == ["alignment", "constant map"]


def test_levels_named_as_a_series_share_its_colour():
    series = {"mean": ([1, 2], [0.1, 0.4]), "pooled": ([1, 2], [0.2, 0.3])}
    axes = figures.curves(series, title="t", levels={"pooled": 0.25, "other": 0.1}).axes[0]
    mean, pooled, level, other = axes.lines
    assert level.get_color() == pooled.get_color() != mean.get_color()
    assert other.get_color() == figures.MUTED
    # Such a level needs no second line in the legend.
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean", "pooled", "other"]


def test_bars_show_means_of_seeds_and_leave_gaps():
    axes = figures.bars(
        {"mAP@.5": {"scratch": [0.2, 0.4], "AGSSP": 0.5}, "AP": {"AGSSP": 0.1}}, title="t", y_label="y"
    ).axes[0]
    heights = [patch.get_height() for patch in axes.patches]
    np.testing.assert_allclose(heights, [0.3, np.nan, 0.5, 0.1])
    assert [text.get_text() for text in axes.texts] == ["0.300", "0.500", "0.100"]


def test_precision_recall_writes_the_average_precision():
    figure = figures.precision_recall({"pit": ([0, 1], [1, 0.5])}, average_precision={"pit": 0.75})
    assert "pit  0.750" in figure.axes[0].get_legend().get_texts()[0].get_text()


def test_save_writes_a_picture(tmp_path):
    figures.save(figures.contact_sheet([[RED]]), tmp_path / "sheet.png", dpi=50)
    with Image.open(tmp_path / "sheet.png") as picture:
        pixel = picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))
    assert pixel == (255, 0, 0)


def test_logged_picks_the_series_of_a_trainer():
    history = [
        {"epoch": 1, "loss": 3.0},
        {"epoch": 1, "eval_alignment": 0.1},
        {"epoch": 2, "loss": 2.0},
        {"train_runtime": 5},
    ]
    series = figures.logged(history, {"total": "loss", "alignment": "eval_alignment", "missing": "no"})
    assert series == {"total": ([1.0, 2.0], [3.0, 2.0]), "alignment": ([1.0], [0.1])}
    assert figures.logged([], {"total": "loss"}) == {}
