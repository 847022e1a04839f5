"""How many bits the values of a camera's image really have, and how they become 8."""

import os

import numpy as np

from agssp.data.image_headers import BIT_DEPTHS
from agssp.data.image_notes import DARK, ImageNotes
from agssp.errors import InputError

BIT_DEPTH_VARIABLE = "AGSSP_BIT_DEPTH"


def configured_bit_depth() -> int | None:
    """The bit depth that AGSSP_BIT_DEPTH sets for integer images of more than 8 bits; None where it sets none.

    Raises:
        InputError: it is not a number from 8 to 16.
    """
    value = os.environ.get(BIT_DEPTH_VARIABLE)
    return checked_bit_depth(value, BIT_DEPTH_VARIABLE) if value else None


def checked_bit_depth(value: int | str, name: str) -> int:
    """A bit depth as a number.

    Raises:
        InputError: it is not a number from 8 to 16; `name` says whose it is.
    """
    for bits in BIT_DEPTHS:
        if str(value).strip() == str(bits):
            return bits
    raise InputError(f"{name}: expected a number of bits from 8 to 16, got {value!r}")


def guessed_bits(
    values: np.ndarray, declared: tuple[int, bool] | None, long: bool, name: str, notes: ImageNotes
) -> int | None:
    """How many bits the values of an image have; None if more than 16.

    Args:
        values: integers, of any shape.
        declared: what `image_headers.declared_bits` gives.
        long: whether the file holds 32-bit integers.
        name: how to name the image in a warning.
        notes: get a line where the values look like fewer bits than 16 and nothing says so.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        return None
    if declared is not None:
        bits, may_be_shifted = declared
        # Values beyond the said maximum, or all of them shifted to the top, use the full range after all.
        shifted = may_be_shifted and not (values & (2 ** (16 - bits) - 1)).any()
        return 16 if high >= 2**bits or shifted else bits
    if long and high <= 255:
        return 8
    # The choice must not hang on one image's own values: a dark one would be brightened, its neighbours not.
    if 0 < high < 4096:
        notes.add(
            DARK,
            name,
            "%s: a 16-bit image with no value above %d, which will be nearly black: its values look like 12 bits or "
            "fewer stored in 16. If that is what the camera gives, set the environment variable %s=12 (or 10, ...), or "
            "convert the images to their full range. Other such images are not named.",
            high,
            BIT_DEPTH_VARIABLE,
        )
    return 16


def to_8_bit(values: np.ndarray, bits: int | None) -> np.ndarray:
    """Integers of so many bits as uint8 of the same shape; without a number of bits they are stretched."""
    if bits is not None and values.dtype == np.uint16:
        # By a table, since a large image as float64 would take eight times its memory.
        return scaled(np.arange(2**16), 0.0, 255 / (2**bits - 1))[values]
    if bits is not None:
        return scaled(values, 0.0, 255 / (2**bits - 1))
    low, high = float(values.min()), float(values.max())
    return scaled(values, low, 255 / max(high - low, 1))


def scaled(values: np.ndarray, offset: float, scale: float) -> np.ndarray:
    """`(values - offset) * scale`, rounded and clipped to uint8."""
    return np.clip(np.rint((values.astype(np.float64) - offset) * scale), 0, 255).astype(np.uint8)
