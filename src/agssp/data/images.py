"""Open any image a factory camera may have written as 8-bit RGB, or say by name why it cannot be."""

import io
import logging
import os
import struct
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from agssp.errors import InputError

logger = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000
BIT_DEPTH_VARIABLE = "AGSSP_BIT_DEPTH"
BIT_DEPTHS = range(8, 17)
_BITS_OF_MAXIMUM = {2**bits - 1: bits for bits in BIT_DEPTHS}
_TIFF_MAX_SAMPLE_VALUE = 281
_warned: set[str] = set()
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATIONS = range(1, 9)
_QUARTER_TURNS = (5, 6, 7, 8)


class ImageError(InputError):
    """An image that cannot be used; the message names it."""


def decode_image(
    value: Any, name: str = "image", *, max_pixels: int = MAX_PIXELS, bit_depth: int | None = None
) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    Grey and palette images become RGB, transparency is dropped, CMYK is converted, and the EXIF orientation is applied.

    16-bit grey is divided by 257: the type's full range becomes 0..255, so that images of one camera stay comparable.
    Cameras of 10, 12 or 14 bits that store their values unscaled in 16 come out dark that way, which is warned of
    once; `bit_depth`, or the environment variable AGSSP_BIT_DEPTH=12, says what they are. A file that says so itself
    (TIFF's MaxSampleValue, PNG's sBIT) needs neither. 32-bit integers are taken as they are where they fit 0..255, else
    as 16 bits where they fit those, else stretched. Float images are 0..1 or 0..255 where they fit, else stretched.
    16-bit colour keeps its high bytes, whatever the bit depth.

    Args:
        value: a path, the bytes of a file, an open binary file, a PIL image, or a `datasets` image value
            `{"path", "bytes"}`.
        name: how to name the image in an error.
        max_pixels: more pixels than this are refused before they are decoded.
        bit_depth: 8 to 16, the bits that integer grey values of more than 8 bits really have; default: AGSSP_BIT_DEPTH,
            else as above.

    Returns:
        A PIL image in mode RGB.

    Raises:
        ImageError: the file is missing, empty, truncated, no image, or too large.
        InputError: the bit depth is not a number from 8 to 16.
    """
    bits = configured_bit_depth() if bit_depth is None else _checked_bit_depth(bit_depth, "bit_depth")
    if isinstance(value, Image.Image):
        return _to_rgb(value, name, max_pixels, bits)
    with _source(value, name) as file, _open(file, name, max_pixels) as image:
        return _to_rgb(image, name, max_pixels, bits)


def configured_bit_depth() -> int | None:
    """The bit depth that AGSSP_BIT_DEPTH sets for integer grey images of more than 8 bits; None where it sets none.

    Raises:
        InputError: it is not a number from 8 to 16.
    """
    value = os.environ.get(BIT_DEPTH_VARIABLE)
    return _checked_bit_depth(value, BIT_DEPTH_VARIABLE) if value else None


def _checked_bit_depth(value: int | str, name: str) -> int:
    for bits in BIT_DEPTHS:
        if str(value).strip() == str(bits):
            return bits
    raise InputError(f"{name}: expected a number of bits from 8 to 16, got {value!r}")


def image_size(value: Any, name: str = "image") -> tuple[int, int]:
    """Read the (width, height) in px that `decode_image` would give, from the header alone.

    Raises:
        ImageError: the file is missing, empty, or no image.
    """
    return image_frame(value, name)[0]


def image_frame(value: Any, name: str = "image") -> tuple[tuple[int, int], int]:
    """Read what `decode_image` will turn: the (width, height) in px that it gives, and EXIF's orientation.

    Args:
        value: whatever `decode_image` takes.
        name: how to name the image in an error.

    Returns:
        The size of the upright image, and EXIF's number, 1 to 8, of how the stored pixels are turned; 1 where none is
        given.

    Raises:
        ImageError: the file is missing, empty, or no image.
    """
    if isinstance(value, Image.Image):
        return _upright_frame(value, None)
    with _source(value, name) as file, _open(file, name, MAX_PIXELS) as image:
        try:
            return _upright_frame(image, file)
        except Exception as error:  # Pillow's decoders raise any kind on a damaged file
            raise ImageError(f"{name}: the image is damaged: {error}") from error


def _open(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and max_pixels > 2 * limit:
        # Pillow refuses twice its own limit whatever we allow, so a caller who asks for more must raise that too.
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: expected an image file, but its content is no known image format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: over the limit of {max_pixels:,} pixels: {error}") from error
    except Exception as error:  # Pillow's decoders raise any kind on a damaged file
        raise ImageError(f"{name}: the image is damaged: {error}") from error


def _source(value: Any, name: str) -> AbstractContextManager[BinaryIO]:
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
        # Opened here, since Pillow turns an uncompressed TIFF wrongly when it maps the file by its name.
        try:
            return path.open("rb")
        except OSError as error:
            raise ImageError(f"{name}: the file cannot be opened: {error}") from error
    if hasattr(value, "read"):
        return nullcontext(value)
    raise ImageError(f"{name}: expected a path, bytes, a binary file or a PIL image, got {type(value).__name__}")


def _to_rgb(image: Image.Image, name: str, max_pixels: int, bit_depth: int | None) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} px is over the limit of {max_pixels:,} pixels")
    if width * height == 0:
        raise ImageError(f"{name}: the image has no pixels ({width} x {height})")
    try:
        if image.mode == "F":
            grey = _float_to_8_bit(_upright_values(image), name)
            return Image.fromarray(grey).convert("RGB")
        if image.mode == "I" or image.mode.startswith("I;16"):
            # Files say how many bits they have before their pixels, and Pillow forgets it once those are loaded.
            declared, scaled = _declared_bits(image), _is_scaled(image)
            long = image.mode == "I" and image.format not in ("PNG", "PPM")
            values = _upright_values(image)
            bits = 16 if scaled else bit_depth or _guessed_bits(values, declared, long, name)
            return Image.fromarray(_integer_to_8_bit(values, bits)).convert("RGB")
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode == "P":
            # Straight to RGB would paint the transparent colour; by way of RGBA the colour under it stays.
            image = image.convert("RGBA")
        return image if image.mode == "RGB" else image.convert("RGB")
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise any kind on a damaged file
        raise ImageError(f"{name}: the image is damaged or truncated: {error}") from error


def _upright_values(image: Image.Image) -> np.ndarray:
    image.load()
    return np.asarray(ImageOps.exif_transpose(image))


def _float_to_8_bit(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ImageError(f"{name}: the image holds values that are not finite")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        return _scaled(values, 0.0, 255.0 if high <= 1 else 1.0)
    # Nothing says what black and white are but the image itself.
    return _scaled(values, low, 255 / (high - low if high > low else 1))


def _integer_to_8_bit(values: np.ndarray, bits: int | None) -> np.ndarray:
    if bits is not None:
        return _scaled(values, 0.0, 255 / (2**bits - 1))
    low, high = float(values.min()), float(values.max())
    return _scaled(values, low, 255 / max(high - low, 1))


def _scaled(values: np.ndarray, offset: float, scale: float) -> np.ndarray:
    return np.clip(np.rint((values.astype(np.float64) - offset) * scale), 0, 255).astype(np.uint8)


def _guessed_bits(values: np.ndarray, declared: tuple[int, bool] | None, long: bool, name: str) -> int | None:
    """How many bits the values of a grey image have; None if more than 16.

    Args:
        values: integers.
        declared: what `_declared_bits` gives.
        long: whether the file holds 32-bit integers.
        name: how to name the image in a warning.
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
    if 0 < high < 4096 and not _warned:
        _warned.add(name)
        logger.warning(
            "%s: a 16-bit image with no value above %d, which will be nearly black: its values look like 12 bits or "
            "fewer stored in 16. If that is what the camera gives, set the environment variable %s=12 (or 10, ...), or "
            "convert the images to their full range. Other such images are not named.",
            name,
            high,
            BIT_DEPTH_VARIABLE,
        )
    return 16


def _declared_bits(image: Image.Image) -> tuple[int, bool] | None:
    """The significant bits that a file names, and whether its values may be shifted up to the full range."""
    if image.format == "TIFF":
        value = image.tag_v2.get(_TIFF_MAX_SAMPLE_VALUE)  # type: ignore[attr-defined]
        # Some writers put the largest value of this one image there; only a power of two tells of the camera.
        bits = _BITS_OF_MAXIMUM.get(value[0] if isinstance(value, tuple) and value else value)
        return None if bits is None else (bits, False)
    file = getattr(image, "fp", None)
    if image.format == "PNG" and file is not None and not file.closed:
        position = file.tell()
        content = _png_chunk(file, b"sBIT", before=b"IDAT")
        file.seek(position)
        # The standard wants the values scaled to all 16 bits beside this chunk, cameras leave them as they are.
        return (content[0], True) if content and content[0] in BIT_DEPTHS else None
    return None


def _is_scaled(image: Image.Image) -> bool:
    """Whether Pillow will stretch the values to 16 bits by itself, as with a PGM that names its own maximum."""
    return image.format == "PPM" and any(tile[0] != "raw" for tile in getattr(image, "tile", []))


def _upright_frame(image: Image.Image, file: BinaryIO | None) -> tuple[tuple[int, int], int]:
    width, height = image.size
    if image.format == "PNG" and file is not None and "exif" not in image.info:
        # Pillow would decode all pixels to look for EXIF behind them; stepping over the chunks is as good.
        exif = Image.Exif()
        exif.load(_png_chunk(file, b"eXIf"))
    else:
        exif = image.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    if orientation not in _ORIENTATIONS:
        return (width, height), 1
    # Pillow turns TIFFs by itself, and gives the turned size from the start.
    turned = orientation in _QUARTER_TURNS and image.format != "TIFF"
    return ((height, width) if turned else (width, height)), orientation


def _png_chunk(file: BinaryIO, wanted: bytes, before: bytes | None = None) -> bytes:
    """Content of a PNG's first chunk of a kind, looked for up to another kind; empty if there is none."""
    file.seek(len(_PNG_SIGNATURE))
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == wanted:
            return file.read(length)
        if kind == before:
            break
        file.seek(length + 4, io.SEEK_CUR)
    return b""
