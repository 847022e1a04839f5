"""Crowd regions are neither examples of a class, nor sound surface, nor a reason to lose an image's other boxes."""

import numpy as np
import pytest
from datasets import Dataset, Features, Value

from agssp.data.labels import crowds_of, object_classes, paint_crowds, trainable_rows, without_crowds_alone
from agssp.data.letterbox import GREY
from agssp.data.schema import objects_feature
from agssp.errors import InputError

COLUMNS = Features({"image_id": Value("string"), "objects": objects_feature(["pit", "scratch"])})


def labelled(*rows):
    """A data set whose images have boxes of these (class, is crowd)."""
    objects = [
        {"bbox": [[1, 2, 3, 4]] * len(row), "category": [label for label, _ in row], "score": [1.0] * len(row)}
        | {"iscrowd": [bool(crowd) for _, crowd in row]}
        for row in rows
    ]
    return Dataset.from_dict({"image_id": list(map(str, range(len(rows)))), "objects": objects}, COLUMNS)


def test_no_rows():
    assert object_classes(labelled()) == trainable_rows(labelled(), "here") == []
    assert len(without_crowds_alone(labelled(), "here")) == 0


def test_objects_of_earlier_builds_have_no_crowds():
    assert crowds_of({"bbox": []}).tolist() == []
    assert crowds_of({"bbox": [[1, 2, 3, 4]]}).tolist() == [False]
    assert crowds_of({"bbox": [[1, 2, 3, 4]], "iscrowd": None}).tolist() == [False]


def test_nothing_is_said_or_changed_without_crowds(caplog):
    caplog.set_level("INFO")
    rows = labelled([(0, 0)], [])
    assert without_crowds_alone(rows, "here") is rows
    assert object_classes(rows) == [[0], []]
    assert caplog.text == ""


def test_crowds_are_no_examples_and_images_with_nothing_else_are_left_out(caplog):
    caplog.set_level("INFO")
    rows = labelled([(0, 0), (1, 1)], [(1, 1)], [], [(1, 0)], [(0, 1), (0, 1)])
    assert object_classes(rows) == [[0], [], [], [1], []]
    assert trainable_rows(rows, "here") == [0, 2, 3]
    assert without_crowds_alone(rows, "here")["image_id"][:] == ["0", "2", "3"]
    assert caplog.messages == [
        "here: 4 crowd regions (iscrowd 1) are left out of training: they are painted over in 1 images; 2 images have "
        "no other box and are left out"
    ]


def test_nothing_but_crowds_is_an_error():
    with pytest.raises(InputError, match=r"here: all 2 boxes of its 3 images are crowd regions .*--crowds objects"):
        trainable_rows(labelled([(0, 1)], [], [(1, 1)]), "here")


def test_regions_are_painted_but_for_the_objects_in_them():
    pixels = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
    before = pixels.copy()
    painted = paint_crowds(pixels, np.array([[2.0, 1, 8, 6], [10.5, 0, 12, 2]]), np.array([[6.0, 4, 10, 9]]))
    expected = before.copy()
    for y in range(10):
        for x in range(12):
            region = (2 <= x < 8 and 1 <= y < 6) or (x >= 10 and y < 2)
            if region and not (6 <= x < 10 and 4 <= y < 9):
                expected[y, x] = GREY
    np.testing.assert_array_equal(painted, expected)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(paint_crowds(pixels, np.zeros((0, 4)), np.zeros((0, 4))), before)
