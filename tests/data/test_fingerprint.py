import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value
from PIL import Image

from agssp.data.fingerprint import dataset_fingerprint, label_fingerprint, mask_fingerprint
from agssp.data.readers import read_dataset
from agssp.data.schema import features, objects_feature

SCHEMA = features(["bolt", "plate"])


def table(rows):
    return pa.Table.from_pylist(rows, schema=SCHEMA.arrow_schema)


def row(index, content=b"pixels", path=None):
    image = {"bytes": content, "path": path}
    return {"image": image, "image_id": str(index), "category": index % 2, "is_normal": [True, None][index % 2]}


def fingerprint(content):
    return dataset_fingerprint(Dataset(content, fingerprint="of the table"))


def test_no_rows():
    assert fingerprint(table([])) == fingerprint(table([]))
    assert len(fingerprint(table([]))) == 16


def test_chunks_do_not_count():
    rows = [row(index, b"x" * index) for index in range(7)]
    chunks = pa.concat_tables([table(rows[:1]), table(rows[1:5]), table([]), table(rows[5:])])
    assert chunks["image"].num_chunks > 1
    assert fingerprint(chunks) == fingerprint(table(rows))
    assert fingerprint(chunks) != fingerprint(table(rows[::-1]))


@pytest.mark.slow
def test_images_of_more_than_two_gigabytes():
    # 40 chunks that share the same 64 MB, so that the bytes are many and the memory is small.
    image = table([row(0, bytes(64 << 20))])["image"].chunk(0)
    rest = table([row(index) for index in range(40)]).remove_column(0)
    large = rest.add_column(0, SCHEMA.arrow_schema.field("image"), pa.chunked_array([image] * 40))
    assert len(fingerprint(large)) == 16


def test_files_and_the_same_files_in_parquet(tmp_path):
    for index in range(5):
        folder = tmp_path / "images" / ("normal" if index else "bad")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4 + index, 9), index, np.uint8)).save(folder / f"{index}.png")
    source = read_dataset(tmp_path / "images", category="plate")
    rows = [
        {**values, "image": {"bytes": (tmp_path / "images" / values["image_id"]).read_bytes(), "path": "elsewhere.png"}}
        for values in source
    ]
    embedded = pa.Table.from_pylist(rows, schema=source.features.arrow_schema)
    (tmp_path / "parquet").mkdir()
    pq.write_table(embedded.slice(0, 2), tmp_path / "parquet/train-00000-of-00002.parquet", row_group_size=1)
    pq.write_table(embedded.slice(2), tmp_path / "parquet/train-00001-of-00002.parquet", row_group_size=1)
    assert dataset_fingerprint(read_dataset(tmp_path / "parquet")) == dataset_fingerprint(source)


@pytest.mark.parametrize("depth", ["10", "12"])
def test_a_bit_depth_makes_other_images_of_the_same_files(depth, monkeypatch):
    plain = fingerprint(table([row(0)]))
    monkeypatch.setenv("AGSSP_BIT_DEPTH", depth)
    assert fingerprint(table([row(0)])) != plain


def test_masks_are_told_apart_by_their_pixels(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "mask_file_name": "mask.png"}')
    found = []
    for value in (0, 255, 255):
        mask = np.zeros((4, 4), np.uint8)
        mask[1, 1] = value
        Image.fromarray(mask).save(tmp_path / "mask.png")
        found.append(mask_fingerprint(read_dataset(tmp_path)))
    assert found[0] != found[1] == found[2]
    assert mask_fingerprint(Dataset(table([]))) == ""


NO_BOXES = {"bbox": [], "category": [], "score": [], "iscrowd": []}


@pytest.mark.parametrize(
    ("crowds", "expected"), [(None, "c858999e1b643636"), ([False, False], "b16ee85a2204da56"), ([True, False], None)]
)
def test_labels_without_crowds_keep_the_digest_that_they_had_before_the_field(crowds, expected):
    # The digests were taken when `objects` held bbox, category and score alone: runs begun then go on.
    columns = Features({"image_id": Value("string"), "objects": objects_feature(["pit", "scratch"])})
    boxes = {"bbox": [[1, 2, 3, 4], [5, 6, 7.5, 8]], "category": [1, 0], "score": [1, 0.5], "iscrowd": crowds}
    rows = {"image_id": ["a", "b", "c"], "objects": [boxes, NO_BOXES, None]}
    if crowds is None:
        rows = {"image_id": [], "objects": []}
    found = label_fingerprint(Dataset.from_dict(rows, columns))
    assert found == expected if expected else found != "b16ee85a2204da56"
