"""What is given to a step as its model: the name of one, or the model itself."""

from pathlib import Path
from typing import Any


def model_name(model: Any) -> str:
    """How a model is called in messages and records: as it was named, or where it was opened from.

    Args:
        model: a path, a Hub id, or a model of ours.
    """
    if isinstance(model, str | Path):
        return str(model)
    place = getattr(getattr(model, "config", None), "name_or_path", "") or getattr(model, "name_or_path", "")
    return str(place) or f"the given {type(model).__name__}"
