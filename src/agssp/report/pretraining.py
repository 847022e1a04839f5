"""The page about a pretraining run: whether it is healthy, its curves, and where the backbone looks."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agssp.models.pretraining.distillation import map_alignment
from agssp.parsing import read_json, read_lines
from agssp.training.attention_snapshots import read_examples
from agssp.training.health import EARLY, FEWEST_IMAGES, HEALTHY, UNKNOWN, RunHealth, verdict
from agssp.training.health_monitor import REPORT

from . import figures
from .page import Picture, Row, Section, Table, Text, write_page
from .pictures import tile

MEASURES = {
    "alignment": "alignment with the maps",
    "alignment_elsewhere": "alignment with other images' maps",
    "distillation_loss": "distillation loss",
    "task_loss": "task loss",
    "accuracy": "accuracy of the categories",
    "feature_rank": "effective rank of the features",
}
# Measure -> title, label of y, names of the lines and their keys in the log, caption.
CURVES: dict[str, tuple[str, str, dict[str, str], str]] = {
    "task_loss": (
        "Task loss", "loss", {"training": "loss_task", "held-out images": "eval_task_loss"}, "Of the task alone.",
    ),
    "distillation_loss": (
        "Distillation loss", "loss",
        {"training": "loss_distillation", "held-out images": "eval_distillation_loss"},
        "Eq. 7. The constant map is attention that is the same everywhere.",
    ),
    "alignment": (
        "Alignment with the maps", "correlation",
        {"own map": "eval_alignment", "other images' maps": "eval_alignment_elsewhere"},
        "Correlation of attention and anomaly map of held-out images, -1 to 1. What remains with the maps of other "
        "images is owed to places where it always looks; the mean map is what the usual places are worth.",
    ),
    "accuracy": (
        "Accuracy of the categories", "share", {"held-out images": "eval_accuracy"}, "Of held-out images, 0 to 1.",
    ),
    "feature_rank": (
        "Effective rank of the features", "directions", {"held-out images": "eval_feature_rank"},
        "In how many directions the pooled features of held-out images vary. Near 1 they have collapsed.",
    ),
    "lambda": (
        "Weight of the distillation", "lambda", {"lambda": "loss_distillation_weight"},
        "Eq. 8: set at the first step so that both losses weigh alike, then fixed.",
    ),
    "learning_rate": (
        "Learning rate", "rate", {"learning rate": "learning_rate"}, "As the schedule had it when it was logged.",
    ),
}  # fmt: skip
FROM_ZERO = ("accuracy", "feature_rank", "lambda", "learning_rate")


def write_pretraining_page(output: Path, health: RunHealth, about: str) -> Path:
    """Write the page, which can be looked at while the run goes on.

    Args:
        output: the run's folder, with its snapshots of the attention.
        health: how it stands.
        about: what is trained, in a few words.

    Returns:
        Path of the page.
    """
    goes_on = " It goes on: this page is written anew at each evaluation, reload it to see more."
    subtitle = f"{about}. This is {health.moment}.{'' if health.finished else goes_on}"
    return write_page(output / REPORT, "Backbone pretraining", sections(output, health), subtitle)


def sections(output: Path, health: RunHealth) -> list[Section]:
    """The sections of the page; arguments as for `write_pretraining_page`."""
    pictures = curves(health)
    rows = [Row(pictures[start : start + 2]) for start in range(0, len(pictures), 2)]
    about = "Losses in training are of the weights at the time; held-out images are measured with their moving average."
    page = [Section("Is it healthy?", _verdict(health)), Section("Curves", [about, *rows])]
    sheet = attention_sheet(output)
    if sheet is not None:
        page.append(Section("Where it looks", [Text(_about_sheet(health)), Picture(sheet)]))
    return page


def curves(health: RunHealth, names: Sequence[str] | None = None) -> list[Picture]:
    """What was logged, each measure with the levels that it must be compared with; what was not is left out.

    Args:
        health: of the run.
        names: keys of `CURVES`; all of them by default.
    """
    begun = {f"eval_{name}": value for name, value in health.start.items()}
    history = [{"epoch": 0.0, "step": 0, **begun}, *health.history]
    levels = {"starting weights": health.start}
    levels |= {key.replace("_", " "): numbers for key, numbers in health.levels.items()}
    pictures = []
    for name in names or CURVES:
        title, y_label, keys, caption = CURVES[name]
        series = figures.logged(history, keys, health.unit)
        if not series:
            continue
        figure = figures.curves(
            series, title=title, x_label=health.unit, y_label=y_label,
            # A task of one's own making has no scale to compare with, and where it began says nothing.
            levels={key: numbers[name] for key, numbers in levels.items() if name in numbers and name != "task_loss"},
            limits=(0, None) if name in FROM_ZERO else (None, None),
        )  # fmt: skip
        pictures.append(Picture(figure, caption))
    return pictures


def attention_sheet(output: Path) -> Any:
    """The held-out examples: image, anomaly map, and the attention of each layer at each kept moment.

    Args:
        output: the run's folder.

    Returns:
        A matplotlib figure; None if no attention was kept.
    """
    examples = read_examples(output)
    if examples is None or not examples.snapshots:
        return None
    stages = list(examples.snapshots[0].attention)
    columns = ["image"] + ["anomaly map"] * (examples.anomaly_maps is not None)
    columns += [f"{stage}\n{snapshot.moment}" for stage in stages for snapshot in examples.snapshots]
    rows = []
    for index, image in enumerate(examples.images):
        row: list[Any] = [tile(image, side=200)]
        if examples.anomaly_maps is not None:
            row.append(tile(image, anomaly_map=examples.anomaly_maps[index].numpy(), side=200))
        for stage in stages:
            for snapshot in examples.snapshots:
                attention = snapshot.attention[stage][index]
                picture = tile(image, anomaly_map=attention.numpy(), side=200)
                if examples.anomaly_maps is None:
                    row.append(picture)
                else:
                    agreement = map_alignment(attention[None], examples.anomaly_maps[index][None]).item()
                    row.append((picture, f"{agreement:.2f}".replace("-0.00", "0.00")))
        rows.append(row)
    names = [name.replace("_", " ") for name in examples.categories]
    return figures.contact_sheet(rows, column_titles=columns, row_titles=names, tile_inches=1.3)


def read_health(output: Path) -> RunHealth:
    """How a finished run ended, from its run.json and log.jsonl."""
    run = read_json(output / "run.json", keys=("results", "arguments"))
    log = list(read_lines(output / "log.jsonl"))
    results, step = run["results"], max((entry["step"] for entry in log), default=0)
    unit = "step" if run["arguments"]["streaming"] else "epoch"
    # Runs of earlier versions have neither levels nor the number of images.
    images, levels = results.get("held_out", 0), results.get("levels", {})
    return RunHealth(log, results["starting_weights"], levels, images, step, step, unit)


def _verdict(health: RunHealth) -> list[Any]:
    words, problems = verdict(health)
    sound = "The losses are finite" + (", the features have not collapsed" if health.start else "")
    text = {
        HEALTHY: f"**Healthy.** {sound}, and the attention agrees with the anomaly maps better than that of the "
        "starting weights, better than any fixed one, and differently in each image."
        if health.levels
        else f"**Healthy.** {sound}. No maps are distilled, so there is nothing to compare the attention with.",
        EARLY: f"**Too early to say.** {sound}. Whether the maps are learned shows later.",
        UNKNOWN: f"**Not measured.** {sound}. More can be said if images are held out (`--val-fraction`).",
    }.get(words, "")
    notes = [Text(f"**Something looks wrong.** {problem}", note=True) for problem in problems[:1]]
    notes += [Text(problem, note=True) for problem in problems[1:]]
    blocks: list[Any] = notes or [Text(text)]
    if 0 < health.images < FEWEST_IMAGES:
        blocks.append(f"With {health.images} held-out images all of this is a hint; hold out more (`--val-fraction`).")
    if health.start:
        latest, levels = health.latest, {key.replace("_", " "): numbers for key, numbers in health.levels.items()}
        sources = [latest, health.start, *levels.values()]
        rows = [
            (title, *(numbers.get(name, math.nan) for numbers in sources))
            for name, title in MEASURES.items()
            if name in latest
        ]
        header = (f"{health.images} held-out images", "now", "starting weights", *levels)
        blocks.append(Table(header, rows))
    return blocks


def _about_sheet(health: RunHealth) -> str:
    text = (
        "Held-out images, spread over the categories, and the attention of the backbone (Eq. 6) on them: at the start, "
        "in the middle and now. Each picture's heat runs from its own lowest to its own highest value."
    )
    if health.levels:
        text += (
            " Striking maps and ordinary ones take turns. Below each attention is its correlation with the map: what "
            "an image without any defect shows there means little."
        )
    return text
