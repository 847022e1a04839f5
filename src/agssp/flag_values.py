"""What values a flag may have, and the one sentence that says so when it has another."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`.

    Attributes:
        low: the lowest number.
        high: the highest; infinity itself is in no range.
        above: whether `low` itself is left out.
        below: whether `high` itself is left out.
        step: the numbers are multiples of this one, where it is given.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    step: int | None = None

    def __contains__(self, value: Any) -> bool:
        if not math.isfinite(value) or (self.step is not None and value % self.step):
            return False
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        if self.step is not None:
            return f"a multiple of {self.step}"
        low, high = (f"{value:.12g}" for value in (self.low, self.high))
        low = f"above {low}" if self.above else low
        if self.high == math.inf:
            return f"a number {low}" if self.above else f"at least {low}"
        return f"a number {low if self.above else f'from {low}'} to {'below ' if self.below else ''}{high}"


SHARE = Range(0, 1)
LESS_THAN_ALL = Range(0, 1, below=True)
POSITIVE = Range(0, above=True)
NOT_NEGATIVE = Range(0)
COUNT = Range(1)
SEED = Range(0, 2**32 - 1)


def flag(name: str) -> str:
    """A field's name as it is typed."""
    return f"--{name.replace('_', '-')}"


def check_ranges(arguments: Any, **ranges: Range) -> None:
    """Refuse numbers that a command cannot run with, before anything is read or computed.

    Args:
        arguments: instance of a dataclass of flags; fields that are None are left open, lists are checked item by item.
        ranges: what each field may be, by its name.

    Raises:
        InputError: the flag, what was expected and what came.
    """
    for name, legal in ranges.items():
        value = getattr(arguments, name)
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if number is not None and number not in legal:
                raise InputError(f"{flag(name)} {number}: expected {legal}")


def check_choices(arguments: Any, **choices: Iterable[str]) -> None:
    """Refuse words that a command does not know.

    Args:
        arguments: instance of a dataclass of flags; fields that are None are left open.
        choices: what each field may be, by its name.

    Raises:
        InputError: the flag, what was expected and what came.
    """
    for name, legal in choices.items():
        value = getattr(arguments, name)
        if value is not None and value not in legal:
            raise InputError(f"{flag(name)} {value!r}: expected one of {', '.join(legal)}")
