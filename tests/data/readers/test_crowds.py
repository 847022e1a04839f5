"""Crowd regions from the file to the schema: what tools write, what earlier builds wrote, what is refused."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from agssp.data.readers import ReadReport, read_dataset
from agssp.data.readers.crowds import crowd_flag, resolve_crowds
from agssp.data.readers.records import Box
from agssp.data.readers.relabelling import relabel
from agssp.data.schema import features
from agssp.errors import InputError


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", "0", "0.0", " 0 ", "false", "False"])
def test_no_crowd(value):
    assert crowd_flag(value, "here") is False


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "1.0", "true", "True"])
def test_crowd(value):
    assert crowd_flag(value, "here") is True


@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan"), "yes", [1], {}])
def test_neither(value):
    with pytest.raises(InputError, match="here: iscrowd must be 0 or 1, got"):
        crowd_flag(value, "here")


def test_no_boxes_to_decide_on():
    assert resolve_crowds([], "auto") == ([], None)
    assert resolve_crowds([None, []], "auto") == ([None, []], None)
    assert resolve_crowds([None, []], "objects") == (
        [None, []], "none of 0; --crowds objects changes nothing"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("marks", "mode", "expected", "words"),
    [
        ([[0, 0], [0]], "auto", [[0, 0], [0]], None),
        ([[1, 1], [1]], "auto", [[0, 0], [0]], "all 3 boxes, .* are read as objects"),
        ([[1], [0, 1]], "auto", [[1], [0, 1]], "2 of 3 boxes are regions"),
        ([[1], []], "auto", [[0], []], "all 1 boxes, .* are read as objects"),
        ([[1, 1], [1]], "ignore", [[1, 1], [1]], "all 3 boxes are regions"),
        ([[1], [0, 1]], "ignore", [[1], [0, 1]], "2 of 3 boxes are regions"),
        ([[0], [0, 0]], "ignore", [[0], [0, 0]], "--crowds ignore changes nothing"),
        (
            [[1, 1], [1]],
            "objects",
            [[0, 0], [0]],
            "all 3 boxes are read as objects, as --crowds objects asks",
        ),
        (
            [[1], [0, 1]],
            "objects",
            [[0], [0, 0]],
            "2 of 3 boxes are read as objects, as --crowds objects asks",
        ),
    ],
)
def test_what_marked_boxes_are(marks, mode, expected, words):
    boxes = [[Box((1, 2, 3, 4), "pit", 0.5, bool(mark)) for mark in row] for row in marks]
    decided, told = resolve_crowds([*boxes, None], mode)
    assert decided[-1] is None
    assert [[box.iscrowd for box in row] for row in decided[:-1]] == expected
    assert all(box.bbox == (1, 2, 3, 4) and box.score == 0.5 for row in decided[:-1] for box in row)
    assert [[box.iscrowd for box in row] for row in boxes] == marks, "the caller's boxes were changed"
    assert told is None if words is None else re.search(words, told)


def test_a_mistaken_mode_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="--crowds 'object': expected auto, ignore or objects"):
        resolve_crowds([], "object")
    with pytest.raises(InputError, match="--crowds 'object': expected auto, ignore or objects"):
        read_dataset(tmp_path / "nowhere", crowds="object")


def coco(root, marks):
    """Two images; the annotations, four at most, have these `iscrowd` (`...`: the key is missing)."""
    root.mkdir()
    for name in ("a", "b"):
        Image.new("L", (40, 20)).save(root / f"{name}.png")
    annotations = [
        {"id": index, "image_id": 1 + index // 2, "category_id": 1, "bbox": [index, 1, 5, 5]}
        | ({} if mark is ... else {"iscrowd": mark})
        for index, mark in enumerate(marks)
    ]
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    table = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "pit"}]}
    (root / "labels.json").write_text(json.dumps(table))
    return root


@pytest.mark.parametrize(
    ("marks", "mode", "expected"),
    [
        ([..., 0, "0", None], "auto", [[False, False], [False, False]]),
        ([1, 1, 1, 1], "auto", [[False, False], [False, False]]),
        (["1", True, 1], "auto", [[False, False], [False]]),
        ([1, 1], "auto", [[False, False], []]),
        ([1, 0, "1"], "auto", [[True, False], [True]]),
        ([1, ..., 0], "auto", [[True, False], [False]]),
        ([1, 0, 0], "ignore", [[True, False], [False]]),
        ([1, 1], "ignore", [[True, True], []]),
        ([1, 0, "1"], "objects", [[False, False], [False]]),
    ],
)
def test_coco(tmp_path, marks, mode, expected):
    report = ReadReport()
    rows = read_dataset(coco(tmp_path / "a", marks), crowds=mode, report=report)
    # None of the boxes is lost, whatever it is taken for.
    assert [row["objects"]["iscrowd"] for row in rows] == expected
    found = [box[0] for row in rows for box in row["objects"]["bbox"]]
    assert found == list(range(len(marks)))
    told = any("crowd" in line for line in report.lines())
    assert told == any(mark in (1, "1") for mark in marks if mark is not ...)


def test_coco_with_a_mark_that_is_none_names_the_annotation(tmp_path):
    with pytest.raises(InputError, match=r"labels.json annotation 1: iscrowd must be 0 or 1, got 'maybe'"):
        read_dataset(coco(tmp_path / "a", [0, "maybe"]))


def metadata(root, objects):
    root.mkdir()
    Image.new("L", (40, 20)).save(root / "a.png")
    (root / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects}))
    return root


def test_metadata_without_boxes(tmp_path):
    objects = {"bbox": [], "category": [], "iscrowd": []}
    assert read_dataset(metadata(tmp_path / "a", objects))[0]["objects"]["iscrowd"] == []


def test_metadata_takes_the_field(tmp_path):
    # The second box has no area and goes, and its flag goes with it.
    objects = {"bbox": [[1, 2, 3, 4], [5, 5, 0, 5], [6, 6, 5, 5]], "category": ["pit"] * 3, "iscrowd": [0, 0, 1]}
    rows = read_dataset(metadata(tmp_path / "a", objects))
    assert rows[0]["objects"]["bbox"] == [[1, 2, 3, 4], [6, 6, 5, 5]]
    assert rows[0]["objects"]["iscrowd"] == [False, True]
    with pytest.raises(InputError, match=r"metadata.jsonl:1: objects have 3 boxes, 3 categories, 3 scores and 1 iscr"):
        read_dataset(metadata(tmp_path / "b", objects | {"iscrowd": [1]}))
    with pytest.raises(InputError, match=r"metadata.jsonl:1 box 2: iscrowd must be 0 or 1, got 7"):
        read_dataset(metadata(tmp_path / "c", objects | {"iscrowd": [0, 0, 7]}))


def stored(path, kind, boxes, iscrowd):
    """A Parquet file of one image with `objects` of an earlier build, or with `iscrowd` of another type."""
    schema = features(["plate"], ["pit", "scratch"]).arrow_schema
    fields = list(schema.field("objects").type)[:3] + ([pa.field("iscrowd", pa.list_(kind))] if kind else [])
    columns = {**{field.name: field.type for field in schema}, "objects": pa.struct(fields)}
    objects = {"bbox": boxes, "category": [1] * len(boxes), "score": [1.0] * len(boxes), "iscrowd": iscrowd}
    image = {"path": str(path.with_name("a.png")), "bytes": None}
    Image.new("L", (40, 20)).save(image["path"])
    row = {"image": image, "image_id": "a", "category": 0, "is_normal": None, "objects": objects}
    table = pa.Table.from_pylist([row], schema=pa.schema(columns))
    metadata = json.dumps({"info": {"features": _features_without_crowds()}}) if kind is None else None
    pq.write_table(table.replace_schema_metadata(metadata and {"huggingface": metadata}), path)
    return path


def test_all_boxes_of_another_table_may_be_marked(tmp_path):
    path, report = stored(tmp_path / "train.parquet", pa.int64(), [[1, 2, 3, 4], [5, 5, 5, 5]], [1, 1]), ReadReport()
    names = {"category": "plate", "defect_types": ["pit", "scratch"]}
    assert read_dataset(path, report=report, **names)[0]["objects"]["iscrowd"] == [False, False]
    assert report.count("crowds") == 2
    (told,) = report.examples("crowds")
    assert told.startswith("all 2 boxes, as some tools mark single objects, are read as objects")
    assert read_dataset(path, crowds="ignore", **names)[0]["objects"]["iscrowd"] == [True, True]
    report = ReadReport()
    rows = read_dataset(path, streaming=True, report=report, **names)
    assert next(iter(rows))["objects"]["iscrowd"] == [True, True]
    assert report.count("crowds_in_streams") == 2


def test_a_part_of_what_was_read_keeps_its_crowd_regions_though_it_has_no_other_boxes(tmp_path):
    whole = read_dataset(coco(tmp_path / "whole", [1, 1, 0, 0]))
    whole.select([0]).to_parquet(tmp_path / "part.parquet")
    report = ReadReport()
    assert read_dataset(tmp_path / "part.parquet", report=report)[0]["objects"]["iscrowd"] == [True, True]
    assert "all 2 boxes are regions" in report.lines()[0]
    assert read_dataset(tmp_path / "part.parquet", crowds="objects")[0]["objects"]["iscrowd"] == [False, False]
    streamed = read_dataset(tmp_path / "part.parquet", crowds="objects", streaming=True)
    assert next(iter(streamed))["objects"]["iscrowd"] == [False, False]


def _features_without_crowds():
    told = features(["plate"], ["pit", "scratch"]).to_dict()
    del told["objects"]["iscrowd"]
    return told


@pytest.mark.parametrize("streaming", [False, True])
def test_tables_of_earlier_builds_have_no_crowds(tmp_path, streaming):
    path = stored(tmp_path / "train.parquet", None, [[1, 2, 3, 4], [5, 5, 5, 5]], None)
    data = read_dataset(path, streaming=streaming)
    assert list(data.features["objects"]) == ["bbox", "category", "score", "iscrowd"]
    data = relabel(data, "here", defect_types=["dent", "pit", "scratch"])
    assert next(iter(data))["objects"] == {
        "bbox": [[1, 2, 3, 4], [5, 5, 5, 5]], "category": [2, 2], "score": [1, 1], "iscrowd": [False, False],
    }  # fmt: skip


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.bool_()])
def test_tables_with_the_field_in_other_types(tmp_path, kind, streaming):
    given = pa.array([0, 1, None], pa.int64()).cast(kind).to_pylist()
    boxes = [[1, 2, 3, 4], [5, 5, 5, 5], [6, 6, 5, 5]]
    path = stored(tmp_path / "train.parquet", kind, boxes, given)
    data = read_dataset(path, streaming=streaming, category="plate", defect_types=["pit", "scratch"])
    assert next(iter(data))["objects"]["iscrowd"] == [False, True, False]
    data = read_dataset(path, streaming=streaming, category="plate", defect_types=["pit", "scratch"], crowds="objects")
    assert next(iter(data))["objects"]["iscrowd"] == [False, False, False]
    stored(tmp_path / "train.parquet", kind, boxes, given[:2])
    with pytest.raises(InputError, match="3 boxes, 3 categories, 3 scores and 2 iscrowd"):
        list(read_dataset(path, streaming=streaming, category="plate", defect_types=["pit", "scratch"]))
