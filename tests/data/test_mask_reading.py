"""How masks are stored, and how a data set's are read: written by hand, each with what its maker meant."""

import io
import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from agssp.data.images import ImageError
from agssp.data.mask_reading import MaskReading
from agssp.data.stored_mask import look_at, read_stored_mask
from agssp.errors import InputError

# Four quarters of 32 px: sound, class 1, class 8, and what a case says.
QUARTERS = np.zeros((64, 64), np.uint8)
QUARTERS[:32, 32:], QUARTERS[32:, :32] = 1, 8
BORDER = QUARTERS.copy()
BORDER[32:, 32:] = 255
PLACES = ((8, 8), (8, 40), (40, 8), (40, 40))


def encoded(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def voc_palette():
    """Colours as VOC's devkit makes them: three bits of the index at a time go to red, green and blue."""
    colours = []
    for index in range(256):
        red = green = blue = 0
        for shift in (7, 6, 5):
            red |= (index & 1) << shift
            green |= (index >> 1 & 1) << shift
            blue |= (index >> 2 & 1) << shift
            index >>= 3
        colours.append((red, green, blue))
    return colours


def palette_picture(indices, colours):
    picture = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    picture.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
    return picture


def grey(values, dtype=np.uint8):
    return encoded(Image.fromarray(np.asarray(values, dtype)))


def read(*masks, name="mask"):
    """What the four quarters of the first mask are: 1 defect, 0 sound, None ignored."""
    reading = MaskReading.of([(f"{name} {index}", mask) for index, mask in enumerate(masks)], "line")
    found = reading.decode(masks[0], name)
    ignored = np.zeros_like(found.defect) if found.ignored is None else found.ignored
    assert not (found.defect & ignored).any()
    return [None if ignored[place] else int(found.defect[place]) for place in PLACES]


def defects(mask, reading=None):
    reading = MaskReading.of([("mask", mask)], "line") if reading is None else reading
    return reading.decode(mask, "mask").defect


def test_no_masks():
    reading = MaskReading.of([], "line")
    assert reading == MaskReading()
    assert "none" in reading.words()


def test_empty_masks_decide_nothing_and_are_sound():
    empty = grey(np.zeros((4, 4)))
    reading = MaskReading.of([("a", empty)], "line")
    assert not reading.decode(empty, "a").defect.any()
    assert reading.grey is None


def rgba(colour, alpha):
    picture = Image.fromarray(np.asarray(colour, np.uint8))
    picture.putalpha(Image.fromarray(np.asarray(alpha, np.uint8)))
    return encoded(picture)


VOC = voc_palette()
OTHER = [(0, 0, 0), *[(250 - index // 2, index, 7) for index in range(1, 256)]]
TRANSPARENT = np.where(QUARTERS > 0, 255, 0)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (grey(QUARTERS > 0, bool), [0, 1, 1, 0]),
        (grey((QUARTERS > 0) * 255), [0, 1, 1, 0]),
        (grey(QUARTERS > 0), [0, 1, 1, 0]),
        (grey(QUARTERS), [0, 1, 1, 0]),
        (grey(BORDER), [0, 1, 1, None]),
        (grey(QUARTERS, np.uint16), [0, 1, 1, 0]),
        (grey(BORDER, np.uint16), [0, 1, 1, None]),
        (grey(np.where(BORDER == 255, 65_535, BORDER), np.uint16), [0, 1, 1, None]),
        # Numbers of single objects may go beyond 255, and 255 is one of them.
        (grey(np.where(QUARTERS == 8, 300, BORDER.astype(int)), np.uint16), [0, 1, 1, 1]),
        (grey((QUARTERS > 0) * 65_535, np.uint16), [0, 1, 1, 0]),
        (encoded(Image.fromarray(QUARTERS.astype(np.int32)), "tiff"), [0, 1, 1, 0]),
        (encoded(Image.fromarray(QUARTERS.astype(np.float32)), "tiff"), [0, 1, 1, 0]),
        (encoded(Image.fromarray((QUARTERS > 0) * np.float32(0.9)), "tiff"), [0, 1, 1, 0]),
        (encoded(Image.fromarray(QUARTERS).convert("RGB")), [0, 1, 1, 0]),
        (encoded(Image.fromarray(BORDER).convert("RGB")), [0, 1, 1, None]),
        (encoded(Image.fromarray(BORDER).convert("LA")), [0, 1, 1, None]),
        (encoded(Image.fromarray(BORDER).convert("RGBA")), [0, 1, 1, None]),
        # Levels to be told apart by eye: white is one of them.
        (grey(np.choose(BORDER.astype(int) % 7, [0, 85, 0, 255])), [0, 1, 1, 1]),
        (grey(np.where(BORDER == 255, 255, (BORDER > 0) * 127)), [0, 1, 1, 1]),
        (grey(np.where(BORDER == 8, 253, np.where(BORDER == 1, 254, BORDER))), [0, 1, 1, 1]),
        (encoded(palette_picture(QUARTERS, VOC)), [0, 1, 1, 0]),
        (encoded(palette_picture(BORDER, VOC)), [0, 1, 1, None]),
        (encoded(palette_picture(BORDER, OTHER)), [0, 1, 1, None]),
        (encoded(palette_picture(BORDER, VOC).convert("RGB")), [0, 1, 1, None]),
        (encoded(palette_picture(QUARTERS, VOC).convert("RGBA")), [0, 1, 1, 0]),
        (cv2.imencode(".png", np.array(VOC, np.uint16)[BORDER][..., ::-1] * 257)[1].tobytes(), [0, 1, 1, None]),
        # An editor that sorts its colours puts white first.
        (encoded(palette_picture((QUARTERS == 0).astype(np.uint8), [(255, 255, 255), (0, 0, 0)])), [0, 1, 1, 0]),
        # What is transparent is no defect, whatever colour lies under it.
        (rgba(np.full((64, 64, 3), 255), TRANSPARENT), [0, 1, 1, 0]),
        (rgba(np.zeros((64, 64, 3)), TRANSPARENT), [0, 1, 1, 0]),
        (rgba(np.where(QUARTERS[..., None] > 0, (200, 0, 7), (255, 255, 255)), TRANSPARENT), [0, 1, 1, 0]),
    ],
)
def test_kinds_of_masks(mask, expected):
    assert read(mask) == expected


def test_255_alone_in_a_palette():
    alone = np.where(BORDER == 255, BORDER, 0).astype(np.uint8)
    assert read(encoded(palette_picture(alone, OTHER))) == [0, 0, 0, 1]
    assert read(encoded(palette_picture(alone, VOC))) == [0, 0, 0, None]
    # A palette that is grey from black to white is none: its indices are values.
    assert read(encoded(palette_picture(alone, [(value,) * 3 for value in range(256)]))) == [0, 0, 0, 1]


def test_grey_colours_beside_true_ones():
    # VOC's class 7 is a middle grey, which would be no class number.
    sevens = np.where(QUARTERS > 0, 7, 0).astype(np.uint8)
    grey_ones, colours = (encoded(palette_picture(each, VOC).convert("RGB")) for each in (sevens, QUARTERS))
    assert read(grey_ones, colours) == [0, 1, 1, 0]
    assert read(grey_ones) == [0, 1, 1, 0]


def drawn(seed):
    """A mask of 0 and 255 with a circle, a bar and a thin line."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((90, 120), np.uint8)
    x, y = map(int, generator.integers(20, 70, 2))
    cv2.circle(mask, (x, y), 14, 255, -1)
    cv2.rectangle(mask, (70, 10), (100, 10 + y // 2), 255, -1)
    cv2.line(mask, (5, y), (60, 80), 255, 2)
    return mask


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
@pytest.mark.parametrize("kind", ["jpeg", "webp", "jpeg in png"])
def test_lossy_masks_count_from_128_on(kind, quality):
    contents = []
    for seed in range(3):
        content = encoded(Image.fromarray(drawn(seed)), kind.split()[0], quality=quality)
        if kind == "jpeg in png":
            content = encoded(Image.open(io.BytesIO(content)).convert("L"))
        contents.append(content)
    reading = MaskReading.of(list(zip("abc", contents, strict=True)), "line")
    for seed, content in enumerate(contents):
        values = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        assert len(np.unique(values)) > 2
        assert np.array_equal(defects(content, reading), values >= 128)
        assert np.array_equal(defects(content), values >= 128)
        assert (defects(content, reading) != (drawn(seed) > 0)).mean() < 0.01


@pytest.mark.parametrize("quality", [50, 95])
def test_lossy_colours(quality):
    mask = np.zeros((90, 120, 3), np.uint8)
    for colour, place in (((128, 0, 0), 10), ((0, 64, 0), 50), ((224, 224, 192), 80)):
        mask[20:60, place : place + 20] = colour
    content = encoded(Image.fromarray(mask), "jpeg", quality=quality, subsampling=0)
    found = MaskReading.of([("mask", content)], "line").decode(content, "mask")
    assert found.defect[30:50, 15:25].all()
    assert found.defect[30:50, 55:65].all()
    assert found.ignored[30:50, 85:95].all()
    assert not found.defect[70:].any()


def test_smooth_edges_count_from_the_middle_on():
    mask = cv2.GaussianBlur(drawn(0), (0, 0), 2)
    assert np.array_equal(defects(grey(mask)), mask >= 128)
    # The same, with twice the range of shades.
    assert np.array_equal(defects(grey(mask.astype(np.uint16) * 256 + 255 * (mask > 0), np.uint16)), mask >= 128)


def test_many_classes_however_thin_are_no_shades():
    mask = np.zeros((90, 120), np.uint8)
    for index, number in enumerate(range(20, 200, 20)):
        cv2.line(mask, (5 + 10 * index, 5), (15 + 12 * index, 85), number, 1)
    assert np.array_equal(defects(grey(mask)), mask > 0)


def test_class_numbers_in_a_lossy_file_are_refused():
    content = encoded(Image.fromarray(QUARTERS * 5), "jpeg", quality=95)
    with pytest.raises(
        InputError, match=r"line: its masks are of a lossy format.* none holds more than \d+ \(a\); class"
    ):
        MaskReading.of([("a", content)], "line")


def test_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = defects(encoded(Image.fromarray(QUARTERS), exif=exif))
    assert np.array_equal(upright, np.rot90(QUARTERS, -1) > 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "mask of a: the file is empty"),
        (grey(QUARTERS)[:90], "mask of a: the mask is damaged or truncated"),
        (encoded(Image.fromarray(np.full((2, 2), -1, np.int32)), "tiff"), "mask of a: the mask holds values below 0"),
        (encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "tiff"), "mask of a: expected a mask of finite"),
    ],
)
def test_masks_that_cannot_be_read_decide_nothing(content, words):
    reading = MaskReading.of([("mask of a", content), ("b", grey(QUARTERS))], "line")
    assert reading.looked_at == 1
    with pytest.raises(ImageError, match=words):
        reading.decode(content, "mask of a")


FULL = grey((QUARTERS > 0) * 255)


@pytest.mark.parametrize(
    ("first", "late", "words"),
    [
        (FULL, grey(QUARTERS > 0), "late: holds 1 beside 0 and 255, unlike the first 100 masks, which are grey values"),
        (FULL, grey(BORDER), "late: holds 1, 8 beside 0 and 255"),
        (grey(QUARTERS > 0), FULL, "late: holds 255, and the others hold class numbers without it"),
        (encoded(Image.fromarray(drawn(0)), "jpeg"), grey(QUARTERS), "late: holds no value from 128 on, 8 at most"),
        (grey(np.choose(BORDER % 7, [0, 85, 0, 255])), grey(QUARTERS), "late: holds 1, 8, which is none of the levels"),
        (grey(BORDER), grey(QUARTERS.astype(int) * 40, np.uint16), "late: holds 320, so that 255 is a number like any"),
        (
            encoded(palette_picture(QUARTERS, VOC)),
            grey(QUARTERS),
            "late: holds 1, 8 beside 0 and 255, unlike .* palette",
        ),
    ],
)
def test_a_later_mask_that_contradicts_is_named(first, late, words):
    reading = MaskReading.of([*((str(index), first) for index in range(100)), ("late", late)], "line")
    with pytest.raises(ImageError, match=words):
        reading.decode(late, "late")


def test_later_masks_that_fit():
    voc = encoded(palette_picture(BORDER, VOC))
    reading = MaskReading.of([(str(index), voc) for index in range(100)], "line")
    assert defects(grey(np.zeros((64, 64))), reading).sum() == 0
    assert defects(FULL, reading).sum() == defects(grey(QUARTERS > 0, bool), reading).sum() == 2048
    numbers = MaskReading.of([("a", grey(QUARTERS))], "line")
    assert defects(grey(QUARTERS * 30), numbers).sum() == 2048
    assert numbers.decode(grey(BORDER), "late").ignored.sum() == 1024
    lossy = MaskReading.of([("a", encoded(Image.fromarray(drawn(0)), "jpeg"))], "line")
    assert defects(encoded(Image.fromarray(np.full((9, 9), 5, np.uint8)), "jpeg"), lossy).sum() == 0


def test_two_conventions_that_never_meet_in_one_mask_are_refused():
    with pytest.raises(InputError, match=r"line: b holds 255 alone and a 1, and no mask both"):
        MaskReading.of([("a", grey(QUARTERS > 0)), ("b", FULL)], "line")
    # Where they do meet, a mask of 255 alone has nothing but ignored pixels.
    reading = MaskReading.of([("a", grey(BORDER)), ("b", FULL)], "line")
    assert reading.decode(FULL, "b").ignored.sum() == 2048


def test_the_first_100_decide_and_more_while_they_are_empty():
    opened = []

    def masks(contents):
        for index, content in enumerate(contents):
            opened.append(index)
            yield str(index), content

    empty = grey(np.zeros((4, 4)))
    for mask in (FULL, grey(QUARTERS > 0, bool), encoded(palette_picture(QUARTERS, VOC).convert("RGB"))):
        MaskReading.of(masks([mask] * 300), "line")
        assert len(opened) == 100
        opened.clear()
    reading = MaskReading.of(masks([empty] * 130 + [FULL] * 100), "line")
    assert (len(opened), reading.looked_at) == (131, 131)
    assert defects(FULL, reading).sum() == 2048


def test_the_reading_is_told_once_and_loudly_where_it_is_a_guess(caplog):
    for mask, level, words in (
        (FULL, logging.INFO, "grey values: 0 is sound, 255 a defect"),
        (grey(QUARTERS > 0, bool), logging.INFO, "one bit, set for a defect"),
        (grey(BORDER), logging.WARNING, "class numbers, each but 0 a defect, 255 beside them ignored"),
        (encoded(palette_picture(BORDER, VOC)), logging.WARNING, "indices of a palette: class numbers"),
        (encoded(palette_picture(BORDER, VOC).convert("RGB")), logging.WARNING, r"colours, each but black a defect"),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            MaskReading.of([("a", mask), ("b", mask)], "line 3").tell("line 3")
        (record,) = caplog.records
        assert record.levelno == level
        assert record.getMessage().startswith("line 3: masks are read as ")
        assert words in record.getMessage()
        assert record.getMessage().endswith("(by the first 2)")


def test_a_look_holds_no_pixels():
    look = look_at(read_stored_mask(grey(BORDER), "a"))
    assert look.numbers == {1, 8, 255}
    assert look.shades == (0, 0)
