"""What tells of camera, place and people is taken out of image files, and the picture stays, bit for bit."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from agssp.data.image_metadata import EXIF, GPS, IPTC, OTHER, OWNER, SERIAL, TEXT, XMP, without_metadata
from agssp.data.images import ImageError, decode_image, image_frame

SECRETS = (b"SN-4711", b"Ann Owner", b"<x:secret", b"on my desk", b"Line 3 camera")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XML = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><x:secret/></x:xmpmeta>'
PIXELS = np.random.default_rng(0).integers(0, 255, (13, 22, 3), dtype=np.uint8)


def exif(turn=1):
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = turn
    block[ExifTags.Base.Make] = "Line 3 camera"
    block[ExifTags.Base.Artist] = "Ann Owner"
    inner = block.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.BodySerialNumber] = "SN-4711"
    inner[ExifTags.Base.CameraOwnerName] = "Ann Owner"
    block.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 7.0, 42.0)
    return block


def saved(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def jpeg(turn=1, **options):
    content = saved(
        "JPEG", exif=exif(turn), icc_profile=PROFILE, comment="on my desk", xmp=XML, dpi=(300, 300), **options
    )
    photoshop = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x09Ann Owner\0"
    return content[:2] + b"\xff\xed" + struct.pack(">H", len(photoshop) + 2) + photoshop + content[2:]


def png(turn=1, mode="RGB", **options):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "on my desk")
    info.add_itxt("XML:com.adobe.xmp", XML.decode())
    return saved("PNG", mode, exif=exif(turn), icc_profile=PROFILE, pnginfo=info, dpi=(300, 300), **options)


def webp(turn=1, **options):
    return saved("WEBP", exif=exif(turn).tobytes(), xmp=XML, icc_profile=PROFILE, **options)


def tiff(turn=1, mode="RGB", big=False, **options):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in exif(turn).items():
        tags[tag] = value
    tags[ExifTags.Base.ImageDescription] = "on my desk"
    tags[700] = XML
    if not options:  # libtiff would not write these
        tags[ExifTags.IFD.Exif] = {ExifTags.Base.BodySerialNumber: "SN-4711"}
        tags[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    return saved("TIFF", mode, tiffinfo=tags, big_tiff=big, icc_profile=PROFILE, **options)


def gif():
    return saved("GIF", "P", comment="on my desk")


def jpeg2000():
    content = saved("JPEG2000", quality_mode="lossless")
    boxes = content.index(b"jp2c") - 4
    return content[:boxes] + struct.pack(">I4s", 8 + len(XML), b"xml ") + XML + content[boxes:]


EVERYTHING = {EXIF, GPS, SERIAL, OWNER, XMP}
FILES = {
    "jpeg": (jpeg(), EVERYTHING | {IPTC, TEXT}),
    "progressive jpeg": (jpeg(progressive=True, subsampling=2), EVERYTHING | {IPTC, TEXT}),
    "png": (png(), EVERYTHING | {TEXT}),
    "16 bits": (png(mode="I;16"), EVERYTHING | {TEXT}),
    "palette": (png(mode="P"), EVERYTHING | {TEXT}),
    "one bit": (png(mode="1"), EVERYTHING | {TEXT}),
    "webp": (webp(lossless=True), EVERYTHING),
    "lossy webp": (webp(quality=60), EVERYTHING),
    "tiff": (tiff(), EVERYTHING | {TEXT}),
    "lzw tiff": (tiff(compression="tiff_lzw"), {EXIF, OWNER, XMP, TEXT}),
    "jpeg tiff": (tiff(compression="jpeg"), {EXIF, OWNER, XMP, TEXT}),
    "16-bit tiff": (tiff(mode="I;16"), EVERYTHING | {TEXT}),
    "big tiff": (tiff(big=True), EVERYTHING | {TEXT}),
    "gif": (gif(), {TEXT}),
    "jpeg2000": (jpeg2000(), {XMP}),
}  # fmt: skip


def plain(name):
    kind = {"cmyk": "JPEG", "icc": "JPEG", "pnm": "PPM"}.get(name, name.upper())
    mode = {"cmyk": "CMYK", "gif": "P"}.get(name, "RGB")
    return saved(kind, mode, **({"icc_profile": PROFILE} if name == "icc" else {}))


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "pnm", "jpeg2000", "cmyk", "icc"])
def test_a_file_without_metadata_stays_as_it_is(name):
    content = plain(name)
    assert without_metadata(content) == (content, frozenset())


def read_raw(content):
    """The stored pixels, by Pillow alone."""
    with Image.open(io.BytesIO(content)) as image:
        return image.mode, np.asarray(image)


@pytest.mark.parametrize("name", FILES)
def test_everything_goes_but_the_picture(name):
    content, kinds = FILES[name]
    assert any(secret in content for secret in SECRETS)
    stripped, dropped = without_metadata(content, name)
    assert dropped == kinds
    assert not any(secret in stripped for secret in SECRETS)
    with Image.open(io.BytesIO(stripped)) as image:
        if image.format != "TIFF":
            assert not image.getexif()
        assert not image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert not image.getexif().get_ifd(ExifTags.IFD.Exif)
        assert "xmp" not in image.info
        with Image.open(io.BytesIO(content)) as before:
            assert image.info.get("icc_profile") == before.info.get("icc_profile")
            assert image.info.get("dpi") == before.info.get("dpi")
    (mode, pixels), (old_mode, old_pixels) = read_raw(stripped), read_raw(content)
    assert mode == old_mode
    assert np.array_equal(pixels, old_pixels)
    assert np.array_equal(decode_image(stripped), decode_image(content))
    assert without_metadata(stripped) == (stripped, frozenset())


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("make", [jpeg, png, webp, tiff])
def test_the_picture_stays_upright(make, turn):
    content = make(turn)
    stripped, dropped = without_metadata(content)
    assert {EXIF, GPS, SERIAL, OWNER} <= dropped
    assert np.array_equal(decode_image(stripped), decode_image(content))
    assert image_frame(stripped) == image_frame(content)
    assert image_frame(stripped)[1] == turn
    assert without_metadata(stripped) == (stripped, frozenset())


def jpeg_scan(content):
    return content[content.index(b"\xff\xda") : content.rindex(b"\xff\xd9")]


def test_nothing_is_encoded_anew():
    assert jpeg_scan(without_metadata(jpeg())[0]) == jpeg_scan(jpeg())
    data = [content[content.index(b"IDAT") :][:200] for content in (png(), without_metadata(png())[0])]
    assert data[0] == data[1]


def test_turned_only_by_xmp():
    xml = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:tiff="t" tiff:Orientation="6"/></x:xmpmeta>'
    content = saved("JPEG", xmp=xml)
    assert decode_image(content).size == (13, 22)
    stripped, dropped = without_metadata(content)
    assert dropped == {XMP}
    assert np.array_equal(decode_image(stripped), decode_image(content))


def test_a_block_with_the_orientation_alone_is_no_loss():
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = 6
    content = saved("JPEG", exif=block)
    assert without_metadata(content) == (content, frozenset())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_what_follows_the_end_goes(kind):
    content = saved(kind, "P" if kind == "GIF" else "RGB")
    assert without_metadata(content + b"on my desk") == (content, {OTHER})


def test_the_other_pictures_of_a_cameras_file_go():
    file = io.BytesIO()
    first, second = (Image.fromarray(pixels) for pixels in (PIXELS, PIXELS[::-1].copy()))
    second.getexif()[ExifTags.Base.Make] = "Line 3 camera"
    first.save(file, "MPO", save_all=True, append_images=[second], exif=exif())
    stripped, dropped = without_metadata(file.getvalue())
    assert OTHER in dropped
    assert np.array_equal(decode_image(stripped), decode_image(file.getvalue()))
    with Image.open(io.BytesIO(stripped)) as image:
        assert image.format == "JPEG"


def test_pages_of_a_tiff_all_stay_and_all_lose_theirs():
    file = io.BytesIO()
    pages = [Image.fromarray(PIXELS + index) for index in range(3)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], software="Line 3 camera", artist="Ann Owner")
    stripped, _ = without_metadata(file.getvalue())
    assert not any(secret in stripped for secret in SECRETS)
    with Image.open(io.BytesIO(stripped)) as image:
        assert image.n_frames == 3
        for index in range(3):
            image.seek(index)
            assert np.array_equal(np.asarray(image), PIXELS + index)


def test_a_preview_in_jfif_goes():
    content = saved("JPEG")
    assert content[2:4] == b"\xff\xe0"
    preview = content[6:18] + b"\x02\x01" + b"secret"
    with_preview = content[:2] + b"\xff\xe0" + struct.pack(">H", len(preview) + 2) + preview + content[20:]
    assert without_metadata(with_preview) == (content, {OTHER})


def test_a_transparent_and_an_animated_webp_stay_so():
    file = io.BytesIO()
    frames = [Image.fromarray(PIXELS).convert("RGBA"), Image.fromarray(PIXELS[::-1].copy()).convert("RGBA")]
    frames[0].putalpha(Image.fromarray(PIXELS[..., 0]))
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True, exif=exif().tobytes())
    stripped, dropped = without_metadata(file.getvalue())
    assert EXIF in dropped
    with Image.open(io.BytesIO(stripped)) as image, Image.open(io.BytesIO(file.getvalue())) as before:
        assert image.n_frames == 2
        assert image.mode == before.mode == "RGBA"
        assert np.array_equal(np.asarray(image), np.asarray(before))


def test_a_format_that_is_not_read_is_refused():
    with pytest.raises(ImageError, match=r"^a\.tga: expected an image file, but its content is no known image format"):
        without_metadata(saved("TGA"), "a.tga")


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff", "gif", "jpeg2000"])
def test_a_damaged_file_is_named_or_keeps_its_picture(name):
    content, generator, named = FILES[name][0], np.random.default_rng(3), []
    for _ in range(60):
        damaged = bytearray(content)
        for place in generator.integers(4, len(content), 3):
            damaged[place] = generator.integers(256)
        damaged = bytes(damaged[: generator.integers(len(content) // 2, len(content) + 1)])
        try:
            before = np.asarray(decode_image(damaged, "a"))
        except ImageError:
            before = None
        try:
            stripped, _ = without_metadata(damaged, "a")
        except ImageError as error:
            named.append(str(error))
            continue
        if before is not None:
            assert np.array_equal(np.asarray(decode_image(stripped, "a")), before)
    assert all(message.startswith("a: ") for message in named)


def test_chunks_keep_their_sums():
    stripped, _ = without_metadata(png(6))
    position, names = 8, []
    while position < len(stripped):
        length, kind = struct.unpack_from(">I4s", stripped, position)
        body = stripped[position + 4 : position + 8 + length]
        assert zlib.crc32(body) == int.from_bytes(stripped[position + 8 + length :][:4])
        names.append(kind)
        position += 12 + length
    assert names[:2] == [b"IHDR", b"eXIf"]
    assert names[-1] == b"IEND"
