"""Open data sets that are tables already: Parquet, `save_to_disk`, the Hub."""

import contextlib
import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    Dataset,
    DatasetDict,
    IterableDatasetDict,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError

from agssp.data.readers.listing import list_files
from agssp.data.readers.splits import SPLIT_WORDS
from agssp.errors import InputError
from agssp.hub_ids import near_hint

logger = logging.getLogger(__name__)

SHARD_NAME = re.compile(r"([A-Za-z]\w*)-\d{5}-of-\d{5}")


def load_table(source: str, kind: str, split: str | None, streaming: bool) -> Any:
    """Open one split of a Parquet file or folder, a `save_to_disk` folder, or a Hub data set, as it is.

    Raises:
        InputError: it cannot be opened, has no such split, or has several and none is `train`.
    """
    try:
        if kind == "saved":
            loaded: Any = load_from_disk(_literal(source))
        elif kind == "parquet":
            files = parquet_splits(Path(source))
            # `datasets` opens those of all splits, too, but does not say which one is broken.
            for file in chain.from_iterable(files.values()):
                _check_footer(file)
            # `datasets` takes names of files for patterns; [ ] * ? in the name of a folder would mean other folders.
            patterns = {
                name: [glob.escape(_literal(file, variables=not streaming)) for file in paths]
                for name, paths in files.items()
            }
            loaded = load_dataset("parquet", data_files=patterns, streaming=streaming)
        else:
            loaded = load_dataset(source, streaming=streaming)
    except InputError:
        raise
    except Exception as error:  # the Hub, the network, Parquet and `datasets` each have their own
        what = {"saved": "a save_to_disk folder", "parquet": "Parquet", "hub": "a data set of the Hub"}[kind]
        here = f", and no file or folder of this name is here{near_hint(source)}" if kind == "hub" else ""
        offline = isinstance(error, ConnectionError) and constants.HF_HUB_OFFLINE
        told = "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it" if offline else _told(error)
        raise InputError(f"{source}: could not be read as {what}{here}: {told}") from error
    if isinstance(loaded, (DatasetDict, IterableDatasetDict)):
        available = list(loaded)
        chosen = split or ("train" if "train" in loaded else available[0])
        if chosen not in loaded or (split is None and chosen != "train" and len(available) > 1):
            raise InputError(f"{source}: has no split {chosen if split else 'train'!r}; it has {', '.join(available)}")
        if split is None and len(available) > 1:
            logger.warning("%s: reads its split %s of %s", source, chosen, ", ".join(available))
        loaded = loaded[chosen]
    elif split is not None:
        raise InputError(f"{source}: is a single table without splits, but split {split!r} was asked for")
    if streaming and isinstance(loaded, Dataset):
        return loaded.to_iterable_dataset(num_shards=min(8, len(loaded)))
    return loaded


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
    """Around what only reads a table that was opened before: say which one breaks off, as streams do.

    Args:
        source: as it was opened.

    Raises:
        InputError: for whatever pyarrow, the file system and the Hub's client raise.
    """
    try:
        yield
    except (pa.ArrowException, OSError, HTTPError) as error:
        # What pyarrow finds wrong in a page is an OSError without a number; the Hub's refusals have none either.
        damaged = isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)
        advice = "one of its files is damaged: write or fetch it again" if damaged else "run the same command to go on"
        raise InputError(f"{source}: reading it broke off ({_told(error)}); {advice}") from error


class NamedRows:
    """Rows whose faults name the data set that they come from, see `reading`; can be gone through again and again.

    Args:
        rows: any that can be gone through.
        source: as it was opened.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], source: str) -> None:
        self.rows, self.source = rows, source

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with reading(self.source):
            yield from self.rows


def _literal(path: str, variables: bool = False) -> str:
    """A path that `datasets` takes for nothing else, such as a home folder or an address.

    Args:
        path: of a file or folder.
        variables: whether it will put in the values of environment variables, as it does for files that it copies.

    Raises:
        InputError: there is no such way to write it.
    """
    full = str(Path(path).absolute())
    misread = {"::": "::" in full, "$": variables and os.path.expandvars(full) != full}
    for what, taken_for in (("::", "a chain of addresses"), ("$", "a variable")):
        if misread[what]:
            raise InputError(
                f"{path}: `datasets` takes the {what!r} in this name for {taken_for}, and would look elsewhere; "
                "rename the folder or file"
            )
    return full


def _told(error: BaseException) -> str:
    """An error in words: what `datasets` found wrong, not that it did."""
    if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _check_footer(file: str) -> None:
    try:
        pq.read_metadata(Path(file).absolute())
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{file}: cannot be opened ({error}); it must be there and readable") from error
        raise InputError(
            f"{file}: is not a whole Parquet file ({_told(error)}); fetch or write it again, or take it away"
        ) from error


def parquet_splits(source: Path) -> dict[str, list[str]]:
    """The files of each split of a Parquet file or folder, told by their names."""
    if source.is_file():
        return {"train": [str(source)]}
    splits: dict[str, list[str]] = {}
    for name in list_files(source):
        if name.endswith(".parquet"):
            # `test-00000-of-00004.parquet`, `test.parquet`, `test/any.parquet` belong to `test`, all else to `train`.
            stem = name.rsplit("/", 1)[-1].removesuffix(".parquet")
            shard = SHARD_NAME.fullmatch(stem)
            told = [part for part in (*name.split("/")[:-1], shard[1] if shard else stem) if part in SPLIT_WORDS]
            splits.setdefault(told[-1] if told else "train", []).append(str(source / name))
    return splits
