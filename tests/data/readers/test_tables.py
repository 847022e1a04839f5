import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx
from PIL import Image as Pil
from torch.utils.data import DataLoader, IterableDataset

from agssp.data.readers import NamedRows, ReadReport, read_dataset
from agssp.data.schema import features
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
    with pytest.raises(InputError, match=r"^DATA: reading it broke off \(.+\); one of its files is damaged.*$"):
        list(DataLoader(rows, num_workers=workers, batch_size=None))


@pytest.mark.slow
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
    with pytest.raises(ZeroDivisionError, match=r"^ours$"):
        list(NamedRows(raising(ZeroDivisionError("ours")), "DATA"))
