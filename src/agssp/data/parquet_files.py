"""The one way to open Parquet files: one that is none, is damaged or unpacks to too much is named."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from agssp.errors import InputError
from agssp.faults import storage_fault

MOST_GROUP_BYTES = 16 * 1024**3
"""Of one row group unpacked, which is the least that is read at once."""
MOST_ROWS = 2**31
_AGAIN = "fetch or write it again, or take it away"


def check_footer(file: str | Path) -> pq.FileMetaData:
    """What a Parquet file says of itself, where that can be.

    Raises:
        InputError: it is missing, no Parquet, cut off, or says of itself what no such file can hold.
    """
    with naming(file):
        # pyarrow takes a relative path whose first folder has a colon for an address.
        footer = pq.read_metadata(Path(file).absolute())
        groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    sizes, rows = [group.total_byte_size for group in groups], [group.num_rows for group in groups]
    if min(sizes, default=0) < 0 or max(sizes, default=0) > MOST_GROUP_BYTES:
        raise InputError(
            f"{file}: says that a row group has {max(sizes):,} bytes; expected {MOST_GROUP_BYTES:,} at most: write it "
            "with smaller row groups"
        )
    if min(rows, default=0) < 0 or sum(rows) > MOST_ROWS or sum(rows) != footer.num_rows:
        raise InputError(f"{file}: its row groups say {sum(rows):,} rows, its end {footer.num_rows:,}; {_AGAIN}")
    return footer


def read_table(file: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Args:
        file: its path.
        columns: those that are wanted, and must be there; default: all.

    Raises:
        InputError: as `check_footer`; or it lacks a column, or is damaged.
    """
    names = check_footer(file).schema.to_arrow_schema().names
    missing = [name for name in columns or () if name not in names]
    if missing:
        raise InputError(f"{file}: has no column {', '.join(missing)}; it has {', '.join(names)}")
    with naming(file):
        return pq.read_table(Path(file).absolute(), columns=None if columns is None else list(columns))


@contextmanager
def naming(file: str | Path) -> Iterator[None]:
    """Around what reads a Parquet file: name it in what pyarrow raises.

    Raises:
        InputError: for all but faults of the machine.
    """
    try:
        yield
    # Damage is an OSError without a number in pages, and ValueError, KeyError or other in what pyarrow makes of them.
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        if storage_fault(error) is not None:
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{file}: cannot be opened ({error}); it must be there and readable") from error
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{file}: is not a whole Parquet file ({told}); {_AGAIN}") from error
