"""One mask as its file stores it: numbers, indices of a palette, colours or bits, and what they look like."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from agssp.data.image_headers import is_deep_colour, open_file, orientation
from agssp.data.images import ImageError, deep_colour, open_image, turned

BITS, GREY, PALETTE, COLOUR = "one bit", "grey values", "a palette", "colours"
VOC_VOID = (224, 224, 192)
# A lossy file spreads its colours: those of the channels of a grey picture, and those of one colour.
LOSSY_GREY, LOSSY_COLOUR = 8, 12
# The darkest colours of VOC's palette have 64 in a channel; half of it is beyond what JPEG makes of black.
LOSSY_BLACK = 32


@dataclass(frozen=True)
class StoredMask:
    """The values of a mask, with nothing decided yet.

    Attributes:
        kind: `BITS`, `GREY`, `PALETTE` or `COLOUR`.
        values: (H, W) of bool or integers from 0 on, of a palette its indices with that of the background 0; (H, W, 3)
            of colours.
        lossy: whether the file's format keeps values only roughly, as JPEG does.
        in_colour: whether grey values were stored as a picture of three equal channels.
        void: whether the palette paints index 255 in VOC's colour of the void.
    """

    kind: str
    values: np.ndarray
    lossy: bool = False
    in_colour: bool = False
    void: bool = False


@dataclass(frozen=True)
class MaskLook:
    """What one mask tells of how it is stored, without its pixels.

    Attributes:
        kind: as of `StoredMask`, like `lossy`, `in_colour` and `void`.
        numbers: the values that occur, 0 not among them; empty for colours and bits.
        shades: pixels well inside the range that look like shades of grey and not like classes, and all of them; asked
            only where it matters.
    """

    kind: str
    numbers: frozenset[int]
    lossy: bool = False
    in_colour: bool = False
    void: bool = False
    shades: tuple[int, int] = (0, 0)


def look_at(mask: StoredMask) -> MaskLook:
    """Look at one mask's values."""
    numbers = frozenset[int]() if mask.kind in (BITS, COLOUR) else _numbers(mask.values)
    full = full_value(numbers)
    # Low numbers alone are no shades.
    asked = mask.kind == GREY and full > 0 and any(full // 2 < number < full for number in numbers)
    shades = _shades(mask.values, full) if asked else (0, 0)
    return MaskLook(mask.kind, numbers, mask.lossy, mask.in_colour, mask.void, shades)


def _numbers(values: np.ndarray) -> frozenset[int]:
    if values.dtype.itemsize > 2:
        return frozenset(np.unique(values).tolist()) - {0}
    seen = np.zeros(int(np.iinfo(values.dtype).max) + 1, bool)
    seen[values.ravel()] = True
    return frozenset(np.flatnonzero(seen).tolist()) - {0}


def _shades(values: np.ndarray, full: int) -> tuple[int, int]:
    """Of the pixels well inside the range: how many look like shades, and all.

    A shade, of a smooth edge or of lossy noise, lies between a lower and a higher neighbour, or fewer than two of its
    eight neighbours are the same; a pixel of a class has its like beside it, however thin the defect.
    """
    import cv2

    values = np.ascontiguousarray(values)
    inside = (values > full // 16) & (values < full - full // 16)
    kernel = np.ones((3, 3), np.uint8)
    between = (cv2.dilate(values, kernel) > values) & (cv2.erode(values, kernel) < values)
    (height, width), padded = values.shape, np.pad(values, 1)
    places = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    alike = sum((padded[y : y + height, x : x + width] == values).astype(np.uint8) for y, x in places)
    return int((inside & (between | (alike < 2))).sum()), int(inside.sum())


def full_value(numbers: frozenset[int]) -> int:
    """The highest value of the narrowest type that holds these numbers: 255, 65535, or 0 for none so narrow."""
    highest = max(numbers, default=0)
    return 255 if highest <= 255 else 65535 if highest <= 65535 else 0


def read_stored_mask(value: Any, name: str) -> StoredMask:
    """Read a mask's values, upright.

    Args:
        value: whatever `decode_image` takes.
        name: how to name the mask in an error.

    Raises:
        ImageError: it cannot be read, or holds values below 0.
    """
    with open_image(value, name) as image:
        lossy = _is_lossy(image)
        try:
            return _stored(image, lossy, name)
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders raise any kind on a damaged file
            raise ImageError(f"{name}: the mask is damaged or truncated: {error}") from error


def _stored(image: Image.Image, lossy: bool, name: str) -> StoredMask:
    if is_deep_colour(image):
        return _colours(deep_colour(image), lossy)
    turn = orientation(image, open_file(image))
    image.load()
    if image.mode == "PA":
        image = image.convert("RGBA")
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "F", "I") and not image.mode.startswith("I;16"):
        image = image.convert("RGB")
    values = turned(np.asarray(image), turn)
    if image.mode == "1":
        return StoredMask(BITS, values)
    if image.mode == "P":
        return _palette(values, np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3))
    if image.mode in ("LA", "RGBA"):
        values = _without_alpha(values[..., :-1], values[..., -1])
        return _colours(values, lossy) if values.shape[-1] == 3 else StoredMask(GREY, values[..., 0], lossy)
    if image.mode == "RGB":
        return _colours(values, lossy)
    if image.mode == "F":
        return _floats(values, name)
    if values.dtype.itemsize > 2 and int(values.min()) < 0:
        raise ImageError(f"{name}: the mask holds values below 0; expected 0 for sound pixels and more for defects")
    # The same 8 bits in 16, as some editors save them.
    if values.dtype == np.uint16 and int(values.max()) == 65535 and not (values % 257).any():
        values = (values // 257).astype(np.uint8)
    return StoredMask(GREY, values, lossy)


def _colours(values: np.ndarray, lossy: bool) -> StoredMask:
    """Colours (H, W, 3); where its channels are equal the picture is grey."""
    spread = values.max(-1).astype(np.int32) - values.min(-1)
    if int(spread.max()) <= (LOSSY_GREY if lossy else 0):
        return StoredMask(GREY, np.ascontiguousarray(values[..., 1]), lossy, in_colour=True)
    return StoredMask(COLOUR, values, lossy)


def _palette(values: np.ndarray, colours: np.ndarray) -> StoredMask:
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    painted = np.zeros((256, 3), np.uint8)
    painted[: len(colours)] = colours
    if (painted[used] == used[:, None]).all():
        # The palette of a grey picture, whose indices are its values.
        return StoredMask(GREY, values)
    black = [index for index in used.tolist() if not painted[index].any()]
    if painted[0].any() and black:
        # An editor has sorted the colours by their number; the background stays black.
        values = np.where(values == black[0], 0, np.where(values == 0, black[0], values)).astype(np.uint8)
    return StoredMask(PALETTE, values, void=tuple(painted[255].tolist()) == VOC_VOID)


def _without_alpha(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Values (H, W, C) whose transparent pixels are 0; where all have one colour the alpha channel is the mask."""
    if int(alpha.min()) == int(alpha.max()):
        return values
    if (values == values[:1, :1]).all():
        return np.repeat(alpha[..., None], values.shape[-1], -1)
    return np.where(alpha[..., None] > 127, values, 0).astype(values.dtype)


def _floats(values: np.ndarray, name: str) -> StoredMask:
    if not np.isfinite(values).all() or float(values.min()) < 0 or float(values.max()) > 65535:
        raise ImageError(f"{name}: expected a mask of finite values from 0 to 65535")
    if (values == np.rint(values)).all():
        return StoredMask(GREY, values.astype(np.uint16))
    return StoredMask(GREY, np.rint(values * (255 if float(values.max()) <= 1 else 1)).astype(np.uint16), lossy=True)


def _is_lossy(image: Image.Image) -> bool:
    if image.format != "WEBP":
        return image.format in ("JPEG", "MPO")
    file = open_file(image)
    if file is None:
        return False
    position = file.tell()
    file.seek(0)
    start = file.read(64)
    file.seek(position)
    return b"VP8L" not in start
