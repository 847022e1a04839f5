"""What an image file says of itself before its pixels are decoded: turns, bits, bands and pages."""

import io
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "GIF")
"""What is opened, by Pillow's names: what the suffixes of images promise, and GIF, which tables hold now and then. A
JPEG may turn out to be an MPO, which is several of them in one file.

Pillow knows more. Of those some start a program of the system, others hold further files in any format, and few cameras
write any of them.
"""

BIT_DEPTHS = range(8, 17)
ORIENTATIONS = range(1, 9)
QUARTER_TURNS = (5, 6, 7, 8)
MOST_BANDS = 4

_BITS_OF_MAXIMUM = {2**bits - 1: bits for bits in BIT_DEPTHS}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_SUBFILE, _TIFF_WIDTH, _TIFF_BITS, _TIFF_BANDS, _TIFF_MAX_VALUE = 254, 256, 258, 277, 281
_TIFF_PLANAR, _TIFF_FORMAT = 284, 339
_REDUCED_OR_MASK = 0b101
_SAMPLE_FORMATS = {1: "bits", 2: "bits, signed", 3: "bits, floating point"}
# Most headers are short; one with a preview in its EXIF fills nearly all that EXIF may have.
_HEADS = (4096, 131_072)
# Windows alone has, and needs, this.
_BINARY = getattr(os, "O_BINARY", 0)
# A pipe without a writer would keep whoever opens it waiting for ever.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)
_JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
_JPEG2000_SIZES = b"\xff\x4f\xff\x51"


def open_picture(file: BinaryIO) -> Image.Image:
    """Open an image file of one of `FORMATS`, undecoded: the one place where Pillow is asked to.

    Args:
        file: open for reading bytes.

    Raises:
        PIL.UnidentifiedImageError: it is of none of these formats.
        Exception: of any kind that Pillow's plugins raise on a damaged file.
    """
    return Image.open(file, formats=FORMATS)


def orientation(image: Image.Image, file: BinaryIO | None) -> int:
    """The EXIF orientation, 1 to 8, that is still to be applied to an image as it decodes.

    Args:
        image: opened, perhaps not decoded.
        file: what it was opened from; None for an image that has none.
    """
    if image.format == "TIFF":
        # Pillow turns TIFFs by itself, and gives the turned size from the start.
        return 1
    if image.format == "PNG" and file is not None and "exif" not in image.info:
        # Pillow would decode all pixels to look for EXIF behind them; stepping over the chunks is as good.
        exif = Image.Exif()
        exif.load(png_chunk(file, b"eXIf"))
    else:
        exif = image.getexif()
    return int(exif.get(ExifTags.Base.Orientation, 1))


def stored_orientation(image: Image.Image) -> int:
    """The EXIF orientation that a file names, be it applied or not; 1 where it names none."""
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def jpeg_frame(file: BinaryIO) -> tuple[tuple[int, int], int] | None:
    """Stored (width, height) px and EXIF orientation of a JPEG, without what else Pillow reads of its header.

    A data set of 20,000 images is opened for these two alone, which takes Pillow five times as long.

    Args:
        file: at its beginning, to which it is set back.

    Returns:
        None for a file that is no JPEG, or none with a plain header.
    """
    for length in _HEADS:
        head = file.read(length)
        file.seek(0)
        found = _jpeg_frame(head)
        if found is not None or len(head) < length or not head.startswith(b"\xff\xd8"):
            return found
    return None


def jpeg_frame_of_path(path: str | Path) -> tuple[tuple[int, int], int] | None:
    """The same of a JPEG that is a file; None for one with a long header, too, and for what cannot be opened."""
    try:
        # Of a data set's images the opening takes most of the time, twice as long with a Python file.
        file = os.open(path, os.O_RDONLY | _BINARY | _AT_ONCE)
    except (OSError, ValueError):
        return None
    try:
        return _jpeg_frame(os.read(file, _HEADS[0]))
    except OSError:
        return None
    finally:
        os.close(file)


def _jpeg_frame(head: bytes) -> tuple[tuple[int, int], int] | None:
    """The same of the first bytes of a JPEG; None where these are not enough."""
    if not head.startswith(b"\xff\xd8\xff"):
        return None
    position, turn = 2, 1
    while position + 9 < len(head) and head[position] == 0xFF:
        marker, length = head[position + 1], int.from_bytes(head[position + 2 : position + 4])
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", head, position + 5)
            return ((width, height), turn) if width and height else None
        if marker == 0xE1 and head.startswith(b"Exif\0\0", position + 4):
            if position + 2 + length > len(head):
                return None
            exif = Image.Exif()
            exif.load(head[position + 4 : position + 2 + length])
            turn = int(exif.get(ExifTags.Base.Orientation, 1))
            turn = turn if turn in ORIENTATIONS else 1
        if length < 2 or marker in (0xD8, 0xD9, 0xDA):
            return None
        position += 2 + length
    return None


def png_chunk(file: BinaryIO, wanted: bytes, before: bytes | None = None) -> bytes:
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


def declared_bits(image: Image.Image) -> tuple[int, bool] | None:
    """The significant bits that a file names, and whether its values may be shifted up to the full range."""
    if image.format == "TIFF":
        bits = _first(image.tag_v2.get(_TIFF_BITS))  # type: ignore[attr-defined]
        if bits in BIT_DEPTHS and bits < 16:
            return bits, False
        # Some writers put the largest value of this one image there; only a power of two tells of the camera.
        named = _BITS_OF_MAXIMUM.get(_first(image.tag_v2.get(_TIFF_MAX_VALUE)))  # type: ignore[attr-defined]
        return None if named is None else (named, False)
    file = open_file(image)
    if image.format == "PNG" and file is not None:
        position = file.tell()
        # A byte a channel, of which the last may be that of transparency.
        content = png_chunk(file, b"sBIT", before=b"IDAT")[:3]
        file.seek(position)
        # The standard wants the values scaled to all 16 bits beside this chunk, cameras leave them as they are.
        return (max(content), True) if content and max(content) in BIT_DEPTHS else None
    return None


def is_deep_colour(image: Image.Image) -> bool:
    """Whether a file holds colour of 16 bits that say nothing of their range, of which Pillow keeps the high bytes.

    Colour with a range of its own (PPM and JPEG 2000 of 10 or 12 bits) is not meant: Pillow brings that to 8 bits.
    """
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    arguments = [part for tile in getattr(image, "tile", []) for part in _parts(tile[3])]
    if image.format == "PPM":
        return 65535 in arguments
    file = open_file(image)
    if image.format == "JPEG2000" and arguments and file is not None:
        position = file.tell()
        file.seek(0)
        _, found, sizes = file.read(4096).partition(_JPEG2000_SIZES)
        file.seek(position)
        # Behind the marker: 36 bytes of lengths and sizes, the number of components, then each one's bits less one.
        return bool(found) and len(sizes) > 38 and (sizes[38] & 0x7F) + 1 == 16
    return any(";16" in part for part in arguments if isinstance(part, str))


def band_fault(image: Image.Image) -> str | None:
    """Why the bands of a TIFF cannot be shown as grey or colour, though Pillow opens it; None where they can."""
    if image.format != "TIFF":
        return None
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bands, bits = _first(tags.get(_TIFF_BANDS, 1)), _first(tags.get(_TIFF_BITS, 1))
    # Of 16 bits in planes Pillow and OpenCV both give wrong colours without a word.
    return _bands(tags) if bands > MOST_BANDS or (bands > 1 and bits > 8 and _in_planes(tags)) else None


def unknown_tiff(file: BinaryIO) -> str | None:
    """What a TIFF holds that Pillow cannot open; None if the file is no TIFF, or its tags cannot be read either."""
    file.seek(0)
    header = file.read(8)
    if not header.startswith(_TIFF_SIGNATURES):
        return None
    try:
        tags = ImageFileDirectory_v2(header + file.read(8) if b"+" in header else header)
        file.seek(tags.next)
        tags.load(file)
        return _bands(tags) if _TIFF_WIDTH in tags else None
    except Exception:  # Pillow raises any kind on damaged tags, which are then no better known than before
        return None


def count_pages(image: Image.Image) -> int:
    """How many pictures a file holds, its thumbnails and masks not counted; 1 where that cannot be told.

    A JPEG with more pictures (MPO) counts as one: cameras put previews and depth there.
    """
    if image.format == "MPO":
        return 1
    try:
        count = int(getattr(image, "n_frames", 1))
        if count == 1 or image.format != "TIFF":
            return count
        kinds = []
        for page in range(count):
            image.seek(page)
            kinds.append(int(image.tag_v2.get(_TIFF_SUBFILE, 0)))  # type: ignore[attr-defined]
        image.seek(0)
    except Exception:  # damage behind the first page is none of that page
        image.seek(0)
        return 1
    return max(1, sum(not kind & _REDUCED_OR_MASK for kind in kinds))


def open_file(image: Image.Image) -> BinaryIO | None:
    """The file that an image is still to be decoded from; None if it was decoded, or never was in a file."""
    file: Any = getattr(image, "fp", None)
    return None if file is None or file.closed else file


def _bands(tags: Any) -> str:
    """What a TIFF's tags say of its pixels, such as `5 bands of 16 bits`."""
    bands, bits = _first(tags.get(_TIFF_BANDS, 1)), _first(tags.get(_TIFF_BITS, 1))
    kind = _SAMPLE_FORMATS.get(_first(tags.get(_TIFF_FORMAT, 1)), "bits of an unknown kind")
    apart = ", one band after the other" if bands > 1 and _in_planes(tags) else ""
    return f"{bands} band{'s' if bands > 1 else ''} of {bits} {kind}{apart}"


def _in_planes(tags: Any) -> bool:
    """Whether a TIFF keeps its bands one after the other instead of pixel by pixel."""
    return bool(_first(tags.get(_TIFF_PLANAR, 1)) == 2)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


def _parts(arguments: Any) -> tuple[Any, ...]:
    return arguments if isinstance(arguments, tuple) else (arguments,)
