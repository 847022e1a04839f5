import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from agssp.data.image_notes import ImageNotes, begin_image_notes
from agssp.data.images import ImageError, decode_image, image_frame, image_size
from agssp.errors import InputError


def encoded(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def colours():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8))


def test_zero_bytes(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"plate 7: the file is empty"):
        decode_image(tmp_path / "a.png", "plate 7")


@pytest.mark.parametrize("value", [b"not an image at all", {"path": None, "bytes": b"GIF but no"}])
def test_no_image(value):
    with pytest.raises(ImageError, match="no known image format"):
        decode_image(value, "x")


def test_missing_file(tmp_path):
    (tmp_path / "other.png").write_bytes(b"")
    with pytest.raises(ImageError, match="no such file"):
        decode_image({"path": str(tmp_path / "gone.png"), "bytes": None})


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_truncated(colours, kind):
    content = encoded(colours.resize((200, 200)), kind)
    with pytest.raises(ImageError, match="damaged or truncated"):
        decode_image(content[: len(content) // 2], "x")


def test_one_pixel():
    assert decode_image(encoded(Image.new("L", (1, 1), 7))).getpixel((0, 0)) == (7, 7, 7)


def test_long_side_of_20000_px_is_read_and_too_many_pixels_are_refused():
    content = encoded(Image.new("L", (20_000, 3)))
    assert decode_image(content).size == (20_000, 3)
    with pytest.raises(ImageError, match=r"20000 x 3 px is over the limit of 50,000"):
        decode_image(content, max_pixels=50_000)


def test_huge_image_is_refused_before_it_is_decoded():
    for content in (encoded(Image.new("1", (8, 8))), deep(COLOURS_OF_TWELVE)):
        header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + content[24:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
        with pytest.raises(ImageError, match="100,000,000"):
            decode_image(content)


def test_sixteen_bit_uses_its_full_range():
    values = np.array([[0, 257 * 3, 65_535]], np.uint16)
    assert np.asarray(decode_image(encoded(Image.fromarray(values))))[0, :, 0].tolist() == [0, 3, 255]
    assert np.asarray(decode_image(encoded(Image.fromarray(values), "tiff")))[0, :, 1].tolist() == [0, 3, 255]


def test_float_image():
    image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert np.asarray(decode_image(encoded(image, "tiff")))[0, :, 0].tolist() == [0, 128, 255]


def test_palette_with_and_without_transparency(colours):
    plain = colours.quantize(200)
    assert np.array_equal(np.asarray(decode_image(encoded(plain))), np.asarray(plain.convert("RGB")))
    clear = encoded(plain, transparency=0)
    assert decode_image(clear).mode == "RGB"


def test_transparency_is_dropped(colours):
    image = colours.copy()
    image.putalpha(40)
    assert np.array_equal(np.asarray(decode_image(encoded(image))), np.asarray(colours))


def test_cmyk(colours):
    content = encoded(colours.convert("CMYK"), "tiff")
    assert decode_image(content).mode == "RGB"
    difference = np.asarray(decode_image(content)).astype(int) - np.asarray(colours)
    assert np.abs(difference).max() <= 2


def test_exif_orientation(colours):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(colours, exif=exif)
    assert decode_image(content).size == (6, 9)
    assert image_size(content) == (6, 9)
    assert np.array_equal(np.asarray(decode_image(content)), np.rot90(np.asarray(colours), -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sixteen", [False, True])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_exif_orientation_of_a_file_on_disk(tmp_path, kind, sixteen, orientation):
    values = np.arange(18, dtype=np.uint8).reshape(3, 6)
    turns = {
        1: values, 2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1],
        5: values.T, 6: np.rot90(values, -1), 7: values[::-1, ::-1].T, 8: np.rot90(values),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(values * np.uint16(257) if sixteen else values)
    image.save(tmp_path / "a", kind, exif=exif)
    decoded = decode_image(tmp_path / "a")
    assert np.array_equal(np.asarray(decoded)[..., 0], turns[orientation])
    assert image_size(tmp_path / "a") == decoded.size


def frame_or_error(value):
    try:
        return image_frame(value, "a.jpg")
    except ImageError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.parametrize("preview", [0, 6000])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_frame_of_a_jpeg_file_is_that_of_its_bytes(colours, tmp_path, orientation, preview):
    exif = Image.Exif()
    exif[0x9C9C] = b"x" * preview
    if orientation is not None:
        exif[0x0112] = orientation
    content = encoded(colours, "jpeg", exif=exif)
    upright = (6, 9) if orientation in (5, 6, 7, 8) else (9, 6)
    assert image_frame(content) == (upright, orientation or 1)
    # Whole, cut short anywhere in its header, and damaged.
    damaged = bytes(content[:4]) + b"\xff" * 8 + content[12:]
    file = tmp_path / "a.jpg"
    for part in (content, damaged, *(content[:length] for length in range(1, len(content), 37))):
        file.write_bytes(part)
        assert frame_or_error(file) == frame_or_error(str(file)) == frame_or_error(part)


def test_a_folder_called_like_an_image_is_none(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(ImageError, match=r"plate 7: no such file"):
        image_frame(tmp_path / "a.jpg", "plate 7")


def test_size_from_the_header(colours, tmp_path):
    colours.save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (9, 6)


TWELVE_BITS = np.array([[0, 16, 100, 2000, 4095]], np.uint16)
AS_TWELVE = [0, 1, 6, 125, 255]
AS_SIXTEEN = [0, 0, 0, 8, 16]


def greys(content, **options):
    return np.asarray(decode_image(content, "plate 7", **options))[0, :, 0].tolist()


def png_with_significant_bits(values, bits):
    return with_chunk(encoded(Image.fromarray(values)), b"sBIT", bytes([bits]))


def with_chunk(content, kind, value):
    """A PNG with one more chunk behind its header."""
    header, chunk = 8 + 25, kind + value
    length = struct.pack(">I", len(value))
    return content[:header] + length + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[header:]


def tiff(values, *, planar=False, orientation=1, packed_bits=None, width=None):
    """A TIFF of one strip a plane, (H, W, bands), which no writer at hand would make."""
    height, shown, bands = values.shape
    if packed_bits:
        shown, bands = width, 1
    bits, form = packed_bits or 8 * values.dtype.itemsize, {"u": 1, "f": 3}[values.dtype.kind]
    data = (values.transpose(2, 0, 1) if planar else values).tobytes()
    strips, colours = (bands, 3) if planar else (1, 3)
    tags = {
        256: [shown], 257: [height], 258: [bits] * bands, 259: [1], 262: [2 if bands >= 3 else 1], 273: [0] * strips,
        274: [orientation], 277: [bands], 278: [height], 279: [len(data) // strips] * strips,
        284: [2 if planar else 1], 338: [0] * (bands - (colours if bands >= 3 else 1)), 339: [form] * bands,
    }  # fmt: skip
    tags = {tag: entry for tag, entry in tags.items() if entry}
    start = 8 + 2 + 12 * len(tags) + 4
    data_start = start + sum(4 * len(entry) for entry in tags.values() if len(entry) > 1)
    tags[273] = [data_start + index * (len(data) // strips) for index in range(strips)]
    entries, beside = b"", b""
    for tag, entry in tags.items():
        words = struct.pack(f"<{len(entry)}I", *entry)
        place = words if len(entry) == 1 else struct.pack("<I", start + len(beside))
        entries += struct.pack("<HHI", tag, 4, len(entry)) + place
        beside += words if len(entry) > 1 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + beside + data


@pytest.fixture
def unwarned():
    begin_image_notes()


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_twelve_bits_in_sixteen_are_warned_of_once_and_the_bit_depth_helps(kind, caplog, monkeypatch, unwarned):
    content = encoded(Image.fromarray(TWELVE_BITS), kind)
    assert greys(content) == greys(content) == AS_SIXTEEN
    (record,) = caplog.records
    assert "plate 7: a 16-bit image with no value above 4095" in record.getMessage()
    assert "AGSSP_BIT_DEPTH=12" in record.getMessage()
    assert greys(content, bit_depth=12) == AS_TWELVE
    monkeypatch.setenv("AGSSP_BIT_DEPTH", "12")
    assert greys(content) == AS_TWELVE
    assert greys(content, bit_depth=16) == AS_SIXTEEN


def test_no_warning_of_black_and_of_full_range_images(caplog, unwarned):
    for high in (0, 4096, 65_535):
        decode_image(encoded(Image.fromarray(np.full((2, 2), high, np.uint16))))
    assert not caplog.records


def test_values_beyond_the_bit_depth_are_white():
    content = encoded(Image.fromarray(np.array([[1023, 1024, 60_000]], np.uint16)))
    assert greys(content, bit_depth=10) == [255, 255, 255]


@pytest.mark.parametrize("value", ["7", "17", "twelve", "12.0"])
def test_a_bit_depth_that_is_none_is_the_users_error_not_the_images(value, monkeypatch):
    content = encoded(Image.fromarray(TWELVE_BITS))
    monkeypatch.setenv("AGSSP_BIT_DEPTH", value)
    with pytest.raises(InputError, match="AGSSP_BIT_DEPTH: expected a number of bits from 8 to 16") as caught:
        decode_image(content)
    assert not isinstance(caught.value, ImageError)
    with pytest.raises(InputError, match="bit_depth: expected a number of bits from 8 to 16, got 20"):
        decode_image(content, bit_depth=20)


def test_bit_depth_that_the_file_names(caplog, unwarned):
    image = Image.fromarray(TWELVE_BITS)
    assert greys(encoded(image, "tiff", tiffinfo={281: 4095})) == AS_TWELVE
    assert greys(png_with_significant_bits(TWELVE_BITS, 12)) == AS_TWELVE
    assert not caplog.records
    # What the user says goes before what the file says.
    assert greys(encoded(image, "tiff", tiffinfo={281: 4095}), bit_depth=16) == AS_SIXTEEN


def test_a_maximum_that_is_only_this_images_own_is_no_bit_depth(unwarned):
    assert greys(encoded(Image.fromarray(TWELVE_BITS), "tiff", tiffinfo={281: 4000})) == AS_SIXTEEN
    bright = np.array([[0, 4095, 65_535]], np.uint16)
    assert greys(encoded(Image.fromarray(bright), "tiff", tiffinfo={281: 4095})) == [0, 16, 255]


def test_significant_bits_of_a_png_that_is_scaled_as_the_standard_asks(unwarned):
    assert greys(png_with_significant_bits(TWELVE_BITS << 4, 12)) == [0, 1, 6, 125, 255]
    dark = np.array([[16, 32, 160]], np.uint16) << 4
    assert greys(png_with_significant_bits(dark, 12)) == [1, 2, 10]


def test_bit_depth_that_a_file_on_disk_names(tmp_path):
    Image.fromarray(TWELVE_BITS).save(tmp_path / "a.tif", tiffinfo={281: 4095})
    (tmp_path / "a.png").write_bytes(png_with_significant_bits(TWELVE_BITS, 12))
    assert greys(tmp_path / "a.tif") == greys(tmp_path / "a.png") == AS_TWELVE


def test_integers_of_32_bits(unwarned):
    def stored(*values):
        return encoded(Image.fromarray(np.array([values], np.int32)), "tiff")

    assert greys(stored(0, 7, 200, 255)) == [0, 7, 200, 255]
    assert greys(stored(0, 257, 65_535)) == [0, 1, 255]
    assert greys(stored(-5, 0, 5)) == [0, 128, 255]
    assert greys(stored(0, 1_000_000)) == [0, 255]
    assert greys(stored(0, 100), bit_depth=16) == [0, 0]


def test_pgm_names_its_own_maximum(monkeypatch, caplog, unwarned):
    twelve = b"P5 5 1 4095\n" + TWELVE_BITS.astype(">u2").tobytes()
    assert greys(twelve) == AS_TWELVE
    assert greys(b"P5 2 1 4095\n\x00\x10\x00\x20") == [1, 2]
    monkeypatch.setenv("AGSSP_BIT_DEPTH", "12")
    assert greys(twelve) == AS_TWELVE
    assert not caplog.records
    assert greys(b"P5 5 1 65535\n" + TWELVE_BITS.astype(">u2").tobytes()) == AS_TWELVE


# Red, green and blue of three pixels, as a 12-bit camera stores them in 16 bits; then 255 / 4095 and 255 / 65535 of it.
COLOURS_OF_TWELVE = np.array([[[0, 16, 100], [4095, 2000, 16], [100, 0, 4095]]], np.uint16)
COLOURS_AS_TWELVE = [[0, 1, 6], [255, 125, 1], [6, 0, 255]]
COLOURS_AS_SIXTEEN = [[0, 0, 0], [16, 8, 0], [0, 0, 16]]


def deep(values, kind=".png"):
    """A file of 16-bit colour; OpenCV writes blue first."""
    return cv2.imencode(kind, values[..., [2, 1, 0, *range(3, values.shape[-1])]])[1].tobytes()


def colours_of(content, **options):
    return np.asarray(decode_image(content, "plate 7", **options))[0].tolist()


@pytest.mark.parametrize("kind", [".png", ".tif", ".ppm"])
def test_twelve_bits_in_sixteen_of_colour_follow_the_bit_depth(kind, caplog, monkeypatch, unwarned):
    content = deep(COLOURS_OF_TWELVE, kind)
    assert colours_of(content) == colours_of(content) == COLOURS_AS_SIXTEEN
    (record,) = caplog.records
    assert "plate 7: a 16-bit image with no value above 4095" in record.getMessage()
    assert colours_of(content, bit_depth=12) == COLOURS_AS_TWELVE
    monkeypatch.setenv("AGSSP_BIT_DEPTH", "12")
    assert colours_of(content) == COLOURS_AS_TWELVE
    assert colours_of(content, bit_depth=16) == COLOURS_AS_SIXTEEN


def test_sixteen_bits_of_colour_use_their_full_range(caplog, unwarned):
    values = np.array([[[0, 257 * 3, 65_535]]], np.uint16)
    assert colours_of(deep(values)) == colours_of(deep(values, ".tif")) == [[0, 3, 255]]
    assert not caplog.records


@pytest.mark.parametrize("kind", [".png", ".tif"])
def test_transparency_of_sixteen_bits_is_dropped(kind, unwarned):
    values = np.dstack([COLOURS_OF_TWELVE, np.full((1, 3), 9, np.uint16)])
    assert colours_of(deep(values, kind), bit_depth=12) == COLOURS_AS_TWELVE


def test_sixteen_bits_of_jpeg_2000(unwarned):
    # Flat colours survive its compression.
    values = np.broadcast_to(np.array([4095, 2000, 16], np.uint16), (64, 64, 3))
    try:
        content = deep(values, ".jp2")
    except cv2.error:
        pytest.skip("OpenCV was built without JPEG 2000")
    assert np.abs(np.array(colours_of(content, bit_depth=12)) - [255, 125, 1]).max() <= 1


def test_a_ppm_of_colour_that_names_its_own_maximum(monkeypatch, unwarned):
    monkeypatch.setenv("AGSSP_BIT_DEPTH", "10")
    assert colours_of(b"P6 3 1 4095\n" + COLOURS_OF_TWELVE.astype(">u2").tobytes()) == COLOURS_AS_TWELVE


def test_bit_depth_of_colour_that_the_file_names(caplog, unwarned):
    content = deep(COLOURS_OF_TWELVE)
    assert colours_of(with_chunk(content, b"sBIT", bytes([12, 12, 12]))) == COLOURS_AS_TWELVE
    # The three channels may differ; the widest says what white is.
    assert colours_of(with_chunk(content, b"sBIT", bytes([10, 12, 10]))) == COLOURS_AS_TWELVE
    assert not caplog.records


@pytest.mark.parametrize("kind", [".png", ".tif"])
def test_sixteen_bits_of_colour_cut_short(kind):
    noise = np.random.default_rng(0).integers(0, 65_536, (60, 60, 3), dtype=np.uint16)
    content = deep(noise, kind)
    with pytest.raises(ImageError, match=r"plate 7: .*(damaged|no known image format)"):
        colours_of(content[: len(content) // 2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_sixteen_bits_of_colour(orientation):
    values = np.arange(18, dtype=np.uint16).reshape(3, 6)
    turns = {
        1: values, 2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1],
        5: values.T, 6: np.rot90(values, -1), 7: values[::-1, ::-1].T, 8: np.rot90(values),
    }  # fmt: skip
    colours = np.dstack([values * 257, values * 514, values * 771])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for content in (
        with_chunk(deep(colours), b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        tiff(colours, orientation=orientation),
    ):
        decoded = np.asarray(decode_image(content))
        assert np.array_equal(decoded, np.dstack([turns[orientation] * np.uint16(times) for times in (1, 2, 3)]))
        assert image_size(content) == decoded.shape[1::-1]


def test_one_warning_of_dark_images_a_data_set(caplog):
    grey, colour = encoded(Image.fromarray(TWELVE_BITS)), deep(COLOURS_OF_TWELVE)
    for _ in range(2):
        notes = begin_image_notes()
        for name, content in (("a", grey), ("b", colour), ("c", grey), ("b", colour)):
            decode_image(content, name)
        assert {kind: list(names) for kind, names in notes.names.items()} == {"dark": ["a", "b", "c"], "pages": []}
        (line,) = notes.lines()
        assert line.startswith("3 images of 16 bits have no value above 4095")
        assert line.endswith("the first: a")
    assert len(caplog.records) == 2


def test_one_warning_of_a_data_set_that_several_processes_decode(caplog, unwarned):
    content = encoded(Image.fromarray(TWELVE_BITS))
    child = os.fork()
    if child == 0:
        decode_image(content)
        os._exit(0)
    os.waitpid(child, 0)
    decode_image(content)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["tiff", "gif", "webp", "png"])
def test_further_pages_are_told_once_and_counted(kind, caplog):
    notes = ImageNotes()
    pages = [Image.new("RGB", (9, 6), (value, value, value)) for value in (10, 200, 90)]
    content = encoded(pages[0], kind, save_all=True, append_images=pages[1:])
    for name in ("stack 1", "stack 2"):
        assert np.abs(np.asarray(decode_image(content, name, notes=notes)).astype(int) - 10).max() <= 3
    (record,) = caplog.records
    assert record.getMessage().startswith("stack 1: holds 3 pages, of which the first is read")
    assert notes.lines() == ["2 image files hold several pages, of which the first alone is read; the first: stack 1"]


def test_previews_and_thumbnails_are_no_further_pages(colours):
    notes = ImageNotes()
    decode_image(encoded(colours, "MPO", save_all=True, append_images=[colours]), notes=notes)
    file = io.BytesIO()
    with AppendingTiffWriter(file, True) as writer:
        colours.save(writer, "tiff")
        writer.newFrame()
        colours.resize((3, 2)).save(writer, "tiff", tiffinfo={254: 1})
        writer.newFrame()
    assert Image.open(file).n_frames == 2
    assert np.array_equal(np.asarray(decode_image(file.getvalue(), notes=notes)), np.asarray(colours))
    assert notes.lines() == []


@pytest.mark.parametrize(
    ("shape", "kind", "planar", "words"),
    [
        ((6, 9, 5), np.uint8, False, "5 bands of 8 bits"),
        ((6, 9, 5), np.uint16, False, "5 bands of 16 bits"),
        ((6, 9, 7), np.uint16, True, "7 bands of 16 bits, one band after the other"),
        ((6, 9, 3), np.uint16, True, "3 bands of 16 bits, one band after the other"),
        ((6, 9, 2), np.uint16, False, "2 bands of 16 bits"),
        ((6, 9, 3), np.float32, False, "3 bands of 32 bits, floating point"),
    ],
)
def test_bands_that_are_no_picture(shape, kind, planar, words):
    content = tiff(np.full(shape, 7, kind), planar=planar)
    for read in (decode_image, image_size):
        with pytest.raises(ImageError, match=f"plate 7: a TIFF of {words}, which is no picture; expected 1 band"):
            read(content, "plate 7")


def test_twelve_bits_packed_in_a_tiff(unwarned, caplog):
    # Two values in three bytes: 0x010 and 0xFFF.
    content = tiff(np.array([[[0x01, 0x0F, 0xFF]]], np.uint8), packed_bits=12, width=2)
    assert greys(content) == [1, 255]
    assert not caplog.records


def test_open_file(colours, tmp_path):
    colours.save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        assert image_size(file) == (9, 6)
        file.seek(0)
        assert np.array_equal(np.asarray(decode_image(file)), np.asarray(colours))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_rgb_of_the_same_size(mode):
    image = Image.new(mode, (5, 3))
    assert decode_image(image).mode == "RGB"
    assert decode_image(image).size == image_size(image) == (5, 3)


def test_size_of_what_cannot_be_decoded(colours, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"plate 7: the file is empty"):
        image_size(tmp_path / "a.png", "plate 7")
    with pytest.raises(ImageError, match="no known image format"):
        image_size(b"not an image", "x")
    with pytest.raises(ImageError, match=r"damaged|no known image format"):
        image_size(encoded(colours)[:20], "x")
    assert image_size(encoded(Image.new("L", (20_000, 3)))) == (20_000, 3)
    assert image_size(encoded(Image.new("L", (1, 1)))) == (1, 1)
