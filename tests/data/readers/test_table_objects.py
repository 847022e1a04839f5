import io
import json
import logging
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from PIL import Image as Pil
from test_tables import SCHEMA, WAYS, png, read, row, stored, turned_png

from agssp.data.readers import ReadReport, read_dataset, reading, table_objects
from agssp.data.readers.relabelling import relabel
from agssp.data.schema import defect_names
from agssp.errors import InputError


@pytest.mark.parametrize("way", WAYS)
def test_no_boxes_at_all_open_no_image(tmp_path, way):
    data, report = read(tmp_path, way, [row("a", b"damaged", []), row("b", b"", [])])
    assert [values["objects"]["bbox"] for values in data] == [[], []]
    assert report.lines() == []


@pytest.mark.parametrize("way", WAYS)
def test_boxes_that_are_not_known_are_not_taken_for_none(tmp_path, way):
    told = row("told", png((10, 10)), [[5, 5, 9, 9]])
    nothing, fields = {"objects": None}, {"objects": dict.fromkeys(SCHEMA["objects"])}
    rows = [
        row("empty", png(), []),
        row("unknown", png(), []) | nothing,
        row("defective", png(), []) | nothing | {"is_normal": False},
        row("normal", png(), []) | nothing | {"is_normal": True},
        row("fields", png(), []) | fields,
        told,
    ]
    data, _ = read(tmp_path, way, rows)
    data = relabel(data, "here", defect_types=[*defect_names(data), "dent"])
    found = {values["image_id"]: values["objects"] and values["objects"]["bbox"] for values in data}
    assert found == {
        "empty": [], "unknown": None, "defective": None, "normal": [], "fields": None, "told": [[5, 5, 5, 5]],
    }  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_boxes_are_clipped_to_the_image_of_their_row(tmp_path, way):
    rows = [
        row("large", png((40, 20)), [[30, 10, 50, 50], [1, 1, 2, 2]], [0, 1]),
        row("none", png((9, 9)), []),
        row("small", png((10, 10)), [[30, 10, 50, 50], [5, 5, 0, 3], [1, 1, 2, 2], [8, 8, 9, 9]], [0, 0, 1, 0]),
        row("turned", turned_png((40, 20)), [[10, 30, 5, 5], [30, 10, 5, 5]]),
    ]
    data, report = read(tmp_path, way, rows)
    objects = [values["objects"] for values in data]
    assert [value["bbox"] for value in objects] == [
        [[30, 10, 10, 10], [1, 1, 2, 2]],
        [],
        [[1, 1, 2, 2], [8, 8, 2, 2]],
        [[10, 30, 5, 5]],
    ]
    assert [value["category"] for value in objects] == [[0, 1], [], [1, 0], [1]]
    assert [len(value["score"]) for value in objects] == [2, 0, 2, 1]
    assert [name.split(": ")[-1] for name in report.examples("clipped")] == ["large box 0", "small box 3"]
    assert [name.split(": ")[-1] for name in report.examples("no_area")] == [
        "small box 0",
        "small box 1",
        "turned box 1",
    ]
    assert report.examples("turned_unknown") == ["turned"]
    assert (report.images, report.with_boxes, report.sound, report.boxes) == (4, 3, 1, {"pit": 2, "scratch": 3})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("content", [b"", b"no image", png()[:20]], ids=["empty", "no image", "cut off"])
def test_boxes_of_a_damaged_image_are_left_out_and_the_image_is_named(tmp_path, way, content):
    data, report = read(tmp_path, way, [row("bad", content, [[1, 1, 2, 2]]), row("good", png(), [[1, 1, 2, 2]])])
    assert [values["objects"] and values["objects"]["bbox"] for values in data] == [None, [[1, 1, 2, 2]]]
    assert report.count("damaged") == 1
    assert ": bad: " in report.examples("damaged")[0]
    assert (report.images, report.with_boxes, report.unknown) == (2, 1, 1)


def test_boxes_inside_leave_the_column_as_it_is(tmp_path):
    path = stored(tmp_path, "parquet", [row("a", png(), [[0, 0, 40, 20], [0.1, 0.3, 0.7, 0.9]])])
    expected = load_dataset("parquet", data_files=str(path), split="train")["objects"][:]
    assert read_dataset(path)["objects"][:] == expected


@pytest.mark.parametrize("way", ["parquet", "streamed"])
def test_images_that_are_files_of_their_own(tmp_path, way):
    rows = [row("here", None, [[5, 5, 9, 9]]), row("gone", None, [[5, 5, 9, 9]])]
    for values in rows:
        values["image"]["path"] = str(tmp_path / f"{values['image_id']}.png")
        (tmp_path / f"{values['image_id']}.png").write_bytes(png((10, 10)))
    path = stored(tmp_path, way, rows)
    (tmp_path / "gone.png").unlink()
    report = ReadReport()
    data = read_dataset(path, streaming=way == "streamed", report=report)
    assert [values["objects"] and values["objects"]["bbox"] for values in data] == [[[5, 5, 5, 5]], None]
    assert "no such file" in report.examples("damaged")[0]


def test_row_without_an_image(tmp_path):
    data, report = read(tmp_path, "parquet", [row("a", None, [[1, 1, 2, 2]]), row("b", None, []) | {"image": None}])
    assert [values["objects"] and values["objects"]["bbox"] for values in data] == [None, []]
    assert ": a: expected a path, bytes" in report.examples("damaged")[0]


def test_only_headers_are_read(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (900, 900), dtype=np.uint8)
    buffer = io.BytesIO()
    Pil.fromarray(noise).save(buffer, "png")
    read_bytes = []

    class Counting(pa.BufferReader):
        def read(self, nbytes=None):
            content = super().read(nbytes)
            read_bytes.append(len(content))
            return content

    monkeypatch.setattr(pa, "BufferReader", Counting)
    data, _ = read(tmp_path, "parquet", [row("a", buffer.getvalue(), [[890, 0, 20, 5]])])
    assert data[0]["objects"]["bbox"] == [[890, 0, 10, 5]]
    assert 0 < sum(read_bytes) < 50_000 < len(buffer.getvalue())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("bboxes", "labels", "message"),
    [
        ([[1, 1, 2, 2]], [2], r"a box 0: class id 2 is beyond the list of 2 classes \(pit, scratch\)"),
        ([[1, 1, 2, 2]], [-1], "a box 0: class id -1 is beyond"),
        ([[1, 1, 2, 2]], [None], "a box 0: expected the name or number of a class, got None"),
        ([[1, 1, 2, 2]], [0, 1], "a: objects have 1 boxes, 2 categories, 1 scores and 1 iscrowd"),
        ([[1, 1, None, 2]], [0], r"a box 0: expected four numbers a box, .*, got \[1.0, 1.0, None, 2.0\]"),
        # pyarrow before 26 writes such a list and cannot read it.
        ([None], [0], "four numbers a box|Expected all lists to be of size=4"),
    ],
)
def test_bad_objects(tmp_path, way, bboxes, labels, message):
    with pytest.raises(InputError, match=message), reading("DATA"):
        list(read(tmp_path, way, [row("a", png(), bboxes, labels)])[0])


def test_reading_warns_of_what_was_changed(tmp_path, caplog):
    path = stored(tmp_path, "saved", [row("a", png((10, 10)), [[5, 5, 9, 9], [20, 20, 5, 5]])])
    with caplog.at_level(logging.WARNING):
        read_dataset(path)
    assert "1 boxes reached beyond their image and were clipped" in caplog.text
    assert "1 boxes have no area inside their image and were dropped" in caplog.text


def foreign(tmp_path, way, objects, column=None, **more):
    """One image of 10 x 10 px whose objects are in a form of others, as lines of JSON or as a table."""
    if way == "metadata":
        (tmp_path / "a.png").write_bytes(png((10, 10)))
        (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects} | more))
        return tmp_path
    columns = {"image": {"bytes": png((10, 10)), "path": None}, "image_id": "a.png", **more, "objects": objects}
    table = pa.Table.from_pylist([columns])
    if column is not None:
        table = table.set_column(table.num_columns - 1, "objects", pa.array([objects], column))
    if way == "saved":
        Dataset(table, fingerprint="of the test").save_to_disk(tmp_path / "saved")
        return tmp_path / "saved"
    pq.write_table(table, tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def read_foreign(tmp_path, way, objects, column=None, asked=None, **more):
    report = ReadReport()
    path = foreign(tmp_path, way, objects, column, **more)
    streamed = way == "streamed"
    data = read_dataset(path, streaming=streamed, category="plate", defect_types=asked, report=report)
    return data, next(iter(data))["objects"], report


EVERYWHERE = ("metadata", *WAYS)
FORMS = {
    "table": {"bbox": [[5, 5, 9, 9], [1, 1, 2, 2]], "category": ["dent", "crack"]},
    "categories": {"bbox": [[5.0, 5.0, 9.0, 9.0], [1.0, 1.0, 2.0, 2.0]], "categories": ["dent", "crack"]},
    "category_id": {"category_id": ["dent", " crack "], "bbox": [[5, 5, 9, 9], [1, 1, 2, 2]]},
    "label": {"bbox": [[5, 5, 9, 9], [1, 1, 2, 2]], "label": ["dent", "crack"]},
    "labels": {"bbox": [[5, 5, 9, 9], [1, 1, 2, 2]], "labels": ["dent", "crack"]},
    "list": [{"bbox": [5, 5, 9, 9], "category": "dent"}, {"bbox": [1, 1, 2, 2], "category": "crack"}],
    "list of label": [{"bbox": [5, 5, 9, 9], "label": "dent"}, {"bbox": [1, 1, 2, 2], "label": "crack"}],
    "reversed": {"bbox": [[14, 14, -9, -9], [1, 3, 2, -2]], "category": ["dent", "crack"]},
    "twice": {"bbox": [[5, 5, 9, 9], [1, 1, 2, 2], [5, 5, 9, 9]], "category": ["dent", "crack", "dent"]},
    "scores": [
        {"bbox": [5, 5, 9, 9], "category": "dent", "score": None, "iscrowd": None},
        {"bbox": [1, 1, 2, 2], "category": "crack", "score": 1.0, "iscrowd": 0},
    ],
}


@pytest.mark.parametrize("way", EVERYWHERE)
@pytest.mark.parametrize("form", FORMS)
def test_objects_in_the_forms_that_others_give_them(tmp_path, way, form):
    asked = ["crack", "dent"] if way == "streamed" else None
    data, objects, report = read_foreign(tmp_path, way, FORMS[form], asked=asked)
    assert defect_names(data) == ["crack", "dent"]
    assert objects == {
        "bbox": [[5, 5, 5, 5], [1, 1, 2, 2]], "category": [1, 0], "score": [1, 1], "iscrowd": [False, False],
    }  # fmt: skip
    told = {"reversed": {"reversed": 2}, "twice": {"duplicates": 1}}.get(form, {})
    # The overhang of a box that is there twice is clipped, and noted, twice.
    clipped = 2 if form == "twice" else 1
    assert {cause: found.count for cause, found in report.causes.items()} == {"clipped": clipped, **told}
    assert (report.images, report.with_boxes, report.boxes) == (1, 1, {"crack": 1, "dent": 1})


@pytest.mark.parametrize("way", EVERYWHERE)
def test_other_fields_of_the_objects_are_left_out_and_told(tmp_path, way):
    objects = {"bbox": [[1, 1, 2, 2]], "category": ["dent"], "id": [7], "area": [4], "segmentation": [[[1, 1, 3, 3]]]}
    _, found, report = read_foreign(tmp_path, way, objects, asked=["dent"])
    assert sorted(found) == ["bbox", "category", "iscrowd", "score"]
    assert report.count("extra_fields") == 1
    assert re.match(r"id, area, segmentation \(.*\)", report.examples("extra_fields")[0])


@pytest.mark.parametrize("way", EVERYWHERE)
def test_classes_without_names_are_called_by_their_numbers(tmp_path, way):
    objects = {"bbox": [[1, 1, 2, 2], [2, 2, 3, 3], [3, 3, 4, 4]], "category": [10, 2, 10]}
    asked = ["2", "10"] if way == "streamed" else None
    data, found, report = read_foreign(tmp_path, way, objects, asked=asked)
    assert defect_names(data) == ["2", "10"]
    assert found["category"] == [1, 0, 1]
    assert report.count("numbered_classes") == 3
    assert report.boxes == {"2": 1, "10": 2}


@pytest.mark.parametrize("way", EVERYWHERE)
def test_classes_without_names_are_places_in_a_list_of_names(tmp_path, way):
    objects = {"bbox": [[1, 1, 2, 2], [2, 2, 3, 3]], "category": [2, 0]}
    data, found, report = read_foreign(tmp_path, way, objects, asked=["pit", "dent", "crack"])
    assert defect_names(data) == ["pit", "dent", "crack"]
    assert found["category"] == [2, 0]
    assert report.boxes == {"pit": 1, "dent": 0, "crack": 1}


@pytest.mark.parametrize("way", EVERYWHERE)
def test_class_number_beyond_a_list_of_names(tmp_path, way):
    objects = {"bbox": [[1, 1, 2, 2], [2, 2, 3, 3]], "category": [0, 3]}
    with pytest.raises(InputError, match=r"unknown class '3', expected one of pit, dent$|class id 3 is beyond"):
        read_foreign(tmp_path, way, objects, asked=["pit", "dent"])


def test_stream_whose_classes_have_no_names(tmp_path):
    for category in (["dent"], [0]):
        path = foreign(tmp_path, "streamed", {"bbox": [[1, 1, 2, 2]], "category": category})
        with pytest.raises(InputError, match="names of the classes in `objects` are not known before the rows"):
            read_dataset(path, streaming=True)


NO_BOX = {"bbox": [], "category": []}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("objects", "column"),
    [
        (NO_BOX, pa.struct({"bbox": pa.list_(pa.null()), "category": pa.list_(pa.null())})),
        (NO_BOX, pa.struct({"bbox": pa.list_(pa.list_(pa.float64())), "category": pa.list_(pa.null())})),
        ([], pa.list_(pa.null())),
        ([], pa.list_(pa.struct({"bbox": pa.list_(pa.int64()), "category": pa.null()}))),
    ],
)
def test_no_box_in_the_whole_table(tmp_path, way, objects, column):
    data, found, report = read_foreign(tmp_path, way, objects, column)
    assert found == {"bbox": [], "category": [], "score": [], "iscrowd": []}
    assert (defect_names(data), report.sound, report.lines()) == ([], 1, [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "column", [pa.null(), pa.list_(pa.null()), pa.struct({"bbox": pa.null(), "category": pa.null()})]
)
def test_nothing_known_in_the_whole_table(tmp_path, way, column):
    _, found, report = read_foreign(tmp_path, way, None, column)
    assert found is None
    assert (report.images, report.unknown, report.lines()) == (1, 1, [])


@pytest.mark.parametrize("way", EVERYWHERE)
@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"bbox": [[1, 1, 2, 2]], "category": []}, "objects have 1 boxes, 0 categories, 1 scores and 1 iscrowd"),
        ({"bbox": [[1, 1, 2, 2]], "category": [None]}, "box 0: expected the name or number of a class, got None"),
        ({"bbox": [[1, 1, 2, 2], [1, 1, 2]], "category": ["a", "a"]}, "box 1: expected four numbers a box"),
        ({"bbox": [[1, 1, 2, 2], None], "category": ["a", "a"]}, "box 1: expected four numbers a box"),
        ([{"bbox": [1, 1, None, 2], "category": "a"}], "box 0: expected four numbers a box"),
        ({"bbox": [[1, 1, 2, 2]], "category": [""]}, "box 0: expected the name of a class, got an empty text"),
        ({"bbox": [[0.5, 0.25, 0.5, 0.1]], "category": ["a"]}, "box 0: expected a box in px"),
    ],
)
def test_bad_objects_of_others(tmp_path, way, objects, message):
    with pytest.raises(InputError, match=rf"(metadata.jsonl:1|train.parquet: a.png|saved: a.png):? ?{message}"):
        read_foreign(tmp_path, way, objects, asked=["a"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("column", [pa.string(), pa.list_(pa.float64()), pa.struct({"bbox": pa.list_(pa.float64())})])
def test_objects_that_are_none(tmp_path, way, column):
    with pytest.raises(InputError, match=r"expected objects = .*; got a column of"):
        read_foreign(tmp_path, way, None, column)


@pytest.mark.parametrize("way", EVERYWHERE)
def test_columns_of_sizes_are_what_the_boxes_are_for(tmp_path, way):
    objects = {"bbox": [[50, 50, 20, 20]], "category": ["dent"]}
    _, found, report = read_foreign(tmp_path, way, objects, asked=["dent"], width=100, height=100)
    assert found["bbox"] == [[5, 5, 2, 2]]
    assert report.examples("scaled") == ["a.png (100 x 100 px there, 10 x 10 px here)"]


@pytest.mark.parametrize("way", EVERYWHERE)
def test_columns_of_sizes_that_fit_in_no_way(tmp_path, way):
    objects = {"bbox": [[50, 50, 20, 20]], "category": ["dent"]}
    with pytest.raises(InputError, match=r"the labels are for an image of 100 x 50 px, but a\.png is 10 x 10 px"):
        read_foreign(tmp_path, way, objects, asked=["dent"], width=100, height=50)


def sized(rows, sizes):
    """Rows of the schema with columns of stated sizes."""
    schema = SCHEMA.arrow_schema.append(pa.field("width", pa.int64())).append(pa.field("height", pa.int64()))
    rows = [values | {"width": width, "height": height} for values, (width, height) in zip(rows, sizes, strict=True)]
    return pa.Table.from_pylist(rows, schema=pa.schema(list(schema)))


@pytest.mark.parametrize("streaming", [False, True])
def test_turned_photos_by_the_columns_of_sizes(tmp_path, streaming):
    # Stored 40 x 20, shown 20 x 40. The second is square and cannot tell, the third is not turned, the last is damaged.
    rows = [
        row("turned", turned_png((40, 20)), [[30, 4, 6, 2]]),
        row("square", turned_png((20, 20)), [[0, 0, 5, 2]]),
        row("plain", png((40, 20)), [[1, 2, 3, 4]]),
        row("damaged", b"", [[1, 2, 3, 4]]),
    ]
    pq.write_table(sized(rows, [(40, 20), (20, 20), (40, 20), (40, 20)]), tmp_path / "train.parquet")
    report = ReadReport()
    data = read_dataset(tmp_path, streaming=streaming, defect_types=["pit", "scratch"], category="plate", report=report)
    found = [values["objects"] and values["objects"]["bbox"] for values in data]
    # A quarter turn clockwise: what was at the left is at the top, what was at the top is at the right.
    assert found == [[[14, 30, 2, 6]], [[18, 0, 2, 5]], [[1, 2, 3, 4]], None]
    assert [told.split()[0] for told in report.examples("turned")] == ["turned", "square"]
    assert report.examples("turned_as_others") == ["square"]


@pytest.mark.parametrize("streaming", [False, True])
def test_turned_photos_that_contradict_each_other(tmp_path, streaming):
    rows = [row("a", turned_png((40, 20)), [[1, 2, 3, 4]]), row("b", turned_png((40, 20)), [[1, 2, 3, 4]])]
    pq.write_table(sized(rows, [(20, 40), (40, 20)]), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"b box 0: its stated size, 40 x 20 px, is that of the stored .* of a, 20"):
        list(read_dataset(tmp_path, streaming=streaming, category="plate", defect_types=["pit", "scratch"]))


@pytest.mark.parametrize("mode", ["auto", "ignore", "objects"])
@pytest.mark.parametrize("every", [False, True])
def test_crowds_of_a_whole_table(tmp_path, mode, every):
    rows = [row("a", png(), [[1, 2, 3, 4]]), row("b", png(), [[1, 2, 3, 4], [5, 5, 5, 5]])]
    for values, flags in zip(rows, ([True], [every, True]), strict=True):
        values["objects"]["iscrowd"] = flags
    data = read_dataset(stored(tmp_path, "parquet", rows), crowds=mode)
    # A table in the schema is one of ours, of which it was decided before.
    objects = mode == "objects"
    assert [values["objects"]["iscrowd"] for values in data] == [[not objects], [every and not objects, not objects]]


@pytest.mark.parametrize("mode", ["ignore", "objects"])
def test_asking_for_crowds_where_none_is_tells_of_all_boxes(tmp_path, mode):
    report = ReadReport()
    path = stored(tmp_path, "parquet", [row(name, png(), [[1, 2, 3, 4], [5, 5, 5, 5]]) for name in "abc"])
    read_dataset(path, crowds=mode, report=report)
    assert report.examples("crowds") == [f"none of 6; --crowds {mode} changes nothing"]


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_rows_that_are_passed_over_are_those_that_need_nothing(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(table_objects, "BATCH", batch)
    generator = np.random.default_rng(0)
    rows, expected = [], []
    for index in range(60):
        size = tuple(generator.integers(3, 12, 2).tolist())
        bboxes = generator.integers(0, 8, (index % 4, 4)).astype(float).tolist()
        labels = generator.integers(0, 2, len(bboxes)).tolist()
        if index % 7 == 3:
            bboxes, labels = bboxes * 2, labels * 2
        rows.append(row(f"row {index}", b"" if index % 11 == 10 else png(size), bboxes, labels))
        boxes = {}
        for (x, y, w, h), label in zip(bboxes, labels, strict=True):
            right, bottom = min(x + w, size[0]), min(y + h, size[1])
            if x < right and y < bottom:
                boxes[x, y, right - x, bottom - y, label] = None
        lost = bboxes and (not boxes or index % 11 == 10)
        expected.append(None if lost else [(list(box[:4]), box[4]) for box in boxes])
    report = ReadReport()
    data = read_dataset(stored(tmp_path, "parquet", rows), report=report)
    found = [
        values["objects"] and list(zip(values["objects"]["bbox"], values["objects"]["category"], strict=True))
        for values in data
    ]
    assert found == expected
    assert sum(values is None for values in found) > 5
    contents = [values["image"]["bytes"] for values in rows]
    sizes = [Pil.open(io.BytesIO(content)).size if content else None for content in contents]
    for label, name in enumerate(["pit", "scratch"]):
        shares = [
            min(box[2:]) / max(size)
            for boxes, size in zip(expected, sizes, strict=True)
            for box, own in boxes or []
            if own == label
        ]
        assert report.boxes[name] == len(shares)
        assert sorted(report.shares[name]) == pytest.approx(sorted(shares), rel=1e-6)


def test_small_boxes_beside_others_are_no_fractions(tmp_path):
    rows = [
        row("large", png(), [[1, 2, 3, 4]]),
        row("small", png(), [[0, 0, 1, 1]]),
        row("tiny", png((1, 1)), [[0, 0, 1, 1]]),
    ]
    data, report = read(tmp_path, "parquet", rows)
    assert [values["objects"]["bbox"] for values in data] == [[[1, 2, 3, 4]], [[0, 0, 1, 1]], [[0, 0, 1, 1]]]
    assert report.lines() == []
    with pytest.raises(InputError, match=r"small box 0: expected a box in px, got \[0.0, 0.0, 1.0, 1.0\]"):
        read(tmp_path, "parquet", rows[1:])
