"""Which values are refused before anything is read, and the sentence that says so."""

from dataclasses import dataclass
from math import inf, nan

import pytest

from agssp.errors import InputError
from agssp.flag_values import (
    COUNT,
    LESS_THAN_ALL,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    Range,
    check_choices,
    check_ranges,
)


@dataclass
class Flags:
    val_fraction: float | None = None
    loss_weights: list[float] | None = None
    objective: str | None = None


@pytest.mark.parametrize(
    ("legal", "inside", "outside", "words"),
    [
        (SHARE, [0, 0.5, 1], [-0.1, 1.1, nan, inf], "a number from 0 to 1"),
        (LESS_THAN_ALL, [0, 0.99], [1, -1, nan], "a number from 0 to below 1"),
        (POSITIVE, [1e-9, 7], [0, -1, nan, inf], "a number above 0"),
        (NOT_NEGATIVE, [0, 7], [-1e-9, nan, inf], "at least 0"),
        (COUNT, [1, 2], [0, -1], "at least 1"),
        (SEED, [0, 4294967295], [-1, 4294967296], "a number from 0 to 4294967295"),
        (Range(0, 1, above=True, below=True), [0.5], [0, 1], "a number above 0 to below 1"),
        (Range(32, step=32), [32, 640], [0, -32, 100, 16], "a multiple of 32"),
    ],
)
def test_ranges(legal, inside, outside, words):
    assert str(legal) == words
    assert all(value in legal for value in inside)
    assert not any(value in legal for value in outside)


def test_what_is_left_open_is_not_looked_at():
    check_ranges(Flags(2.0, [2.0], "x"))
    check_ranges(Flags(), val_fraction=SHARE, loss_weights=SHARE)
    check_choices(Flags(), objective=())
    # The same checks, where something is given.
    with pytest.raises(InputError, match=r"^--val-fraction 2.0: "):
        check_ranges(Flags(2.0), val_fraction=SHARE, loss_weights=SHARE)
    with pytest.raises(InputError, match=r"^--objective 'x': "):
        check_choices(Flags(objective="x"), objective=())


def test_the_flag_is_named_as_it_is_typed():
    with pytest.raises(InputError, match=r"^--val-fraction 1.0: expected a number from 0 to below 1$"):
        check_ranges(Flags(1.0), val_fraction=LESS_THAN_ALL)
    with pytest.raises(InputError, match=r"^--loss-weights -2: expected at least 0$"):
        check_ranges(Flags(loss_weights=[1, -2]), loss_weights=NOT_NEGATIVE)
    with pytest.raises(InputError, match=r"^--objective 'x': expected one of mocov3, none$"):
        check_choices(Flags(objective="x"), objective=("mocov3", "none"))
