"""How a data set's masks are to be read, decided from its first ones: which values are defects, which are ignored."""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from agssp.data.images import ImageError
from agssp.data.stored_mask import (
    BITS,
    COLOUR,
    GREY,
    LOSSY_BLACK,
    LOSSY_COLOUR,
    PALETTE,
    VOC_VOID,
    MaskLook,
    StoredMask,
    full_value,
    look_at,
    read_stored_mask,
)
from agssp.errors import InputError

logger = logging.getLogger(__name__)

DECIDING = 100
"""Masks from which the reading is decided."""
TWO_VALUES, NUMBERS, LEVELS, FROM_HALF = "two values", "numbers", "levels", "from half"
# Grey levels that are meant to be told apart by eye lie at least so far apart, of 255.
LEVEL_GAP = 32
# Of a lossy file: what it makes of black.
NOISE = 16


@dataclass(frozen=True)
class DefectMask:
    """Where a mask shows defects.

    Attributes:
        defect: bool (H, W).
        ignored: bool (H, W) of pixels of which nothing is known, such as VOC's void border; None where there are none.
    """

    defect: np.ndarray
    ignored: np.ndarray | None = None


@dataclass(frozen=True)
class ValueReading:
    """How grey values, or the indices of a palette, are read.

    Attributes:
        rule: `TWO_VALUES` (0 and `full`), `NUMBERS` (all but 0 are defects), `LEVELS` (the same of grey levels, `full`
            among them) or `FROM_HALF` (defects from half of `full` on).
        full: 255 or 65535; 0 where numbers are larger.
        ignored: whether `full` is ignored.
        numbers: the values of the masks that decided.
    """

    rule: str
    full: int
    ignored: bool
    numbers: frozenset[int]

    def words(self) -> str:
        """The rule in words."""
        if self.rule == TWO_VALUES or (self.rule == NUMBERS and self.numbers == {1}):
            return f"0 is sound, {max(self.numbers)} a defect"
        if self.rule == FROM_HALF:
            return f"shades, from {self.half} on a defect"
        if self.rule == LEVELS:
            return f"levels ({_few(self.numbers)}), each but 0 a defect"
        return "class numbers, each but 0 a defect" + (f", {self.full} beside them ignored" if self.ignored else "")

    @property
    def half(self) -> int:
        """The lowest defect of `FROM_HALF`."""
        return (self.full + 1) // 2

    def fault(self, look: MaskLook) -> str | None:
        """How a mask contradicts the masks that decided; None if it does not."""
        numbers = look.numbers
        highest = max(numbers, default=0)
        if not numbers:
            return None
        if self.rule == FROM_HALF:
            noise = NOISE if look.lossy else 0
            return f"holds no value from {self.half} on, {highest} at most" if noise < highest < self.half else None
        if self.rule == TWO_VALUES and numbers != {self.full}:
            return f"holds {_few(numbers - {self.full})} beside 0 and {self.full}"
        if self.rule == LEVELS and not _are_levels(numbers | self.numbers, self.full):
            return f"holds {_few(numbers - self.numbers)}, which is none of the levels {_few(self.numbers)}"
        new = self.full in numbers and self.full not in self.numbers
        if self.rule == NUMBERS and new and (numbers == {self.full} or _are_levels(numbers | self.numbers, self.full)):
            return f"holds {self.full}, and the others hold class numbers without it"
        if self.ignored and highest > self.full and self.full in numbers | self.numbers:
            return f"holds {highest}, so that {self.full} is a number like any other"
        return None

    def apply(self, values: np.ndarray) -> DefectMask:
        """Read values (H, W)."""
        if self.rule == FROM_HALF:
            return DefectMask(values >= self.half)
        if not self.ignored:
            return DefectMask(values > 0)
        ignored = values == self.full
        return DefectMask((values > 0) & ~ignored, ignored if ignored.any() else None)


@dataclass(frozen=True)
class MaskReading:
    """How all masks of a data set are read, the same in each process and each pass.

    Attributes:
        looked_at: how many masks decided.
        kinds: which kinds of `StoredMask` were among them.
        grey: of grey values; None where none of those masks had any but 0.
        palette: of palettes, likewise.
    """

    looked_at: int = 0
    kinds: tuple[str, ...] = ()
    grey: ValueReading | None = None
    palette: ValueReading | None = None

    @classmethod
    def of(cls, masks: Iterable[tuple[str, Any]], source: str) -> "MaskReading":
        """Decide from the first `DECIDING` masks, or from more while those are all empty.

        Masks that cannot be read decide nothing; they are named where they are read.

        Args:
            masks: name and mask, as `decode_image` takes it, in the order of the data set's rows.
            source: names the data set in errors.

        Raises:
            InputError: masks contradict each other; they are named.
        """
        looks: list[tuple[str, MaskLook]] = []
        for name, value in masks:
            with contextlib.suppress(ImageError):
                looks.append((name, look_at(read_stored_mask(value, name))))
            if len(looks) >= DECIDING and any(look.numbers or look.kind in (BITS, COLOUR) for _, look in looks):
                break
        return decide(looks, source)

    def decode(self, value: Any, name: str) -> DefectMask:
        """Read one mask.

        Args:
            value: whatever `decode_image` takes.
            name: how to name the mask in an error.

        Raises:
            ImageError: it cannot be read, or contradicts the masks that decided.
        """
        return self.read(read_stored_mask(value, name), name)

    def read(self, mask: StoredMask, name: str) -> DefectMask:
        """Read one mask whose values are known; arguments and errors as of `decode`."""
        if mask.kind == BITS:
            return DefectMask(mask.values)
        if mask.kind == COLOUR or (mask.in_colour and COLOUR in self.kinds):
            return _of_colours(mask)
        look = look_at(mask)
        if not look.numbers:
            return DefectMask(np.zeros(mask.values.shape, bool))
        reading = self.grey if mask.kind == GREY else self.palette
        # Of a kind that the first masks did not show, only what can be read in one way is taken.
        fault = (reading or _TWO_VALUES).fault(look)
        if fault is not None:
            raise ImageError(
                f"{name}: {fault}, unlike the first {self.looked_at} masks, which are {self.words()}; store all masks "
                "alike, such as 0 for sound pixels and 255 for defects"
            )
        return (reading or _TWO_VALUES).apply(mask.values)

    @property
    def is_plain(self) -> bool:
        """Whether there are but two values, so that nothing had to be guessed."""
        return (self.grey is None or self.grey.rule == TWO_VALUES) and set(self.kinds) <= {BITS, GREY}

    def words(self) -> str:
        """The reading in words, a part for each kind of mask."""
        parts = {
            BITS: "one bit, set for a defect",
            GREY: f"grey values: {self.grey.words()}" if self.grey else "grey values, all 0",
            PALETTE: f"indices of a palette: {self.palette.words()}" if self.palette else "indices of a palette, all 0",
            COLOUR: f"colours, each but black a defect, VOC's border {VOC_VOID} ignored",
        }
        return "; ".join(text for kind, text in parts.items() if kind in self.kinds) or "none that can be read"

    def tell(self, source: str) -> None:
        """Log the reading: a warning unless nothing was guessed."""
        level = logging.INFO if self.is_plain else logging.WARNING
        logger.log(level, "%s: masks are read as %s (by the first %d)", source, self.words(), self.looked_at)


def decide(looks: Sequence[tuple[str, MaskLook]], source: str) -> MaskReading:
    """The reading that masks admit.

    Args:
        looks: names and looks of the first masks.
        source: names the data set in errors.

    Raises:
        InputError: masks contradict each other; they are named.
    """
    kinds = {look.kind for _, look in looks}
    grey = [
        (name, look)
        for name, look in looks
        if look.kind == GREY and look.numbers and not (look.in_colour and COLOUR in kinds)
    ]
    palette = [(name, look) for name, look in looks if look.kind == PALETTE and look.numbers]
    return MaskReading(
        len(looks),
        tuple(sorted(kinds)),
        _grey_reading(grey, source) if grey else None,
        _number_reading(palette, source, void=any(look.void for _, look in palette)) if palette else None,
    )


def _grey_reading(looks: Sequence[tuple[str, MaskLook]], source: str) -> ValueReading:
    numbers = frozenset[int]().union(*(look.numbers for _, look in looks))
    full = full_value(numbers)
    inner, half = numbers - {full}, (full + 1) // 2
    if any(look.lossy for _, look in looks):
        if max(numbers) < half:
            name, look = max(looks, key=lambda entry: max(entry[1].numbers))
            raise InputError(
                f"{source}: its masks are of a lossy format, like JPEG, in which defects are expected from {half} on, "
                f"but none holds more than {max(look.numbers)} ({name}); class numbers need PNG"
            )
        return ValueReading(FROM_HALF, full, False, numbers)
    shades, asked = (sum(look.shades[index] for _, look in looks) for index in (0, 1))
    high = [number for number in inner if number >= half]
    if full and high and (len(high) == len(inner) or shades * 2 >= asked):
        return ValueReading(FROM_HALF, full, False, numbers)
    if full in numbers and inner and _are_levels(numbers, full):
        return ValueReading(LEVELS, full, False, numbers)
    return _number_reading(looks, source)


def _number_reading(looks: Sequence[tuple[str, MaskLook]], source: str, void: bool = False) -> ValueReading:
    numbers = frozenset[int]().union(*(look.numbers for _, look in looks))
    full = full_value(numbers)
    if numbers == {full} and not void:
        return ValueReading(TWO_VALUES, full, False, numbers)
    alone = next((name for name, look in looks if look.numbers == {full}), None)
    beside = any(full in look.numbers and len(look.numbers) > 1 for _, look in looks)
    # Numbers that run up to it are no class numbers with one apart from them.
    ignored = full > 0 and full - 1 not in numbers
    if ignored and alone and not beside and not void:
        other, look = next((name, look) for name, look in looks if full not in look.numbers)
        raise InputError(
            f"{source}: {alone} holds {full} alone and {other} {_few(look.numbers)}, and no mask both, so that {full} "
            "may be a defect or ignored; store all masks alike, such as 0 for sound pixels and 255 for defects"
        )
    return ValueReading(NUMBERS, full, ignored, numbers)


def _are_levels(numbers: frozenset[int], full: int) -> bool:
    ordered = sorted(numbers | {0})
    return min(b - a for a, b in pairwise(ordered)) * 255 >= LEVEL_GAP * full


def _of_colours(mask: StoredMask) -> DefectMask:
    values = mask.values if mask.kind == COLOUR else np.repeat(mask.values[..., None], 3, -1)
    void = np.array(VOC_VOID, np.int32) * (257 if values.dtype == np.uint16 else 1)
    ignored = (np.abs(values.astype(np.int32) - void) <= (LOSSY_COLOUR if mask.lossy else 0)).all(-1)
    defect = (values > (LOSSY_BLACK if mask.lossy else 0)).any(-1) & ~ignored
    return DefectMask(defect, ignored if ignored.any() else None)


def _few(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return ", ".join(map(str, ordered[:5])) + (" ..." if ordered[5:] else "")


_TWO_VALUES = ValueReading(TWO_VALUES, 255, False, frozenset({255}))
