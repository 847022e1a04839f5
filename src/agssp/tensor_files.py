"""The one way to open safetensors: a file that is none, is cut off or holds what torch lacks is named."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agssp.errors import InputError
from agssp.faults import storage_fault
from agssp.parsing import parse_json

if TYPE_CHECKING:
    from torch import Tensor

EXPECTED = (
    "not a readable safetensors file; pickled .pt files are never opened, because they can run code: fetch or write it "
    "again, or convert the weights with safetensors.torch.save_file"
)


@contextlib.contextmanager
def open_tensors(file: str | os.PathLike, device: Any = "cpu") -> Iterator[Any]:
    """Open a safetensors file, as `safetensors.safe_open` does; the library checks sizes and shapes before it reads.

    Args:
        file: its path.
        device: where its tensors go.

    Raises:
        InputError: it is missing, cut off, no safetensors file, or holds a type that torch lacks; also for what is read
            from it within the block.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(file).is_file():
        raise InputError(f"{file}: no such file; expected safetensors")
    try:
        with safe_open(str(file), framework="pt", device=str(device)) as content:
            yield content
    except (SafetensorError, OSError) as error:
        if storage_fault(error) is not None:
            raise
        raise InputError(f"{file}: {EXPECTED} ({error})") from error


def read_tensors(file: str | os.PathLike, device: Any = "cpu") -> "dict[str, Tensor]":
    """All tensors of a safetensors file by their names.

    Raises:
        InputError: as `open_tensors`.
    """
    with open_tensors(file, device) as content:
        # It is a dictionary in name only: it can be iterated by its keys alone.
        return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118


def facts_of(content: Any, key: str, file: str | os.PathLike) -> Any:
    """The JSON that an open safetensors file keeps in its metadata.

    Args:
        content: what `open_tensors` gives.
        key: its name there.
        file: to name in errors.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    told = content.metadata() or {}
    if key not in told:
        raise InputError(f"{file}: its metadata lack {key!r}; it is not a file of this kind")
    return parse_json(told[key], f"{file}, metadata {key!r}")
