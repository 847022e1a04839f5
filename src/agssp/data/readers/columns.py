"""Add or replace a column of a table or a stream, leaving all others where they are."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from datasets import Dataset, Features, IterableDataset

Make = Callable[[dict[str, Any]], Any]


def with_column(dataset: Any, name: str, feature: Any, inputs: Sequence[str], make: Make) -> Any:
    """Add or replace a column made from others.

    Args:
        dataset: a `Dataset` or `IterableDataset`.
        name: of the column.
        feature: its type.
        inputs: the columns that it is made from.
        make: gives its value for a row. For a stream it must be no closure but something that can be pickled, for the
            workers of a DataLoader.
    """
    if isinstance(dataset, IterableDataset):
        return dataset.map(partial(_made, name, make), features=Features({**dataset.features, name: feature}))
    return with_values(dataset, name, feature, [make(row) for row in dataset.select_columns(list(inputs))])


def with_values(dataset: Dataset, name: str, feature: Any, values: list[Any]) -> Dataset:
    """Add or replace a column of a table by its values."""
    if name in dataset.features:
        dataset = dataset.remove_columns(name)
    return dataset.add_column(name, values, feature=feature)


def _made(name: str, make: Make, row: dict[str, Any]) -> dict[str, Any]:
    return {name: make(row)}
