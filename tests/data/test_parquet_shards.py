"""Rows with their images as Parquet: the same rows in the same order, whatever the shards and row groups."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image

from agssp.data import parquet_shards
from agssp.data.parquet_shards import embedded, image_bytes, write_shards
from agssp.data.readers.assembly import to_dataset
from agssp.data.readers.records import Box, ImageRecord, Label


def make_dataset(root, count):
    generator = np.random.default_rng(0)
    records, boxes = [], []
    for row in range(count):
        files = [root / kind / f"{row:03d}.png" for kind in ("images", "masks")]
        for file in files:
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(generator.integers(0, 255, (9, 5 + row % 3), np.uint8)).save(file)
        box = Box((1, 1, 2, 3), "pit")
        labels = [Label(box.bbox, box.defect_type, "here")] * (row % 3)
        records.append(
            ImageRecord(files[0], f"plate/{row}", "plate", mask=files[1] if row % 2 else None, labels=labels)
        )
        boxes.append([box] * (row % 3))
    return to_dataset(records, boxes, "made up", ["pit"])


def straight(dataset):
    """The rows with the bytes of their files, one by one."""
    return [row | {name: embedded(row[name], row["image_id"]) for name in ("image", "mask")} for row in dataset]


def test_no_rows_are_one_file_without_rows(tmp_path):
    dataset = make_dataset(tmp_path, 1)
    (file,) = write_shards(dataset.select([]), tmp_path / "out", "test")
    assert file.name == "test-00000-of-00001.parquet"
    assert pq.read_schema(file).names == dataset.column_names
    assert pq.read_metadata(file).num_rows == 0


@pytest.mark.parametrize(
    ("shards", "group_rows", "group_bytes"), [(1, 100, 10**6), (1, 4, 10**6), (3, 5, 150), (23, 5, 1)]
)
def test_rows_are_the_same_in_any_number_of_pieces(tmp_path, monkeypatch, shards, group_rows, group_bytes):
    monkeypatch.setattr(parquet_shards, "GROUP_ROWS", group_rows)
    monkeypatch.setattr(parquet_shards, "GROUP_BYTES", group_bytes)
    dataset = make_dataset(tmp_path, 30)
    chosen = dataset.select(range(29, 6, -1))
    expected = straight(chosen)
    whole = sum(len(row[name]["bytes"]) for row in expected for name in ("image", "mask") if row[name])
    assert image_bytes(chosen) == whole
    files = write_shards(chosen, tmp_path / "out", "train", shard_bytes=-(-whole // shards))
    assert [file.name for file in files] == [f"train-{i:05d}-of-{shards:05d}.parquet" for i in range(shards)]
    assert [row for file in files for row in pq.read_table(file).to_pylist()] == expected
    read = load_dataset(
        "parquet", data_files=[str(file) for file in files], split="train", cache_dir=str(tmp_path / "c")
    )
    assert read.features == dataset.features
    for file in files:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group).to_pylist()
            assert len(rows) <= group_rows
            *first, _ = [sum(len(row[name]["bytes"]) for name in ("image", "mask") if row[name]) for row in rows]
            assert sum(first) < group_bytes


def test_shards_of_another_number_go(tmp_path):
    dataset = make_dataset(tmp_path, 6)
    write_shards(dataset, tmp_path / "out", "train", shard_bytes=1)
    assert len(list((tmp_path / "out").iterdir())) == 6
    (tmp_path / "out" / "other.txt").touch()
    (file,) = write_shards(dataset, tmp_path / "out", "train")
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {file.name, "other.txt"}
