"""Open data sets that are tables already: Parquet, `save_to_disk`, the Hub."""

import contextlib
import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import (
    Dataset,
    DatasetDict,
    IterableDatasetDict,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError

from agssp.data.parquet_files import check_footer
from agssp.data.readers.listing import list_files
from agssp.data.readers.report import ReadReport
from agssp.data.readers.splits import default_split, same_split, split_in, split_named
from agssp.errors import InputError, StorageError
from agssp.faults import raise_storage_fault, storage_fault
from agssp.hub_client.names import near_hint

logger = logging.getLogger(__name__)

BUILDERS = ("parquet", "arrow", "csv", "json", "imagefolder", "cache")
"""What a repository of the Hub may be, as `datasets` calls it; others open files of further libraries, or pickles.

Those of WebDataset archives have no column `image`, and their members are decoded by their suffixes, `.pth` among them.
"""
SHARD_NAME = re.compile(r"([A-Za-z]\w*)-\d{5}-of-\d{5}")


def load_table(source: str, kind: str, split: str | None, streaming: bool, report: ReadReport) -> Any:
    """Open one split of a Parquet file or folder, a `save_to_disk` folder, or a Hub data set, as it is.

    Args:
        source: the file, folder or Hub id.
        kind: `parquet`, `saved` or `hub`.
        split: the asked one, in any spelling; default: that for training, or the only one.
        streaming: open it as a stream.
        report: gets a note where one of several is read.

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
                check_footer(file)
            # `datasets` takes names of files for patterns; [ ] * ? in the name of a folder would mean other folders.
            patterns = {
                name: [glob.escape(_literal(file, variables=not streaming)) for file in paths]
                for name, paths in files.items()
            }
            loaded = load_dataset("parquet", data_files=patterns, streaming=streaming)
        else:
            loaded = _of_the_hub(source, streaming)
    except InputError:
        raise
    except Exception as error:  # the Hub, the network, Parquet and `datasets` each have their own
        raise_storage_fault(error, source)
        what = {"saved": "a save_to_disk folder", "parquet": "Parquet", "hub": "a data set of the Hub"}[kind]
        here = f", and no file or folder of this name is here{near_hint(source)}" if kind == "hub" else ""
        offline = isinstance(error, ConnectionError) and constants.HF_HUB_OFFLINE
        told = "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it" if offline else _told(error)
        raise InputError(f"{source}: could not be read as {what}{here}: {told}") from error
    if isinstance(loaded, (DatasetDict, IterableDatasetDict)):
        available = list(loaded)
        chosen = default_split(available) if split is None else _asked_split(available, split)
        if chosen is None:
            told = f"{source}: has no split {split or 'train'!r}; it has {', '.join(available)}"
            raise InputError(f"{told}; say which one is to be read")
        if split is None and len(available) > 1:
            report.note("split_by_default", f"{chosen} of {', '.join(available)} in {source}")
        loaded = loaded[chosen]
    elif split is not None:
        raise InputError(f"{source}: is a single table without splits, but split {split!r} was asked for")
    if streaming and isinstance(loaded, Dataset):
        return loaded.to_iterable_dataset(num_shards=min(8, len(loaded)))
    return loaded


def _of_the_hub(source: str, streaming: bool) -> Any:
    """`load_dataset` of a repository, which takes its files for what their names say, with those of `BUILDERS` alone.

    Raises:
        InputError: its files are of another kind; nothing of them has been fetched.
    """
    builder: Any = load_dataset_builder(source)
    if (kind := type(builder).__module__.rpartition(".")[2]) not in BUILDERS:
        raise InputError(
            f"{source}: `datasets` takes its files for {kind!r}, and only {', '.join(BUILDERS)} are opened; ask its "
            "owner for Parquet with a column `image`, or fetch it, and give the folder"
        )
    if streaming:
        return builder.as_streaming_dataset()
    builder.download_and_prepare()
    return builder.as_dataset()


def _asked_split(available: Sequence[str], split: str) -> str | None:
    """The split of that name, or the only one that is another spelling of it."""
    alike = [name for name in available if same_split(name, split)]
    return split if split in available else alike[0] if len(alike) == 1 else None


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
    """Around what only reads a table that was opened before: say which one breaks off, as streams do.

    Args:
        source: as it was opened.

    Raises:
        InputError: for whatever pyarrow, the file system and the Hub's client raise.
        StorageError: for what passes of that.
    """
    try:
        yield
    except (pa.ArrowException, OSError, HTTPError) as error:
        # What pyarrow finds wrong in a page is an OSError without a number; the Hub's refusals have none either.
        damaged = isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)
        advice = "one of its files is damaged: write or fetch it again" if damaged else "run the same command to go on"
        kind = InputError if storage_fault(error) is None else StorageError
        raise kind(f"{source}: reading it broke off ({_told(error)}); {advice}") from error


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


def parquet_splits(source: Path) -> dict[str, list[str]]:
    """The files of each split of a Parquet file or folder, told by their names."""
    if source.is_file():
        return {"train": [str(source)]}
    splits: dict[str, list[str]] = {}
    for name in list_files(source):
        if name.lower().endswith(".parquet"):
            told = _split_of_table(name) or "train"
            known = next((other for other in splits if same_split(other, told)), told)
            splits.setdefault(known, []).append(str(source / name))
    return splits


def _split_of_table(name: str) -> str | None:
    """The split that a Parquet file is of, as its name or the last of its folders that tells spells it.

    `test-00000-of-00004.parquet`, `test_0.parquet`, `Test.parquet` and `test/any.parquet` are of a test split.
    """
    *folders, own = name.split("/")
    stem = own[: own.rfind(".")]
    shard = SHARD_NAME.fullmatch(stem)
    word = shard[1] if shard else stem
    if split_named(word):
        return word
    return split_in(word) or next((folder for folder in reversed(folders) if split_named(folder)), None)
