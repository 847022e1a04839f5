"""How a data set is called that was named by a path or a Hub id, or given as one."""

from pathlib import Path
from typing import Any

GIVEN = "the given data set"


def source_name(source: Any) -> str:
    """How a data set is called in messages and records: as it was named, or that it was given as one.

    Args:
        source: a path, a Hub id, or a `Dataset` or `IterableDataset`.
    """
    return str(source) if isinstance(source, str | Path) else GIVEN
