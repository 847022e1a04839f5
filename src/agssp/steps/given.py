"""What is given to a step: the name of something that may be a path, a Hub id, or the thing itself."""

from pathlib import Path
from typing import Any

GIVEN_DATASET = "the given data set"


def dataset_name(dataset: Any) -> str:
    """How a data set is called in messages and records: as it was named, or that it was given as one.

    Args:
        dataset: a path, a Hub id, or a `Dataset`.
    """
    return str(dataset) if isinstance(dataset, str | Path) else GIVEN_DATASET


def model_name(model: Any) -> str:
    """How a model is called in messages and records: as it was named, or where it was opened from.

    Args:
        model: a path, a Hub id, or a model of ours.
    """
    if isinstance(model, str | Path):
        return str(model)
    place = getattr(getattr(model, "config", None), "name_or_path", "") or getattr(model, "name_or_path", "")
    return str(place) or f"the given {type(model).__name__}"
