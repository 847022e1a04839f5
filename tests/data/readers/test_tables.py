import io
import logging
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image, load_dataset
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx
from PIL import Image as Pil
from torch.utils.data import DataLoader, IterableDataset

from agssp.data.readers import NamedRows, ReadReport, read_dataset, reading
from agssp.data.readers.relabelling import relabel
from agssp.data.schema import defect_names, features
from agssp.errors import InputError

SCHEMA = features(["plate"], ["pit", "scratch"])
WAYS = ("parquet", "saved", "streamed")


def png(size=(40, 20), **options):
    buffer = io.BytesIO()
    Pil.new("L", size, 90).save(buffer, "png", **options)
    return buffer.getvalue()


def turned_png(size):
    exif = Pil.Exif()
    exif[0x0112] = 6
    return png(size, exif=exif)


def row(name, content, bboxes, labels=None):
    count = len(bboxes)
    objects = {"bbox": bboxes, "category": labels or [1] * count, "score": [1.0] * count, "iscrowd": [False] * count}
    image = {"bytes": content, "path": None}
    return {"image": image, "image_id": name, "category": 0, "is_normal": None, "objects": objects}


def stored(tmp_path, way, rows, schema=SCHEMA):
    table = pa.Table.from_pylist(rows, schema=schema.arrow_schema)
    if way == "saved":
        Dataset(table, fingerprint="of the test").save_to_disk(tmp_path / "saved")
        return tmp_path / "saved"
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=2)
    return tmp_path / "train.parquet"


def read(tmp_path, way, rows, schema=SCHEMA):
    report = ReadReport()
    path = stored(tmp_path, way, rows, schema)
    return read_dataset(path, streaming=way == "streamed", report=report), report


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


@pytest.mark.parametrize("streaming", [False, True])
def test_a_file_that_was_cut_is_named(tmp_path, streaming):
    for name in ("a", "b"):
        path = stored(tmp_path, "parquet", [row(name, png(), [])])
        path.rename(tmp_path / f"{name}.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"b\.parquet: is not a whole Parquet file \(Arrow"):
        read_dataset(tmp_path, streaming=streaming)
    (tmp_path / "b.parquet").unlink()
    (tmp_path / "b.parquet").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"b\.parquet: cannot be opened \(.*No such file"):
        read_dataset(tmp_path, streaming=streaming)


class Worker(IterableDataset):
    """Rows as a worker of a DataLoader goes through them."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def raising(error):
    yield {"image_id": "a"}
    raise error


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_that_breaks_off_is_named(tmp_path, workers):
    path = stored(tmp_path, "parquet", [row("a", png(), [])])
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)  # the first pages; the footer stays
    path.write_bytes(content)
    rows = Worker(NamedRows(read_dataset(path, streaming=True).select_columns("image_id"), "DATA"))
    with pytest.raises(InputError) as caught:
        list(DataLoader(rows, num_workers=workers, batch_size=None))
    assert re.fullmatch(r"DATA: reading it broke off \(.+\); one of its files is damaged.*", str(caught.value))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Server disconnected"),
        TimeoutError("timed out"),
        OSError(5, "Input/output error"),
        HfHubHTTPError("403 Forbidden", response=httpx.Response(403, request=httpx.Request("GET", "http://hub"))),
    ],
)
def test_what_may_pass_is_named_and_is_no_damage(error):
    rows = iter(NamedRows(raising(error), "DATA"))
    assert next(rows) == {"image_id": "a"}
    expected = rf"DATA: reading it broke off \({type(error).__name__}: .+\); run the same command to go on"
    with pytest.raises(InputError, match=expected):
        next(rows)


def test_faults_of_whoever_takes_the_rows_are_their_own():
    assert list(NamedRows([], "DATA")) == []
    rows = NamedRows([{"image_id": "a"}], "DATA")

    def go_through():
        for _ in rows:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        go_through()
    assert len(list(rows)) == len(list(rows)) == 1
    with pytest.raises(ZeroDivisionError):
        list(NamedRows(raising(ZeroDivisionError()), "DATA"))


def test_reading_warns_of_what_was_changed(tmp_path, caplog):
    path = stored(tmp_path, "saved", [row("a", png((10, 10)), [[5, 5, 9, 9], [20, 20, 5, 5]])])
    with caplog.at_level(logging.WARNING):
        read_dataset(path)
    assert "1 boxes reached beyond their image and were clipped" in caplog.text
    assert "1 boxes have no area inside their image and were dropped" in caplog.text


def test_objects_as_a_list_of_tables_with_names(tmp_path):
    schema = pa.schema(
        {
            **{name: SCHEMA.arrow_schema.field(name).type for name in ("image", "image_id")},
            "objects": pa.list_(pa.struct({"bbox": pa.list_(pa.float64()), "category": pa.string()})),
        }
    )
    objects = [{"bbox": [5, 5, 9, 9], "category": "dent"}, {"bbox": [50, 50, 9, 9], "category": "crack"}]
    rows = [{"image": {"bytes": png((10, 10)), "path": None}, "image_id": "a", "objects": objects}]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "train.parquet")
    data = read_dataset(tmp_path, category="plate")
    assert isinstance(data.features["image"], Image)
    assert data[0]["objects"] == {"bbox": [[5, 5, 5, 5]], "category": [1], "score": [1], "iscrowd": [False]}
