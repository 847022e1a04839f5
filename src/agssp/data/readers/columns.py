"""Add or replace a column of a table or a stream, leaving all others where they are."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
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
    # As an array the column takes `datasets` a quarter of the time: it hashes what it is given.
    column = pa.array(values, Features({name: feature}).arrow_schema.field(name).type)
    return dataset.add_column(name, column, feature=feature)


def with_constant(dataset: Any, name: str, feature: Any, value: Any) -> Any:
    """Add or replace a column that has one value in all rows of a table or a stream."""
    if isinstance(dataset, IterableDataset):
        return with_column(dataset, name, feature, [], partial(_constant, value))
    return with_values(dataset, name, feature, [value] * len(dataset))


def _constant(value: Any, row: dict[str, Any]) -> Any:
    return value


def _made(name: str, make: Make, row: dict[str, Any]) -> dict[str, Any]:
    return {name: make(row)}
