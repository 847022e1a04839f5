import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from agssp.data import images
from agssp.data.images import ImageError, decode_image, image_size
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
    header_only = encoded(Image.new("1", (20_000, 20_000)))[:200]
    with pytest.raises(ImageError, match="100,000,000"):
        decode_image(header_only)


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


def test_size_from_the_header(colours, tmp_path):
    colours.save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (9, 6)


TWELVE_BITS = np.array([[0, 16, 100, 2000, 4095]], np.uint16)
AS_TWELVE = [0, 1, 6, 125, 255]
AS_SIXTEEN = [0, 0, 0, 8, 16]


def greys(content, **options):
    return np.asarray(decode_image(content, "plate 7", **options))[0, :, 0].tolist()


def png_with_significant_bits(values, bits):
    content = encoded(Image.fromarray(values))
    chunk = b"sBIT" + bytes([bits])
    header = 8 + 25
    return content[:header] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[header:]


@pytest.fixture
def unwarned(monkeypatch):
    monkeypatch.setattr(images, "_warned", set())


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
