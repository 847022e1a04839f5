"""Rows that are published: how they are divided into shards, and that a shard's bytes depend on its rows alone."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_cases import GRID, images, labelled, maps
from datasets import Array2D, Features
from PIL import Image
from tqdm import tqdm

from agssp.data.images import image_size
from agssp.data.readers import read_dataset
from agssp.errors import InputError
from agssp.hub.dataset_publishing import describing_files, write_shards
from agssp.hub.dataset_rows import ROW_GROUP, Rows, shard_counts, write_shard


@pytest.fixture
def rows(tmp_path):
    images(tmp_path / "images")
    maps(tmp_path / "images", tmp_path / "maps")
    return Rows({"train": read_dataset(tmp_path / "images")}, tmp_path / "maps")


@pytest.mark.parametrize("length", [0, 1, 63, 64, 600, 8000, 8001])
@pytest.mark.parametrize("shard_images", [1, 100, 1000])
def test_every_row_has_its_shard(length, shard_images):
    counts = shard_counts(length, shard_images)
    assert sum(counts) == length
    assert max(counts) <= shard_images
    assert max(counts) - min(counts) <= 1
    if length >= 8 * ROW_GROUP:
        assert len(counts) >= 8, "fewer shards than processes leave some without rows"


def test_an_empty_shard_can_be_read(rows, tmp_path):
    write_shard(tmp_path / "empty.parquet", [], rows.features)
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0


def test_the_same_rows_give_the_same_bytes(rows, tmp_path):
    split = rows.splits["train"]
    hashes = {write_shard(tmp_path / f"{index}.parquet", rows.of(split), rows.features) for index in range(2)}
    assert len(hashes) == 1
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()
    table = pq.read_table(tmp_path / "0.parquet")
    assert np.array(table["anomaly_map"].to_pylist()).shape == (24, GRID, GRID)


def test_a_split_without_maps_has_empty_ones(tmp_path):
    images(tmp_path / "images")
    images(tmp_path / "other", count=4)
    maps(tmp_path / "images", tmp_path / "maps")
    datasets = {"train": read_dataset(tmp_path / "images"), "test": read_dataset(tmp_path / "other")}
    datasets["test"] = datasets["test"].map(lambda row: {"image_id": f"other/{row['image_id']}"})
    datasets["test"] = datasets["test"].cast(datasets["train"].features)
    rows = Rows(datasets, tmp_path / "maps")
    assert [split.has_maps for split in rows.splits.values()] == [True, False]
    write_shard(tmp_path / "test.parquet", rows.of(rows.splits["test"]), rows.features)
    from datasets import load_dataset

    loaded = load_dataset("parquet", data_files=str(tmp_path / "test.parquet"), split="train", cache_dir=str(tmp_path))
    assert loaded["anomaly_map"][:] == [None] * 4


def test_images_with_and_without_maps_share_a_row_group(tmp_path):
    generator = np.random.default_rng(0)
    maps = [generator.random((GRID, GRID)).astype(np.float16) if index % 3 else None for index in range(10)]
    columns = Features({"anomaly_map": Array2D((GRID, GRID), "float16")})
    write_shard(tmp_path / "mixed.parquet", [{"anomaly_map": each} for each in maps], columns)
    read = pq.read_table(tmp_path / "mixed.parquet")["anomaly_map"].to_pylist()
    assert [None if each is None else np.float16(each).tolist() for each in read] == [
        None if each is None else each.tolist() for each in maps
    ]


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_cut_image_is_not_published_though_its_header_is_whole(part, tmp_path):
    labelled(tmp_path / "labelled", splits=("train",))
    rows = Rows({"train": read_dataset(tmp_path / "labelled/train")})
    assert len(list(rows.of(rows.splits["train"]))) == 6
    file = tmp_path / f"labelled/train/{part}/3.png"
    file.write_bytes(file.read_bytes()[:60])
    assert image_size(file) == (48, 40)
    with pytest.raises(InputError, match=r"images/3\.png \(split train\): cannot be read"):
        list(rows.of(rows.splits["train"]))


def test_masks_are_published_as_they_are_and_the_card_says_how_they_are_read(tmp_path):
    labelled(tmp_path / "labelled", splits=("train",))
    files = sorted((tmp_path / "labelled/train/masks").iterdir())
    numbers = np.zeros((40, 48), np.uint8)
    numbers[5:9], numbers[9:11] = 3, 255
    for file in files:
        Image.fromarray(numbers).save(file)
    rows = Rows({"train": read_dataset(tmp_path / "labelled/train")})
    assert [row["mask"]["bytes"] for row in rows.of(rows.splits["train"])] == [file.read_bytes() for file in files]
    facts = {"title": "Plates", "left_out": 0, "sources": [], "defect_types": ["pit"]}
    write_shards(rows, facts, 100, None, tqdm(disable=True))
    card = describing_files(rows, facts, "agssp/x", {})["README.md"].decode()
    assert "(grey values: class numbers, each but 0 a defect, 255 beside them ignored)" in card
