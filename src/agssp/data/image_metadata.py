"""Takes out of an image file what tells of camera, place and people; its pixels stay the bytes that they are.

Files are taken apart and put together again from the parts that the picture needs; nothing is decoded and encoded anew.
How the picture is turned stays, in an EXIF block that says nothing else, as do colour profiles and resolution.
"""

import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from agssp.data.image_headers import ORIENTATIONS
from agssp.data.images import ImageError, decode_image, open_image

EXIF, GPS, SERIAL, OWNER = "EXIF", "GPS position", "serial numbers", "names of people"
XMP, IPTC, TEXT, OTHER = "XMP", "IPTC", "texts", "other parts"
"""What is told of what was dropped."""

_SERIALS = (0xA431, 0xA435, 0xC62F)  # of the body, the lens, the camera
_OWNERS = (0x013B, 0x8298, 0xA430, 0x9C9D)  # artist, copyright, owner, Windows' author


def without_metadata(content: bytes, name: str = "image") -> tuple[bytes, frozenset[str]]:
    """An image file without EXIF, GPS position, serial numbers, XMP, IPTC, comments, previews and what follows its end.

    JPEG, PNG, TIFF, WebP, GIF and JPEG 2000 are taken apart; BMP and PNM have no such parts. A file of another format
    passes if it has none.

    Args:
        content: of a file that `decode_image` decodes.
        name: how to name the image in an error.

    Returns:
        The file, the same bytes where nothing had to go, and the kinds of what went, of the constants of this module.

    Raises:
        ImageError: it cannot be done, or would change the picture.
    """
    with open_image(content, name) as image:
        kind = str(image.format)
    strip = _STRIPPERS.get(kind)
    if strip is None:  # of the formats that are read, BMP and PPM, which tell nothing but the picture
        return content, frozenset()
    try:
        stripped, dropped = strip(content, 1)
        if not dropped:
            return content, frozenset()
        found, turn = _told_by_pillow(content, name)
        if turn != 1:
            stripped, dropped = strip(content, turn)
        if not dropped:  # it held the orientation alone
            return content, frozenset()
        before, after = (np.asarray(decode_image(each, name)) for each in (content, stripped))
    except (ValueError, LookupError, struct.error) as error:  # among them ImageError
        raise ImageError(
            f"{name}: its metadata cannot be taken out ({error}); save it anew without, or give --keep-exif"
        ) from error
    if not np.array_equal(before, after):
        raise ImageError(
            f"{name}: the picture would be another one without its metadata; save it anew without, or give --keep-exif"
        )
    return stripped, frozenset(dropped | (found & {GPS, SERIAL, OWNER}))


def _told_by_pillow(content: bytes, name: str) -> tuple[set[str], int]:
    """What kinds of metadata Pillow finds, and the orientation, 1 to 8."""
    with open_image(content, name) as image:
        turn = int(image.getexif().get(ExifTags.Base.Orientation, 1))
        try:
            found = _kinds(image)
        except Exception:  # Pillow raises any kind on damaged blocks, which are metadata all the same
            found = {EXIF}
    return found, turn if turn in ORIENTATIONS else 1


def _kinds(image: Image.Image) -> set[str]:
    """What kinds of metadata Pillow finds in an image."""
    exif = image.getexif()
    inner = dict(exif.get_ifd(ExifTags.IFD.Exif))
    tags: dict[int, Any] = {**exif, **inner}
    found = set()
    if set(tags) - {ExifTags.Base.Orientation}:
        found.add(EXIF)
    if exif.get_ifd(ExifTags.IFD.GPSInfo):
        found.add(GPS)
    if any(tags.get(tag) for tag in _SERIALS):
        found.add(SERIAL)
    if any(tags.get(tag) for tag in _OWNERS):
        found.add(OWNER)
    if image.info.get("xmp"):
        found.add(XMP)
    if image.info.get("comment"):
        found.add(TEXT)
    return found


def _turning(turn: int) -> bytes:
    """An EXIF block with an orientation alone; empty for an upright picture."""
    return struct.pack(">2sHLHHHLHHL", b"MM", 42, 8, 1, ExifTags.Base.Orientation, 3, 1, turn, 0, 0) * (turn != 1)


# --- JPEG -------------------------------------------------------------------------------------------------------------

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_JPEG_EXIF, _JPEG_ICC = b"Exif\0\0", b"ICC_PROFILE\0"


def _strip_jpeg(content: bytes, turn: int) -> tuple[bytes, set[str]]:
    exif = _turning(turn)
    own = _segment(0xE1, _JPEG_EXIF + exif) if exif else b""
    kept, dropped, position, turned = [content[:2]], set(), 2, not own
    while True:
        match = _MARKER.match(content, position)
        if match is None:
            raise ValueError(f"no marker of a JPEG at byte {position}")
        marker, start = match[1][0], match.end()
        if marker == 0xD9:
            kept.append(b"\xff\xd9")
            if content[start:].strip(b"\0\xff\n\r "):
                dropped.add(OTHER)
            return b"".join(kept), dropped
        length = int.from_bytes(content[start : start + 2])
        end = start + length
        if length < 2 or end > len(content):
            raise ValueError(f"a segment of {length} bytes at byte {position}")
        data = content[start + 2 : end]
        what = _jpeg_part(marker, data)
        if not turned and marker != 0xE0:
            # Behind JFIF's, which has to come first.
            kept.append(own)
            turned = True
        if marker == 0xE0 and what is None:
            # Without the preview that it may hold.
            plain = data[:12] + b"\0\0"
            dropped |= {OTHER} if len(data) > len(plain) else set()
            kept.append(_segment(marker, plain))
        elif what is None:
            kept.append(b"\xff" + content[match.end() - 1 : end])
        elif data != _JPEG_EXIF + exif or not exif:
            dropped.add(what)
        position = end
        if marker == 0xDA:
            following = _MARKER.search(content, end)
            position = following.start() if following else len(content)
            kept.append(content[end:position])
            if following is None:
                return b"".join(kept), dropped


def _jpeg_part(marker: int, data: bytes) -> str | None:
    """What kind of metadata a segment is; None for one that the picture needs."""
    if marker == 0xFE:
        return TEXT
    if not 0xE0 <= marker <= 0xEF:
        return None
    if marker == 0xE0 and data.startswith(b"JFIF\0") and len(data) >= 14:
        return None
    if marker == 0xE1:
        return EXIF if data.startswith(b"Exif") else XMP
    if (marker == 0xE2 and data.startswith(_JPEG_ICC)) or (marker == 0xEE and data.startswith(b"Adobe")):
        return None
    return IPTC if marker == 0xED else OTHER


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


# --- PNG --------------------------------------------------------------------------------------------------------------

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"hIST", b"pHYs",
             b"acTL", b"fcTL", b"fdAT"}  # fmt: skip
_PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}


def _strip_png(content: bytes, turn: int) -> tuple[bytes, set[str]]:
    import zlib

    exif = _turning(turn)
    kept, dropped, position = [_PNG_START], set(), len(_PNG_START)
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        chunk = content[position : position + 12 + length]
        position += len(chunk)
        # Those whose name begins with a capital are the picture itself.
        if kind in _PNG_KEPT or kind[:1].isupper():
            kept.append(chunk)
        elif kind == b"eXIf":
            dropped |= {EXIF} if chunk[8:-4] != exif else set()
        else:
            dropped.add(_png_text(chunk) if kind in _PNG_TEXTS else OTHER)
        if kind == b"IHDR" and exif:
            kept.append(struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif)))
        if kind == b"IEND":
            dropped |= {OTHER} if position < len(content) else set()
            break
    return b"".join(kept), dropped


def _png_text(chunk: bytes) -> str:
    key = chunk[8:].split(b"\0")[0].lower()
    return XMP if b"xmp" in key else EXIF if b"exif" in key else IPTC if b"iptc" in key else TEXT


# --- WebP -------------------------------------------------------------------------------------------------------------

_WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04


def _strip_webp(content: bytes, turn: int) -> tuple[bytes, set[str]]:
    exif = _turning(turn)
    kept, dropped, position = [], set(), 12
    end = min(8 + int.from_bytes(content[4:8], "little"), len(content))
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", content, position)
        data = content[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
        if kind == b"VP8X":
            flags = data[0] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if exif else 0)
            kept.append(_riff(kind, bytes([flags]) + data[1:]))
        elif kind in _WEBP_KEPT:
            kept.append(_riff(kind, data))
        elif kind != b"EXIF" or data.removeprefix(_JPEG_EXIF) != exif:
            dropped.add({b"EXIF": EXIF, b"XMP ": XMP}.get(kind, OTHER))
    if exif:
        kept.append(_riff(b"EXIF", exif))
    dropped |= {OTHER} if position < len(content) else set()
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body, dropped


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


# --- GIF --------------------------------------------------------------------------------------------------------------

_GIF_KEPT = (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012")


def _strip_gif(content: bytes, turn: int) -> tuple[bytes, set[str]]:
    position = 13 + _gif_colours(content[10])
    kept, dropped = [content[:position]], set()
    while True:
        start, kind = position, content[position]
        if kind == 0x3B:
            dropped |= {OTHER} if content[position + 1 :].strip(b"\0") else set()
            return b"".join([*kept, b"\x3b"]), dropped
        if kind == 0x2C:
            position = _gif_blocks_end(content, position + 11 + _gif_colours(content[position + 9]))
            kept.append(content[start:position])
        elif kind == 0x21:
            label, named = content[position + 1], content[position + 3 : position + 14]
            position = _gif_blocks_end(content, position + 2)
            if label == 0xF9 or (label == 0xFF and named in _GIF_KEPT):
                kept.append(content[start:position])
            else:
                dropped.add(XMP if named.startswith(b"XMP") else TEXT if label in (0xFE, 0x01) else OTHER)
        else:
            raise ValueError(f"no block of a GIF at byte {position}")


def _gif_colours(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks_end(content: bytes, position: int) -> int:
    while content[position]:
        position += 1 + content[position]
    return position + 1


# --- JPEG 2000 --------------------------------------------------------------------------------------------------------

_JP2_DROPPED = {b"uuid": EXIF, b"xml ": XMP, b"uinf": OTHER, b"jp2i": OTHER, b"free": OTHER, b"asoc": OTHER}


def _strip_jpeg2000(content: bytes, turn: int) -> tuple[bytes, set[str]]:
    if content.startswith(b"\xff\x4f"):  # a code stream without boxes
        return content, set()
    kept, dropped, position = [], set(), 0
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if length == 1:
            length = struct.unpack_from(">Q", content, position + 8)[0]
        length = length or len(content) - position
        if length < 8:
            raise ValueError(f"a box of {length} bytes at byte {position}")
        if kind in _JP2_DROPPED:
            dropped.add(_JP2_DROPPED[kind])
        else:
            kept.append(content[position : position + length])
        position += length
    return b"".join(kept), dropped


# --- TIFF -------------------------------------------------------------------------------------------------------------

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_KEPT = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284,
    290, 291, 292, 293, 296, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 332, 334, 336, 338, 339,
    340, 341, 342, 347, 529, 530, 531, 532, 34675,
}  # fmt: skip
"""What the picture is made of: sizes, bits, colours, strips and tiles, resolution, ICC profile."""
_TIFF_PIXELS = {273: 279, 324: 325}
"""Where strips and tiles lie -> how long they are."""
_TIFF_KINDS = {700: XMP, 33723: IPTC, 34377: IPTC, 34665: EXIF, 34853: GPS, 270: TEXT, 305: TEXT, 285: TEXT, 269: TEXT,
               271: EXIF, 272: EXIF, 306: EXIF, 316: EXIF, 315: OWNER, 33432: OWNER}  # fmt: skip
_TIFF_OLD_JPEG = 6


def _strip_tiff(content: bytes, turn: int) -> tuple[bytes, set[str]]:
    order = {b"II": "<", b"MM": ">"}[content[:2]]
    big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
    # The form of offsets, of the count of entries, and the bytes of the header and of an entry.
    offset, count, header, entry = ("Q", "Q", 16, 20) if big else ("I", "H", 8, 12)
    inline = struct.calcsize(f"{order}{offset}")
    written = bytearray(content[:header])
    link, dropped, seen = header - inline, set(), set()
    (page,) = struct.unpack_from(f"{order}{offset}", content, link)
    while page:
        if page in seen:
            raise ValueError("its pages go in a circle")
        seen.add(page)
        (entries,) = struct.unpack_from(f"{order}{count}", content, page)
        start = page + struct.calcsize(f"{order}{count}")
        values: dict[int, tuple[int, int, bytes]] = {}
        for number in range(entries):
            tag, kind, length = struct.unpack_from(f"{order}HH{offset}", content, start + number * entry)
            if tag not in _TIFF_KEPT:
                dropped.add(_TIFF_KINDS.get(tag, OTHER))
                continue
            size = _TIFF_SIZES[kind] * length
            place = start + number * entry + 4 + inline
            if size > inline:
                (place,) = struct.unpack_from(f"{order}{offset}", content, place)
            values[tag] = kind, length, _part(content, place, size)
        _write_page(written, content, values, link, (order, offset, count))
        link = len(written) - inline
        (page,) = struct.unpack_from(f"{order}{offset}", content, start + entries * entry)
    stripped = bytes(written)
    return (stripped, dropped) if dropped else (content, dropped)


def _write_page(
    written: bytearray, content: bytes, values: dict[int, tuple[int, int, bytes]], link: int, form: tuple[str, str, str]
) -> None:
    """Add one page with its pixels, and let the place `link` point to it."""
    order, offset, count = form
    inline = struct.calcsize(f"{order}{offset}")
    if 259 in values and _numbers(values[259], order)[0] == _TIFF_OLD_JPEG:
        raise ValueError("its compression is the old JPEG")
    for places, lengths in _TIFF_PIXELS.items():
        if places not in values:
            continue
        moved = []
        for place, length in zip(_numbers(values[places], order), _numbers(values[lengths], order), strict=True):
            written += b"\0" * (len(written) % 2)
            moved.append(len(written))
            written += _part(content, place, length)
        values[places] = (16 if offset == "Q" else 4, len(moved), struct.pack(f"{order}{len(moved)}{offset}", *moved))
    entries = []
    for tag, (kind, length, data) in sorted(values.items()):
        if len(data) > inline:
            written += b"\0" * (len(written) % 2)
            at, data = len(written), data
            written += data
            data = struct.pack(f"{order}{offset}", at)
        entries.append(struct.pack(f"{order}HH{offset}", tag, kind, length) + data.ljust(inline, b"\0"))
    written += b"\0" * (len(written) % 2)
    struct.pack_into(f"{order}{offset}", written, link, len(written))
    written += struct.pack(f"{order}{count}", len(entries)) + b"".join(entries) + b"\0" * inline


def _numbers(value: tuple[int, int, bytes], order: str) -> tuple[int, ...]:
    kind, length, data = value
    return struct.unpack(f"{order}{length}{ {1: 'B', 3: 'H', 4: 'I', 16: 'Q', 13: 'I'}[kind] }", data)


def _part(content: bytes, start: int, length: int) -> bytes:
    if start + length > len(content):
        raise ValueError(f"a part of it would end at byte {start + length:,} of {len(content):,}")
    return content[start : start + length]


_STRIPPERS: dict[str, Callable[[bytes, int], tuple[bytes, set[str]]]] = {
    "JPEG": _strip_jpeg,
    "MPO": _strip_jpeg,
    "PNG": _strip_png,
    "TIFF": _strip_tiff,
    "WEBP": _strip_webp,
    "GIF": _strip_gif,
    "JPEG2000": _strip_jpeg2000,
}
