"""What an image's mask, boxes and `is_normal` say together."""

import numpy as np
import pytest
from PIL import Image

from agssp.data.images import ImageError
from agssp.data.mask_reading import MaskReading
from agssp.data.masks import box_mask, decode_mask, image_truth, named_masks

SIZE = (4, 6)
BOXES = {"bbox": [[1, 1, 2, 2]], "category": [0], "score": [1.0], "iscrowd": [False]}
CROWD = {"bbox": [[1, 1, 2, 2], [0, 0, 1, 1]], "category": [0, 0], "score": [1.0, 1.0], "iscrowd": [True, False]}
NO_BOXES = {"bbox": [], "category": [], "score": [], "iscrowd": []}


def picture(values):
    return Image.fromarray(np.asarray(values, np.uint8))


def test_nothing_known():
    truth = image_truth({"image_id": "a", "is_normal": None, "mask": None, "objects": None}, SIZE)
    assert (truth.defective, truth.mask) == (None, None)
    truth = image_truth({"image_id": "a"}, SIZE)
    assert (truth.defective, truth.mask) == (None, None)


@pytest.mark.parametrize(
    ("facts", "defective", "pixels"),
    [
        ({"mask": picture(np.zeros(SIZE))}, False, 0),
        ({"mask": picture(np.full(SIZE, 255))}, True, 24),
        ({"is_normal": True}, False, 0),
        ({"is_normal": False}, True, None),
        ({"objects": NO_BOXES}, False, 0),
        ({"objects": BOXES}, True, None),
        ({"objects": NO_BOXES, "is_normal": False}, True, None),
        ({"objects": CROWD}, True, None),
        # A defect that is marked anywhere counts, whatever else is said; the mask says where.
        ({"objects": BOXES, "is_normal": True}, True, None),
        ({"objects": BOXES, "mask": picture(np.zeros(SIZE))}, True, 0),
        ({"mask": picture(np.full(SIZE, 255)), "is_normal": True, "objects": NO_BOXES}, True, 24),
    ],
)
def test_facts_together(facts, defective, pixels):
    truth = image_truth({"image_id": "a", **facts}, SIZE)
    assert truth.defective is defective
    assert pixels is None if truth.mask is None else (truth.mask.shape, truth.mask.sum()) == (SIZE, pixels)


def test_boxes_stand_in_only_when_asked_and_only_for_a_missing_mask():
    row = {"image_id": "a", "objects": BOXES}
    assert image_truth(row, SIZE, boxes_as_mask=True).mask.sum() == 4
    row["mask"] = picture(np.full(SIZE, 255))
    assert image_truth(row, SIZE, boxes_as_mask=True).mask.sum() == 24


def test_crowd_regions_say_that_an_image_is_defective_but_not_where():
    row = {"image_id": "a", "objects": CROWD}
    truth = image_truth(row, SIZE, boxes_as_mask=True)
    assert (truth.defective, truth.mask) == (True, None)
    row["mask"] = picture(np.zeros(SIZE))
    assert image_truth(row, SIZE, boxes_as_mask=True).mask.sum() == 0


def test_mask_of_another_size_is_named():
    with pytest.raises(ImageError, match=r"strip/7.png: its mask is 4 x 6 px, the image 6 x 4"):
        image_truth({"image_id": "strip/7.png", "mask": picture(np.zeros((6, 4)))}, SIZE)


def test_damaged_mask_is_named(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match="mask of a: expected an image file"):
        image_truth({"image_id": "a", "mask": {"path": str(tmp_path / "mask.png"), "bytes": None}}, SIZE)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0, 0], [0, 0, 0]), ([0, 255, 0], [0, 1, 0]), ([0, 1, 0], [0, 1, 0]), ([0, 1, 3], [0, 1, 1])],
)
def test_values_of_masks(values, expected):
    assert decode_mask(picture([values])).tolist() == [[bool(value) for value in expected]]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_modes_of_masks(mode):
    defect = np.zeros(SIZE, bool)
    defect[1:3, 2:5] = True
    np.testing.assert_array_equal(decode_mask(picture(defect * 255).convert(mode)), defect)


def test_a_mask_by_itself_and_one_of_a_data_set():
    # 255 beside a class number is ignored; by itself it is a defect.
    alone, beside = picture([[0, 255, 0]]), picture([[0, 255, 3]])
    assert decode_mask(alone).tolist() == [[False, True, False]]
    assert decode_mask(beside).tolist() == [[False, False, True]]
    reading = MaskReading.of([("a", beside), ("b", alone)], "line")
    assert not decode_mask(alone, "b", reading).any()


def test_pixels_that_are_ignored_are_told_apart():
    mask = np.zeros(SIZE)
    mask[0], mask[1, :2] = 255, 3
    truth = image_truth({"image_id": "a", "mask": picture(mask)}, SIZE)
    assert truth.defective
    assert np.argwhere(truth.mask).tolist() == [[1, 0], [1, 1]]
    assert np.array_equal(truth.ignored, mask == 255)


@pytest.mark.parametrize(("facts", "defective"), [({}, None), ({"is_normal": True}, False), ({"objects": BOXES}, True)])
def test_a_mask_with_nothing_but_ignored_pixels_tells_nothing(facts, defective):
    mask = np.zeros(SIZE)
    mask[0] = 255
    numbers = picture(np.where(mask, mask, 3))
    reading = MaskReading.of([("first", numbers), ("second", picture(mask))], "line")
    truth = image_truth({"image_id": "a", "mask": picture(mask), **facts}, SIZE, reading=reading)
    assert (truth.defective, truth.mask.sum(), truth.ignored.sum()) == (defective, 0, 6)


def test_names_and_masks_of_rows():
    rows = [{"image_id": "a", "mask": None}, {"image_id": "b", "mask": {"path": "m.png", "bytes": None}}]
    assert list(named_masks([])) == []
    assert list(named_masks(rows)) == [("mask of b", {"path": "m.png", "bytes": None})]


def test_boxes_cover_the_pixels_they_touch():
    assert not box_mask([], SIZE).any()
    mask = box_mask([[0.6, 0, 1.5, 1], [5.9, 3.9, 0.1, 0.1]], SIZE)
    assert np.argwhere(mask).tolist() == [[0, 0], [0, 1], [0, 2], [3, 5]]
