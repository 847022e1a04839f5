"""Open any image a factory camera may have written as 8-bit RGB, or say by name why it cannot be."""

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from agssp.errors import InputError

MAX_PIXELS = 100_000_000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_QUARTER_TURNS = (5, 6, 7, 8)


class ImageError(InputError):
    """An image that cannot be used; the message names it."""


def decode_image(value: Any, name: str = "image", *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    Grey and palette images become RGB, transparency is dropped, CMYK is converted, 16-bit grey is divided by 257 (the
    type's full range becomes 0..255, so that images of one camera stay comparable), 16-bit colour keeps its high bytes,
    and the EXIF orientation is applied. Float images are 0..1 or 0..255 where they fit, else stretched.

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
        return _to_rgb(value, name, max_pixels)
    with _open(_source(value, name), name, max_pixels) as image:
        return _to_rgb(image, name, max_pixels)


def image_size(value: Any, name: str = "image") -> tuple[int, int]:
    """Read the (width, height) in px that `decode_image` would give, from the header alone.

    Raises:
        ImageError: the file is missing, empty, or no image.
    """
    if isinstance(value, Image.Image):
        return _upright_size(value, None)
    source = _source(value, name)
    with source.open("rb") if isinstance(source, Path) else source as file, _open(file, name, MAX_PIXELS) as image:
        try:
            return _upright_size(image, file)
        except Exception as error:  # Pillow's decoders raise any kind on a damaged file
            raise ImageError(f"{name}: the image is damaged: {error}") from error


def _open(source: Path | BinaryIO, name: str, max_pixels: int) -> Image.Image:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and max_pixels > 2 * limit:
        # Pillow refuses twice its own limit whatever we allow, so a caller who asks for more must raise that too.
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        return Image.open(source)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: expected an image file, but its content is no known image format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: over the limit of {max_pixels:,} pixels: {error}") from error
    except Exception as error:  # Pillow's decoders raise any kind on a damaged file
        raise ImageError(f"{name}: the image is damaged: {error}") from error


def _source(value: Any, name: str) -> Path | io.BytesIO:
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
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


def _to_rgb(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} px is over the limit of {max_pixels:,} pixels")
    if width * height == 0:
        raise ImageError(f"{name}: the image has no pixels ({width} x {height})")
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            return Image.fromarray(_grey_to_8_bit(np.asarray(image), image.mode, name)).convert("RGB")
        if image.mode == "P":
            # Straight to RGB would paint the transparent colour; by way of RGBA the colour under it stays.
            image = image.convert("RGBA")
        return image if image.mode == "RGB" else image.convert("RGB")
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise any kind on a damaged file
        raise ImageError(f"{name}: the image is damaged or truncated: {error}") from error


def _grey_to_8_bit(values: np.ndarray, mode: str, name: str) -> np.ndarray:
    if mode == "F" and not np.isfinite(values).all():
        raise ImageError(f"{name}: the image holds values that are not finite")
    low, high = float(values.min()), float(values.max())
    if mode == "F" and low >= 0 and high <= 1:
        offset, scale = 0.0, 255.0
    elif mode == "F" and low >= 0 and high <= 255:
        offset, scale = 0.0, 1.0
    elif mode != "F" and low >= 0 and high <= 65535:
        offset, scale = 0.0, 1 / 257
    else:
        # Neither a unit range nor 8 or 16 bits: nothing says what white is but the image itself.
        offset, scale = low, 255 / max(high - low, 1e-12)
    return np.clip(np.rint((values.astype(np.float64) - offset) * scale), 0, 255).astype(np.uint8)


def _upright_size(image: Image.Image, file: BinaryIO | None) -> tuple[int, int]:
    width, height = image.size
    if image.format == "TIFF":
        # Pillow turns TIFFs by itself, and gives the turned size from the start.
        return width, height
    if image.format == "PNG" and file is not None and "exif" not in image.info:
        # Pillow would decode all pixels to look for EXIF behind them; stepping over the chunks is as good.
        exif = Image.Exif()
        exif.load(_png_exif(file))
    else:
        exif = image.getexif()
    turned = exif.get(ExifTags.Base.Orientation, 1) in _QUARTER_TURNS
    return (height, width) if turned else (width, height)


def _png_exif(file: BinaryIO) -> bytes:
    file.seek(len(_PNG_SIGNATURE))
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"eXIf":
            return file.read(length)
        file.seek(length + 4, io.SEEK_CUR)
    return b""
