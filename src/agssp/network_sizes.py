"""How large a network a saved configuration may ask for: limits of its numbers, and no more than its weights hold."""

import contextlib
import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agssp.errors import InputError
from agssp.tensor_files import open_tensors

DEPTH = re.compile(r"layers|depth|blocks|levels|stages")
LIMITS: tuple[tuple[re.Pattern[str], int], ...] = (
    (DEPTH, 512),
    (re.compile(r"vocab|position"), 1_000_000),
    (
        re.compile(
            r"size|dim|width|channels|chs|heads|points|queries|proposals|samples|detections|denoising|strides|kernel|"
            r"embed|features|groups|scale|ratio|mult|expan|hidden|d_model|patch|window|labels|length"
        ),
        16_384,
    ),
)
"""What a field is called, in part -> the largest number that it may hold; the first that fits counts.

The deepest and widest networks that are known stay well below.
"""
TOGETHER = 4096
"""Layers that a list adds up to, be they depths of stages or, as in `layers` of KeAD, places of layers."""
LONGEST = 10_000
"""Entries of a list or table, classes among them."""
CLASSES = ("id2label", "label2id")
"""Tables whose names are users' own."""

TIMES, BESIDE = 4, 100_000_000
"""A network may have so many times the numbers of its weights, and so many beside.

Loading sets each parameter a second time, and there is what no file holds: tables of positions, a new classifier.
"""
MOST_PARAMETERS = 10**10
"""Of a network whose weights nobody has seen yet; the largest of timm's have 7 thousand millions."""


def check_sizes(config: Mapping[str, Any], owner: str, file: str = "config.json") -> None:
    """Refuse a configuration that asks for more layers, channels, queries and such than any network has.

    Args:
        config: its content; what lies within is looked at as well.
        owner: whose it is, for the message: such as `detector 'me/mine'`.
        file: where it stands, for the message.

    Raises:
        InputError: a number of a field in `LIMITS` is larger than its limit or none at all, the depths of a list add up
            to more, or a list or table has more than `LONGEST` entries; the field is named.
    """
    waiting: list[tuple[str, Any, int | None]] = [("", config, None)]
    while waiting:
        name, value, limit = waiting.pop()
        if isinstance(value, Mapping | list | tuple) and len(value) > LONGEST:
            raise _too_large(owner, file, name, f"{len(value):,} entries", LONGEST)
        if isinstance(value, Mapping):
            inner = [] if name.rpartition(".")[2] in CLASSES else value.items()
            waiting += [(f"{name}.{key}".lstrip("."), part, _limit(str(key), limit)) for key, part in inner]
        elif isinstance(value, list | tuple):
            waiting += [(name, part, limit) for part in value]
            numbers = [part for part in value if _is_number(part)]
            if DEPTH.search(name.rpartition(".")[2]) and sum(numbers) > TOGETHER:
                raise _too_large(owner, file, name, f"{str(value)[:60]}, together {sum(numbers):,}", TOGETHER)
        elif limit is not None and _is_number(value) and not abs(value) <= limit:
            raise _too_large(owner, file, name, f"{value!r:.40}", limit)


def _limit(field: str, outer: int | None) -> int | None:
    return next((limit for words, limit in LIMITS if words.search(field)), outer)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _too_large(owner: str, file: str, name: str, found: str, limit: int) -> InputError:
    return InputError(
        f"{owner}: its {file} says {name}={found}; expected {limit:,} at most, and no known network has more. Ask "
        "its owner for the right one"
    )


def stored_numbers(files: Iterable[str | os.PathLike]) -> int:
    """How many numbers safetensors hold, by what stands at their beginning; the library checks it by their lengths.

    Raises:
        InputError: one cannot be read.
    """
    count = 0
    for file in files:
        with open_tensors(file) as content:
            count += sum(math.prod(content.get_slice(name).get_shape()) for name in content.keys())  # noqa: SIM118
    return count


@contextlib.contextmanager
def built_within(stored: int | None, owner: str) -> Iterator[None]:
    """Stop whatever builds networks within the block before they outgrow their weights by far.

    Each parameter and buffer is counted as a module gets it: torch has not written to its memory by then.

    Args:
        stored: numbers in the file of weights; None where it has not been seen.
        owner: whose network it is, for the message.

    Raises:
        InputError: the networks of the block have more than `TIMES` as many and `BESIDE` together, or, where the file
            has not been seen, more than `MOST_PARAMETERS`.
    """
    from torch.nn.modules.module import (
        register_module_buffer_registration_hook,
        register_module_parameter_registration_hook,
    )

    most = MOST_PARAMETERS if stored is None else TIMES * stored + BESIDE
    count, thread = 0, threading.get_ident()

    def add(module: Any, name: str, tensor: Any) -> None:
        nonlocal count
        if tensor is None or threading.get_ident() != thread:
            return
        count += tensor.numel()
        if count > most:
            held = "" if stored is None else f", but its weights hold {stored:,} numbers"
            raise InputError(
                f"{owner}: its configuration describes a network of more than {most:,} numbers (at a {name} of "
                f"{tuple(tensor.shape)}){held}; one of the two files is another's. Ask its owner for both"
            )

    hooks = [
        register(add)
        for register in (register_module_parameter_registration_hook, register_module_buffer_registration_hook)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
