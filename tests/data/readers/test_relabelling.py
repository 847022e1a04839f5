import pickle

import pytest
from test_tables import png, row, stored

from agssp.data.readers import ReadReport, read_dataset
from agssp.data.readers.relabelling import relabel
from agssp.data.schema import category_names, defect_names
from agssp.errors import InputError

# Boxes of scratch and of nothing else; pit is a class without boxes.
ROWS = [row("a", png(), [[1, 2, 3, 4], [5, 5, 5, 5]]), row("b", png(), []) | {"objects": None}, row("c", png(), [])]
WAYS = ("table", "stream")


def opened(tmp_path, way, rows, **options):
    return read_dataset(stored(tmp_path, "parquet", rows), streaming=way == "stream", **options)


def classes(data):
    return [values["objects"] and values["objects"]["category"] for values in data]


@pytest.mark.parametrize("way", WAYS)
def test_no_boxes_at_all(tmp_path, way):
    report = ReadReport()
    data = opened(tmp_path, way, ROWS[1:], defect_types=["dent"], report=report)
    assert defect_names(data) == ["dent"]
    assert classes(data) == [None, []]


def test_no_objects_at_all(tmp_path):
    data = opened(tmp_path, "table", ROWS).remove_columns("objects")
    assert relabel(data, "here", defect_types=["dent"]) is data


@pytest.mark.parametrize("way", WAYS)
def test_classes_get_the_numbers_of_the_list(tmp_path, way):
    data = opened(tmp_path, way, ROWS, defect_types=["scratch", "dent", "pit"])
    assert defect_names(data) == ["scratch", "dent", "pit"]
    assert classes(data) == [[0, 0], None, []]
    assert classes(pickle.loads(pickle.dumps(data))) == [[0, 0], None, []]


@pytest.mark.parametrize("way", WAYS)
def test_class_without_boxes_that_is_not_in_the_list_is_left_out(tmp_path, way):
    report = ReadReport()
    data = opened(tmp_path, way, ROWS, defect_types=["dent", "scratch"], report=report)
    assert defect_names(data) == ["dent", "scratch"]
    assert classes(data) == [[1, 1], None, []]
    if way == "table":
        assert report.examples("empty_classes") == [f"pit of {tmp_path / 'train.parquet'}"]
        assert report.boxes == {"dent": 0, "scratch": 2}


def test_class_with_a_box_that_is_not_in_the_list_shows_near_names(tmp_path):
    with pytest.raises(InputError, match=r"train\.parquet: unknown class 'scratch', .* did you mean 'scratches'"):
        opened(tmp_path, "table", ROWS, defect_types=["scratches", "pit"])


def test_class_of_a_stream_that_is_not_in_the_list_is_an_error_when_its_box_comes(tmp_path):
    rows = iter(opened(tmp_path, "stream", ROWS[::-1], defect_types=["scratches", "pit"]))
    assert [next(rows)["image_id"] for _ in range(2)] == ["c", "b"]
    with pytest.raises(InputError, match=r"a box 0: unknown class 'scratch', .* did you mean 'scratches'"):
        next(rows)


def test_class_of_crowds_alone_has_boxes(tmp_path):
    values = row("a", png(), [[1, 2, 3, 4], [5, 5, 5, 5]], [0, 1])
    values["objects"]["iscrowd"] = [True, False]
    with pytest.raises(InputError, match="unknown class 'pit'"):
        opened(tmp_path, "table", [values], defect_types=["scratch"])


@pytest.mark.parametrize("way", WAYS)
def test_categories_get_the_numbers_of_the_list(tmp_path, way):
    data = opened(tmp_path, way, ROWS, categories=["pipe", "plate"])
    assert category_names(data) == ["pipe", "plate"]
    assert [values["category"] for values in data] == [1, 1, 1]
    with pytest.raises(InputError, match=r"unknown category 'plate', .*; did you mean 'plates'"):
        opened(tmp_path, way, ROWS, categories=["pipe", "plates"])
