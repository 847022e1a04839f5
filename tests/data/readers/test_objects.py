import pytest

from agssp.data.readers import ReadReport
from agssp.data.readers.objects import class_key, labels_of
from agssp.errors import InputError

EMPTY = {"bbox": [], "category": []}


def told(objects, names=None):
    """(box, class, score, crowd) of each label, and how often each thing was noted."""
    report = ReadReport()
    labels = labels_of(objects, "row 7", report, names)
    found = (
        None if labels is None else [(label.bbox, label.defect_type, label.score, label.iscrowd) for label in labels]
    )
    return found, {cause: found.count for cause, found in report.causes.items()}


@pytest.mark.parametrize("objects", [None, {"bbox": None}, {"bbox": None, "category": None, "score": None}])
def test_nothing_known(objects):
    assert told(objects) == (None, {})


@pytest.mark.parametrize(
    "objects", [[], EMPTY, {"bbox": []}, {"bbox": [], "labels": None}, EMPTY | {"score": [], "iscrowd": None, "id": []}]
)
def test_no_boxes(objects):
    assert told(objects) == ([], {})


def test_labels_are_named_by_row_and_box():
    labels = labels_of({"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "category": ["a", "b"]}, "row 7", ReadReport())
    assert [label.where for label in labels] == ["row 7 box 0", "row 7 box 1"]


@pytest.mark.parametrize(
    "objects",
    [
        {"bbox": [[1, 2, 3, 4]], "category": ["a"]},
        {"bbox": [(1.0, 2, "3", 4)], "categories": [" a "], "score": None, "iscrowd": [None]},
        [{"bbox": [1, 2, 3, 4], "label": "a"}],
        [{"bbox": [1, 2, 3, 4], "category_id": "a", "score": 1, "iscrowd": "0"}],
    ],
)
def test_one_box_in_several_forms(objects):
    assert told(objects) == ([((1, 2, 3, 4), "a", 1.0, False)], {})


def test_scores_and_crowds():
    objects = {"bbox": [[1, 2, 3, 4]] * 2, "category": ["a", "b"], "score": [0.25, None], "iscrowd": [1, 0]}
    expected = [((1, 2, 3, 4), "a", 0.25, True), ((1, 2, 3, 4), "b", 1.0, False)]
    assert told(objects) == (expected, {})
    rows = [{key: values[index] for key, values in objects.items()} for index in range(2)]
    assert told(rows) == (expected, {})


@pytest.mark.parametrize(("label", "name"), [(0, "pit"), (1, "scratch"), (1.0, "scratch"), ("scratch", "scratch")])
def test_classes_of_a_list(label, name):
    assert told({"bbox": [[1, 2, 3, 4]], "category": [label]}, ["pit", "scratch"]) == (
        [((1, 2, 3, 4), name, 1.0, False)],
        {},
    )


@pytest.mark.parametrize(("label", "name"), [(3, "3"), (3.0, "3"), (-1, "-1")])
def test_numbers_without_names(label, name):
    found, notes = told({"bbox": [[1, 2, 3, 4]], "category": [label]})
    assert (found[0][1], notes) == (name, {"numbered_classes": 1})


def test_other_fields_are_noted_once_a_row():
    report = ReadReport()
    labels_of({"bbox": [[1, 2, 3, 4]] * 2, "category": ["a", "a"], "id": 3, "area": [1]}, "row 7", report)
    labels_of([{"bbox": [1, 2, 3, 4], "label": "a", "labels": [], "area": 2}] * 2, "row 8", report)
    assert report.count("extra_fields") == 2
    assert report.examples("extra_fields") == ["id, area (row 7)", "labels, area (row 8)"]


@pytest.mark.parametrize(
    ("keys", "key"),
    [((), None), (("bbox", "id"), None), (("label", "categories"), "categories"), (("labels", "label"), "label")],
)
def test_class_key(keys, key):
    assert class_key(keys) == key


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ("text", "row 7: expected objects = "),
        (7, "row 7: expected objects = "),
        ({"boxes": []}, "row 7: expected objects = "),
        ([7], "row 7 box 0: expected objects = "),
        ([{"bbox": [1, 2, 3, 4]}], "row 7 box 0: expected objects = "),
        ([{"bbox": [1, 2, 3, 4], "label": "a"}, {"label": "a"}], "row 7 box 1: expected objects = "),
        ({"bbox": [[1, 2, 3, 4]]}, "row 7: objects have boxes but no category"),
        ({"bbox": [[1, 2, 3, 4]], "category": None}, "row 7: objects have boxes but no category"),
        ({"bbox": [[1, 2, 3, 4]], "category": "pit"}, "row 7: category must be a list .*, got 'pit'"),
        ({"bbox": 7, "category": []}, "row 7: bbox must be a list"),
        ({"bbox": [], "category": ["a"]}, "0 boxes, 1 categories, 0 scores and 0 iscrowd; expected as many of each"),
        ({"bbox": [[1, 2, 3, 4]], "category": ["a"], "score": []}, "1 boxes, 1 categories, 0 scores and 1 iscrowd"),
        ({"bbox": [[1, 2, 3]], "category": ["a"]}, r"row 7 box 0: expected four numbers a box, .* got \[1, 2, 3\]"),
        ({"bbox": [None], "category": ["a"]}, "row 7 box 0: expected four numbers a box, .* got None"),
        ({"bbox": ["abcd"], "category": ["a"]}, "row 7 box 0: expected four numbers a box, .* got 'abcd'"),
        ({"bbox": [[1, 2, 3, 4]], "category": ["a"], "score": ["x"]}, "row 7 box 0: expected a number as its score"),
        ({"bbox": [[1, 2, 3, 4]], "category": ["a"], "iscrowd": [2]}, "row 7 box 0: iscrowd must be 0 or 1, got 2"),
        *(
            ({"bbox": [[1, 2, 3, 4]], "category": [label]}, "row 7 box 0: expected the name or number of a class, got")
            for label in (None, True, 0.5, float("nan"), float("inf"), ["a"])
        ),
        ({"bbox": [[1, 2, 3, 4]], "category": [" "]}, "row 7 box 0: expected the name of a class, got an empty text"),
    ],
)
def test_bad_objects_name_row_and_box(objects, message):
    with pytest.raises(InputError, match=message):
        told(objects)


@pytest.mark.parametrize("label", [2, -1, "pitt"])
def test_unknown_classes_show_the_list(label):
    with pytest.raises(InputError, match=r"row 7 box 0: .*pit, scratch"):
        told({"bbox": [[1, 2, 3, 4]], "category": [label]}, ["pit", "scratch"])
