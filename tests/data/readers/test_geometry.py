import math

import numpy as np
import pytest
from PIL import Image, ImageOps

from agssp.data.readers import ReadReport
from agssp.data.readers.geometry import (
    Frame,
    StatedLabels,
    check_pixels,
    clip_box,
    labels_are_of,
    labels_are_stored,
    settle_boxes,
    within_fractions,
)
from agssp.data.readers.records import Label
from agssp.data.readers.shapes import upright_box
from agssp.errors import InputError


def image(*bboxes, size=(40, 20), orientation=1, stated=None, name="a", fractions=False, **more):
    """An image of `size` px, upright, with labels of the class pit."""
    labels = [Label(bbox, "pit", f"{name} box {index}", **more) for index, bbox in enumerate(bboxes)]
    return StatedLabels(name, labels, Frame(size, orientation), stated, fractions)


def settled(*images):
    """Boxes of each image, rounded, and how often each thing was noted."""
    report = ReadReport()
    boxes = settle_boxes(images, report)
    found = [None if row is None else [tuple(round(value, 6) for value in box.bbox) for box in row] for row in boxes]
    return found, {cause: found.count for cause, found in report.causes.items()}


def test_nothing():
    assert settled() == ([], {})
    assert settled(image(), StatedLabels("b", None, None), StatedLabels("c", [], None)) == ([[], None, []], {})


def test_image_that_cannot_be_opened():
    assert settled(StatedLabels("a", image((1, 2, 3, 4)).labels, None)) == ([None], {})


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bbox", [(0, 0, 1, 1), (3, 1, 4, 2), (0, 4, 9, 2), (8, 5, 1, 1)])
def test_turned_boxes_frame_what_pillow_turns(orientation, bbox):
    x, y, w, h = bbox
    pixels = np.zeros((6, 9), np.uint8)
    pixels[y : y + h, x : x + w] = 255
    photo = Image.fromarray(pixels)
    photo.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(photo))
    rows, columns = np.nonzero(upright)
    left, top = columns.min(), rows.min()
    expected = (left, top, columns.max() + 1 - left, rows.max() + 1 - top)
    assert upright_box(bbox, (9, 6), orientation) == expected
    # The same by the whole way: a file that states the stored size, and an image that tells how it is turned.
    size = (upright.shape[1], upright.shape[0])
    others = [image((1, 1, 2, 2), size=(6, 9), orientation=6, stated=(9, 6), name="witness")]
    boxes, notes = settled(image(bbox, size=size, orientation=orientation, stated=(9, 6)), *others)
    assert boxes[0] == [expected]
    assert notes["turned"] == (1 if orientation == 1 else 2)


def test_stored_size_of_an_upright_image():
    assert Frame((40, 20)).stored == Frame((20, 40), 6).stored == Frame((40, 20), 3).stored == (40, 20)


@pytest.mark.parametrize(
    ("stated", "size", "orientation", "answer"),
    [
        ((40, 20), (40, 20), 1, None),
        ((40, 20), (20, 40), 6, "stored"),
        ((20, 40), (20, 40), 6, "upright"),
        ((400, 200), (20, 40), 8, "stored"),
        ((40, 20), (40, 20), 3, None),  # half a turn
        ((40, 20), (40, 20), 2, None),  # mirrored
        ((20, 20), (20, 20), 6, None),
        ((1000, 1005), (1005, 1000), 6, None),  # as good as square
        (None, (20, 40), 6, None),
    ],
)
def test_what_a_stated_size_tells_of_a_photo(stated, size, orientation, answer):
    assert labels_are_of(image((1, 2, 3, 4), size=size, orientation=orientation, stated=stated)) == answer


@pytest.mark.parametrize(
    ("stated", "size", "orientation"), [((40, 40), (40, 20), 1), ((20, 40), (40, 20), 1), ((20, 20), (20, 40), 6)]
)
def test_a_stated_size_that_fits_in_no_way(stated, size, orientation):
    with pytest.raises(InputError, match=r"a box 0: the labels are for an image of \d+ x \d+ px, but a is \d+ x"):
        settled(image((1, 2, 3, 4), size=size, orientation=orientation, stated=stated))


def test_fractions_tell_nothing_of_a_photo():
    assert labels_are_of(image((0.1, 0.2, 0.3, 0.4), size=(20, 40), orientation=6, fractions=True)) is None


STORED = image((1, 2, 3, 4), size=(20, 40), orientation=6, stated=(40, 20), name="stored")
UPRIGHT = image((1, 2, 3, 4), size=(20, 40), orientation=6, stated=(20, 40), name="upright")
SQUARE = image((1, 2, 3, 4), size=(20, 20), orientation=6, stated=(20, 20), name="square")
SILENT = image((1, 2, 3, 4), size=(20, 40), orientation=6, name="silent")
MIRRORED = image((1, 2, 3, 4), size=(40, 20), orientation=2, stated=(40, 20), name="mirrored")
PLAIN = image((1, 2, 3, 4), stated=(40, 20), name="plain")


@pytest.mark.parametrize(
    ("images", "stored", "notes"),
    [
        ([], False, {}),
        ([PLAIN], False, {}),
        ([UPRIGHT], False, {}),
        ([PLAIN, STORED], True, {}),
        ([SQUARE, PLAIN, STORED, MIRRORED, SILENT], True, {"turned_as_others": ["square", "mirrored", "silent"]}),
        ([SQUARE, UPRIGHT], False, {"turned_as_others": ["square"]}),
        ([SQUARE, PLAIN, MIRRORED, SILENT], False, {"turned_unknown": ["square", "mirrored", "silent"]}),
    ],
)
def test_photos_that_cannot_tell_follow_those_that_can(images, stored, notes):
    report = ReadReport()
    assert labels_are_stored(images, report) is stored
    assert {cause: found.examples for cause, found in report.causes.items()} == notes


@pytest.mark.parametrize("images", [[STORED, UPRIGHT], [UPRIGHT, PLAIN, STORED]])
def test_photos_that_contradict_each_other_are_both_named(images):
    with pytest.raises(InputError, match=r"^stored box 0: its stated size, 40 x 20 px, .* of upright, 20 x 40 px"):
        labels_are_stored(images, ReadReport())


@pytest.mark.parametrize(
    ("stated", "bbox", "expected"),
    [
        ((40, 20), (10, 5, 4, 2), (10, 5, 4, 2)),
        ((400, 200), (100, 50, 40, 20), (10, 5, 4, 2)),
        ((20, 10), (5, 2.5, 2, 1), (10, 5, 4, 2)),
        ((400, 201), (100, 50.25, 40, 20.1), (10, 5, 4, 2)),  # within 1 %
    ],
)
def test_boxes_for_another_size_of_the_same_proportions_are_scaled(stated, bbox, expected):
    assert settled(image(bbox, stated=stated)) == ([[expected]], {} if stated == (40, 20) else {"scaled": 1})


def test_a_photo_is_scaled_and_turned():
    # Stored 80 x 40 where it was labelled, 40 x 20 now; a quarter turn clockwise makes 20 x 40 of it.
    assert settled(image((0, 0, 20, 10), size=(20, 40), orientation=6, stated=(80, 40))) == (
        [[(15, 0, 5, 10)]],
        {"scaled": 1, "turned": 1},
    )


def test_fractions_are_of_the_upright_image():
    boxes, notes = settled(image((0.5, 0.25, 0.25, 0.5), size=(20, 40), orientation=6, fractions=True))
    assert boxes == [[(10, 10, 5, 20)]]
    assert notes == {"turned_unknown": 1}


@pytest.mark.parametrize("bbox", [(5, 6, 7, 8), (12, 14, -7, -8), (12, 6, -7, 8), (5, 14, 7, -8)])
def test_corners_in_any_order(bbox):
    assert settled(image(bbox)) == ([[(5, 6, 7, 8)]], {} if min(bbox) > 0 else {"reversed": 1})


def test_equal_boxes_count_once_with_the_better_score():
    labels = [
        Label((1, 2, 3, 4), "pit", "0", 0.25),
        Label((4, 6, -3, -4), "pit", "1", 0.75),
        Label((1, 2, 3, 4), "scratch", "2", 0.5),
        Label((1, 2, 3, 4), "pit", "3", 0.5, iscrowd=True),
    ]
    report = ReadReport()
    (boxes,) = settle_boxes([StatedLabels("a", labels, Frame((40, 20)))], report)
    assert [(box.defect_type, box.score, box.iscrowd) for box in boxes] == [
        ("pit", 0.75, False),
        ("scratch", 0.5, False),
        ("pit", 0.5, True),
    ]
    assert report.examples("duplicates") == ["1"]


@pytest.mark.parametrize(
    ("bbox", "expected", "cause"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), None),
        ((0, 0, 40, 20), (0, 0, 40, 20), None),
        ((30, 10, 20, 20), (30, 10, 10, 10), "clipped"),
        ((-5, -5, 10, 10), (0, 0, 5, 5), "clipped"),
        ((30, 10, 10.5, 10), (30, 10, 10, 10), None),  # tools round
        ((30, 10, 10.6, 10), (30, 10, 10, 10), "clipped"),
        ((40, 0, 5, 5), None, "no_area"),
        ((5, 5, 0, 5), None, "no_area"),
        ((math.nan, 0, 1, 1), None, "no_area"),
        ((0, 0, math.inf, 1), None, "no_area"),
        ((-math.inf, 0, 1, 1), None, "no_area"),
    ],
)
def test_clipping(bbox, expected, cause):
    report = ReadReport()
    assert clip_box(bbox, (40, 20), "here", report) == expected
    assert list(report.causes) == ([] if cause is None else [cause])


def test_an_image_that_lost_all_boxes_is_unknown():
    assert settled(image((50, 50, 3, 3), (5, 5, 0, 0)), image((1, 2, 3, 4))) == (
        [None, [(1, 2, 3, 4)]],
        {"no_area": 2, "all_dropped": 1},
    )


@pytest.mark.parametrize(
    ("bbox", "within"),
    [
        ((0, 0, 1, 1), True),
        ((0.4, 0.3, 0.2, 0.1), True),
        ((0.6, 0.4, -0.2, -0.1), True),
        ((-0.0005, 0, 1.0005, 1), True),
        ((0, 0, 1.1, 1), False),
        ((0.5, 0.5, 0.6, 0.1), False),
        ((-0.5, 0, 0.5, 1), False),
    ],
)
def test_within_fractions(bbox, within):
    assert within_fractions(bbox) is within


@pytest.mark.parametrize(
    "images",
    [
        [],
        [image()],
        [image((0, 0, 1, 1)), image((0, 0, 2, 1))],
        [image((0, 0, 1, 1), size=(2, 2))],  # a pixel of a tiny image
        [image((0, 0, 1, 0))],
        [image((math.nan, 0, 1, 1))],
        [image((0.1, 0.1, 0.2, 0.2), fractions=True)],
        [StatedLabels("a", image((0, 0, 1, 1)).labels, None)],
    ],
)
def test_boxes_that_may_be_in_px(images):
    check_pixels(images)


def test_fractions_where_px_are_due():
    images = [image((0, 0, 0, 0)), image((0.4, 0.3, 0.2, 0.1), name="b"), image((0.9, 0, 0.1, 1), name="c")]
    with pytest.raises(InputError, match=r"b box 0: expected a box in px, got \[0.4, 0.3, 0.2, 0.1\].*fractions"):
        settled(*images)


# [x1, y1, x2, y2] on 40 x 20 px. Read as sizes, the last one alone lies within the image.
CORNERS = ((12, 6, 36, 16), (20, 5, 38, 18), (15, 9, 39, 19), (0, 0, 5, 5))


def test_corners_in_the_place_of_sizes_are_refused():
    told = r"^a box 0: 3 of 4 boxes reach beyond their image, .*as corners \[x1, y1, x2, y2\]; expected a corner and"
    with pytest.raises(InputError, match=told):
        settled(image(*CORNERS[:1]), image(*CORNERS[1:], name="b"), StatedLabels("c", None, None))
    fractions = [tuple(value / (40, 20)[place % 2] for place, value in enumerate(corners)) for corners in CORNERS]
    # YOLO's rows are a centre and a size, of which the corner was reckoned.
    boxes = [(x - w / 2, y - h / 2, w, h) for x, y, w, h in fractions]
    with pytest.raises(InputError, match="4 of 4 boxes"):
        settled(image(*boxes, fractions=True))
    with pytest.raises(InputError, match="3 of 4 boxes"):
        # Of a size that the file states.
        settled(image(*[tuple(2 * value for value in corners) for corners in CORNERS], stated=(80, 40)))


@pytest.mark.parametrize(
    "boxes",
    [
        # Two only; as many within the image; one that would be no corners; one whose corners would lie outside.
        CORNERS[:2], (*CORNERS[:3], *[(0, 0, 5, 5 + index) for index in range(3)]), (*CORNERS, (9, 9, 5, 5)),
        (*CORNERS, (1, 1, 42, 9)),
    ],
)  # fmt: skip
def test_boxes_that_reach_beyond_their_image_are_no_corners_for_that(boxes):
    assert settled(image(*boxes))[1]["clipped"] >= 2
