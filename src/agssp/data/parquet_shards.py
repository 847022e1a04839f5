"""Rows with their images as Parquet files that stand alone, written as they are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from agssp.data.encoded import read_encoded
from agssp.files import open_whole

ENCODED = ("image", "mask")
GROUP_ROWS = 100
GROUP_BYTES = 64 * 1024**2
"""A row group holds no more rows, and is ended by the image that exceeds these bytes: about as much is in memory."""
SHARD_BYTES = 500 * 1000**2
"""Of images in one file, as `datasets` has it."""


def write_shards(
    dataset: Dataset, folder: Path, name: str, *, shard_bytes: int = SHARD_BYTES, parts: Path | None = None
) -> list[Path]:
    """Write a data set as `FOLDER/NAME-00000-of-00002.parquet`, each file whole or not at all.

    The bytes of image files are put into the rows; one row group is in memory at a time. Files of another number of
    shards, as another version may have left them, are removed.

    Args:
        dataset: rows of the schema, images not decoded.
        folder: made if missing.
        name: of the split.
        shard_bytes: of images in a file, about; all have as many rows as the others, or one more.
        parts: folder of the unfinished files, as for `files.whole_file`.

    Returns:
        The files, in the order of rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = min(max(-(-image_bytes(dataset) // shard_bytes), 1), max(len(dataset), 1))
    files = [folder / f"{name}-{index:05d}-of-{count:05d}.parquet" for index in range(count)]
    for old in set(folder.glob(f"{name}-*.parquet")) - set(files):
        old.unlink()
    ends = [index * len(dataset) // count for index in range(count + 1)]
    schema = dataset.features.arrow_schema
    for file, start, end in zip(files, ends, ends[1:], strict=False):
        with open_whole(file, "wb", parts=parts) as parquet, pq.ParquetWriter(parquet, schema) as writer:
            for group in row_groups(dataset.select(range(start, end))):
                writer.write_table(pa.Table.from_arrays(group.columns, schema=schema))
    return files


def image_bytes(dataset: Dataset) -> int:
    """Bytes of all images and masks of a data set, in its rows or in files."""
    total = 0
    for table in _tables(dataset):
        for column in set(ENCODED) & set(table.column_names):
            for value in table[column].to_pylist():
                if value is not None:
                    total += Path(value["path"]).stat().st_size if value["bytes"] is None else len(value["bytes"])
    return total


def row_groups(dataset: Dataset) -> Iterator[pa.Table]:
    """The rows with the bytes of their image files, `GROUP_ROWS` at a time, or less where they are large."""
    for table in _tables(dataset):
        start = size = 0
        read: dict[str, list[Any]] = {column: [] for column in ENCODED if column in table.column_names}
        values = {column: table[column].to_pylist() for column in read}
        names = table["image_id"].to_pylist()
        for row in range(len(table)):
            for column, contents in read.items():
                contents.append(embedded(values[column][row], names[row]))
                # What is written need not stay.
                values[column][row] = None
                size += len((contents[-1] or {}).get("bytes") or b"")
            if size >= GROUP_BYTES or row == len(table) - 1:
                yield _with(table.slice(start, row + 1 - start), read)
                start, size, read = row + 1, 0, {column: [] for column in read}


def embedded(value: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    """An image that is not decoded, with the bytes of its file, of which the name alone remains.

    Args:
        value: of the column; None where the row has none.
        name: how to name the image in an error; errors are those of `read_encoded`.
    """
    if value is None or value["bytes"] is not None:
        return value
    return {"bytes": read_encoded(value, name), "path": Path(value["path"]).name}


def _tables(dataset: Dataset) -> Iterator[pa.Table]:
    return dataset.with_format("arrow").iter(batch_size=GROUP_ROWS)


def _with(table: pa.Table, read: dict[str, list[Any]]) -> pa.Table:
    for column, contents in read.items():
        position = table.schema.get_field_index(column)
        field = table.schema.field(position)
        table = table.set_column(position, field, pa.chunked_array([pa.array(contents, field.type)]))
    return table
