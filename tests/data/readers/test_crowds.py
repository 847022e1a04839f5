"""Crowd regions from the file to the schema: what tools write, what earlier builds wrote, what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from agssp.data.readers import read_dataset
from agssp.data.readers.crowds import crowd_flag
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
    stored(tmp_path / "train.parquet", kind, boxes, given[:2])
    with pytest.raises(InputError, match="3 boxes, 3 categories, 3 scores and 2 iscrowd"):
        list(read_dataset(path, streaming=streaming, category="plate", defect_types=["pit", "scratch"]))
