"""The picture on a model's card: what its training logged."""

import io
from pathlib import Path
from typing import Any

from .facts import ModelFacts

# Kind of model -> title, label of y, and names of the lines with their keys in the log; the first that was logged.
CURVES = {
    "backbone": (
        ("Alignment with held-out maps", "correlation", {"attention and anomaly map": "eval_alignment"}),
        ("Loss in training", "loss", {"loss": "loss"}),
    ),
    "detector": (
        ("mAP on held-out images", "mAP", {"mAP@.5": "eval_map_50", "mAP@.5:.95": "eval_map_50_95"}),
        ("Loss in training", "loss", {"loss": "loss"}),
    ),
}


def training_picture(facts: ModelFacts) -> tuple[bytes, str] | None:
    """A curve of the training, as PNG, and what it shows; None where nothing was logged more than once."""
    from agssp.report import figures

    begun = (facts.run.get("results") or {}).get("starting_weights") or {}
    history = [{"epoch": 0.0, **{f"eval_{name}": value for name, value in begun.items()}}, *facts.history]
    for title, y_label, keys in CURVES.get(facts.kind, ()):
        series = figures.logged(history, keys)
        if any(len(values) > 1 for _, values in series.values()):
            return _png(figures.curves(series, title=title, y_label=y_label)), title
    return None


def examples_picture(folder: Path) -> tuple[bytes, str] | None:
    """Held-out images of the corpus with the backbone's attention, as PNG; None where none were kept."""
    from agssp.report.pretraining import attention_sheet

    sheet = attention_sheet(folder)
    return None if sheet is None else (_png(sheet), "Held-out images, their anomaly maps, and where the backbone looks")


def _png(figure: Any) -> bytes:
    from agssp.report import figures

    file = io.BytesIO()
    figures.save(figure, file)
    return file.getvalue()
