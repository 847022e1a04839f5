"""Open any image a factory camera may have written as 8-bit RGB, or say by name why it cannot be."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from agssp.errors import InputError

MAX_PIXELS = 100_000_000


class ImageError(InputError):
    """An image that cannot be used; the message names it."""


def decode_image(value: Any, name: str = "image", *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    Grey and palette images become RGB, transparency is dropped, CMYK is converted, 16-bit values are divided by 257
    (their full range becomes 0..255), and the EXIF orientation is applied.

    Args:
        value: a path, the bytes of a file, a PIL image, or a `datasets` image value `{"path", "bytes"}`.
        name: how to name the image in an error.
        max_pixels: more pixels than this are refused before they are decoded.

    Returns:
        A PIL image in mode RGB.

    Raises:
        ImageError: the file is missing, empty, truncated, no image, or too large.
    """
    if isinstance(value, Image.Image):
        return _to_rgb(_checked_size(value, name, max_pixels), name)
    source = _open_source(value, name)
    try:
        with warnings.catch_warnings():
            # PIL warns above its own limit; ours is checked next, before any pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                _checked_size(image, name, max_pixels)
                # Cheap for the many large JPEGs of a corpus only if nothing asks for the full size: decode it whole.
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image), name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: expected an image file, but its content is no known image format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too many pixels, the limit is {max_pixels:,}: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise ImageError(f"{name}: the image is damaged or truncated: {error}") from error


def image_size(value: Any, name: str = "image") -> tuple[int, int]:
    """Read the upright (width, height) in px from an image's header, without decoding it.

    Raises:
        ImageError: as for `decode_image`.
    """
    source = value if isinstance(value, Image.Image) else _open_source(value, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = source if isinstance(source, Image.Image) else Image.open(source)
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (height, width) if turned else (width, height)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: expected an image file: {error}") from error


def _open_source(value: Any, name: str) -> Path | io.BytesIO:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, (bytes, bytearray, memoryview)):
        if len(value) == 0:
            raise ImageError(f"{name}: the file is empty (0 bytes)")
        return io.BytesIO(value)
    if isinstance(value, (str, Path)):
        path = Path(value)
        if not path.is_file():
            raise ImageError(f"{name}: no such file: {path}")
        if path.stat().st_size == 0:
            raise ImageError(f"{name}: the file is empty (0 bytes)")
        return path
    raise ImageError(f"{name}: expected a path, bytes or a PIL image, got {type(value).__name__}")


def _checked_size(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} px is over the limit of {max_pixels:,} pixels")
    if width * height == 0:
        raise ImageError(f"{name}: the image has no pixels ({width} x {height})")
    return image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float32)
        if image.mode == "F":
            low, high = float(values.min()), float(values.max())
            if not np.isfinite([low, high]).all():
                raise ImageError(f"{name}: the image holds values that are not finite")
            # Float images have no nominal range; 0..1 and 0..255 are taken as such, others are stretched.
            if low >= 0 and high <= 1:
                values = values * 255
            elif low < 0 or high > 255:
                values = (values - low) * (255 / max(high - low, 1e-12))
        else:
            values = values / 257
        grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (image.mode == "P" and "transparency" in image.info):
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
