"""Open any image a factory camera may have written as 8-bit RGB, or say by name why it cannot be."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from agssp.data.bit_depth import checked_bit_depth, configured_bit_depth, guessed_bits, scaled, to_8_bit
from agssp.data.encoded import ImageError, open_encoded, read_encoded, storage_faults_told
from agssp.data.image_headers import (
    FORMATS,
    ORIENTATIONS,
    QUARTER_TURNS,
    band_fault,
    count_pages,
    declared_bits,
    is_deep_colour,
    jpeg_frame,
    jpeg_frame_of_path,
    open_file,
    open_picture,
    orientation,
    stored_orientation,
    unknown_tiff,
)
from agssp.data.image_notes import PAGES, ImageNotes, image_notes

__all__ = [
    "MAX_PIXELS", "ImageError", "checked_content", "configured_bit_depth", "decode_image", "deep_colour", "image_frame",
    "image_size", "open_image", "turned",
]  # fmt: skip

MAX_PIXELS = 100_000_000


def decode_image(
    value: Any,
    name: str = "image",
    *,
    max_pixels: int = MAX_PIXELS,
    bit_depth: int | None = None,
    notes: ImageNotes | None = None,
) -> Image.Image:
    """Decode an image to upright 8-bit RGB.

    Grey and palette images become RGB, transparency is dropped, CMYK is converted, and the EXIF orientation is applied.

    16 bits, grey and colour, are divided by 257: the type's full range becomes 0..255, so that images of one camera
    stay comparable. Cameras of 10, 12 or 14 bits that store their values unscaled in 16 come out dark that way, which
    is warned of once a data set; `bit_depth`, or the environment variable AGSSP_BIT_DEPTH=12, says what they are. A
    file that says so itself (TIFF's BitsPerSample and MaxSampleValue, PNG's sBIT) needs neither. 32-bit integers are
    taken as they are where they fit 0..255, else as 16 bits where they fit those, else stretched. Float images are 0..1
    or 0..255 where they fit, else stretched. Of a file of several pages the first is read, which is told once a data
    set.

    Args:
        value: a path, the bytes of a file, an open binary file, a PIL image, or a `datasets` image value
            `{"path", "bytes"}`.
        name: how to name the image in an error.
        max_pixels: more pixels than this are refused before they are decoded.
        bit_depth: 8 to 16, the bits that integer values of more than 8 bits really have; default: AGSSP_BIT_DEPTH,
            else as above.
        notes: count dark images and files of several pages; default: those of the data set that was read last.

    Returns:
        A PIL image in mode RGB.

    Raises:
        ImageError: the file is missing, empty, truncated, no image, too large, or of bands that are no picture.
        StorageError: the machine failed, not the image: a share is not there, an I/O error, no memory.
        InputError: the bit depth is not a number from 8 to 16.
    """
    bits = configured_bit_depth() if bit_depth is None else checked_bit_depth(bit_depth, "bit_depth")
    notes = image_notes() if notes is None else notes
    with open_image(value, name, max_pixels=max_pixels) as image:
        pages = 1 if isinstance(value, Image.Image) else count_pages(image)
        if pages > 1:
            notes.add(
                PAGES,
                name,
                "%s: holds %d pages, of which the first is read and the others are not; save those that are wanted as "
                "files of their own. Other such files are not named.",
                pages,
            )
        try:
            return _to_rgb(image, name, bits, notes)
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders raise any kind on a damaged file
            raise ImageError(f"{name}: the image is damaged or truncated: {error}") from error


def checked_content(value: Any, name: str, decode: Callable[[bytes, str], Any] | None = None) -> bytes:
    """The encoded bytes of an image that has been decoded once: what is passed on to others goes through here.

    A file that only is called an image does not leave this machine, whatever a table says of it.

    Args:
        value: a path, bytes, or a `datasets` image value.
        name: how to name the image in an error.
        decode: what decodes it, such as `agssp.data.stored_mask.read_stored_mask`; default: `decode_image`.

    Raises:
        ImageError: as `decode_image`.
    """
    content = read_encoded(value, name)
    (decode or decode_image)(content, name)
    return content


@contextlib.contextmanager
def open_image(value: Any, name: str = "image", *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image without decoding it.

    Args:
        value: as for `decode_image`; a PIL image is given as it is.
        name: how to name the image in an error.
        max_pixels: more pixels than this are refused.

    Raises:
        ImageError: as `decode_image`, as far as the header tells.
    """
    if isinstance(value, Image.Image):
        _check_size(value, name, max_pixels)
        with storage_faults_told(name):
            yield value
        return
    with (
        open_encoded(value, name) as file,
        storage_faults_told(name, file),
        _open(file, name, max_pixels) as image,
    ):
        _check_size(image, name, max_pixels)
        yield image


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
    if isinstance(value, (str, Path)) and (found := jpeg_frame_of_path(value)) is not None:
        return _turned(*found)
    with open_encoded(value, name) as file, storage_faults_told(name, file):
        if (found := jpeg_frame(file)) is not None:
            return _turned(*found)
        with _open(file, name, MAX_PIXELS) as image:
            return _read_frame(image, file, name)


def _turned(stored: tuple[int, int], turn: int) -> tuple[tuple[int, int], int]:
    return (stored[::-1] if turn in QUARTER_TURNS else stored), turn


def _read_frame(image: Image.Image, file: BinaryIO, name: str) -> tuple[tuple[int, int], int]:
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
        image = open_picture(file)
        fault = band_fault(image)
    except UnidentifiedImageError as error:
        bands = unknown_tiff(file)
        if bands is not None:
            raise ImageError(_no_picture(name, bands)) from error
        raise ImageError(
            f"{name}: expected an image file, but its content is no known image format ({', '.join(FORMATS)})"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: over the limit of {max_pixels:,} pixels: {error}") from error
    except Exception as error:  # Pillow's decoders raise any kind on a damaged file
        raise ImageError(f"{name}: the image is damaged: {error}") from error
    if fault is not None:
        raise ImageError(_no_picture(name, fault))
    return image


def _no_picture(name: str, bands: str) -> str:
    return (
        f"{name}: a TIFF of {bands}, which is no picture; expected 1 band (grey), or 3 or 4 (colour) pixel by pixel, "
        "of 8 or 16 bits. Save the bands that are wanted so"
    )


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} px is over the limit of {max_pixels:,} pixels")
    if width * height == 0:
        raise ImageError(f"{name}: the image has no pixels ({width} x {height})")


def _to_rgb(image: Image.Image, name: str, bit_depth: int | None, notes: ImageNotes) -> Image.Image:
    if image.mode == "F":
        return Image.fromarray(_float_to_8_bit(_upright_values(image), name)).convert("RGB")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Files say how many bits they have before their pixels, and Pillow forgets it once those are loaded.
        declared, ranged = declared_bits(image), _has_range(image)
        long = image.mode == "I" and image.format not in ("PNG", "PPM")
        values = _upright_values(image)
        bits = 16 if ranged else bit_depth or guessed_bits(values, declared, long, name, notes)
        return Image.fromarray(to_8_bit(values, bits)).convert("RGB")
    if is_deep_colour(image):
        declared = declared_bits(image)
        values = deep_colour(image)
        bits = bit_depth or guessed_bits(values, declared, False, name, notes)
        return Image.fromarray(to_8_bit(values, bits))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "P":
        # Straight to RGB would paint the transparent colour; by way of RGBA the colour under it stays.
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def deep_colour(image: Image.Image) -> np.ndarray:
    """The upright pixels of an image that `image_headers.is_deep_colour` finds, uint16 (H, W, 3), RGB.

    Raises:
        OSError: they cannot be decoded.
    """
    import cv2

    file = open_file(image)
    if file is None:
        raise OSError("its file is closed")
    turn = orientation(image, file)
    file.seek(0)
    pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != (image.height, image.width):
        raise OSError("its 16-bit colours cannot be decoded")
    return turned(pixels[..., 2::-1], turn)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, ...) as they stand upright, by their EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values


def _upright_values(image: Image.Image) -> np.ndarray:
    image.load()
    return np.asarray(ImageOps.exif_transpose(image))


def _float_to_8_bit(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ImageError(f"{name}: the image holds values that are not finite")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        return scaled(values, 0.0, 255.0 if high <= 1 else 1.0)
    # Nothing says what black and white are but the image itself.
    return scaled(values, low, 255 / (high - low if high > low else 1))


def _has_range(image: Image.Image) -> bool:
    """Whether Pillow will stretch the values to 16 bits by itself, as with a PGM that names its own maximum."""
    return image.format == "PPM" and any(tile[0] != "raw" for tile in getattr(image, "tile", []))


def _upright_frame(image: Image.Image, file: BinaryIO | None) -> tuple[tuple[int, int], int]:
    width, height = image.size
    found = stored_orientation(image) if image.format == "TIFF" else orientation(image, file)
    if found not in ORIENTATIONS:
        return (width, height), 1
    # Pillow turns TIFFs by itself, and gives the turned size from the start.
    turned = found in QUARTER_TURNS and image.format != "TIFF"
    return ((height, width) if turned else (width, height)), found
