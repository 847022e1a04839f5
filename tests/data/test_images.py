import io

import numpy as np
import pytest
from PIL import Image

from agssp.data.images import ImageError, decode_image, image_size


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


def test_size_from_the_header(colours, tmp_path):
    colours.save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (9, 6)
