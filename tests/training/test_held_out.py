"""A stream's parts: what each process reads of it, and which rows are held out."""

import io

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from agssp.data.readers import read_dataset
from agssp.data.schema import features
from agssp.data.training_sets import is_held_out
from agssp.data.transforms import PretrainingTransform
from agssp.training.held_out import divide_stream

ROWS = 21


@pytest.fixture
def table(tmp_path):
    """A Parquet file whose every row is a row group of its own."""
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, "png")
    image = {"bytes": file.getvalue(), "path": None}
    rows = [{"image": image, "image_id": f"{index}", "category": 0, "is_normal": None} for index in range(ROWS)]
    Dataset.from_list(rows, features=features(["plate"])).to_parquet(tmp_path / "train.parquet", batch_size=1)
    return tmp_path / "train.parquet"


def divided(table, rank=0, world_size=1, share=0.0):
    maps = {f"{index}": np.full((4, 4), index, np.float16) for index in range(ROWS)}
    transform = PretrainingTransform(16, (0, 0, 0), (1, 1, 1), map_size=4)
    stream, held_out = divide_stream(
        read_dataset(table, streaming=True), maps, transform, 0, source="DATA", share=share, buffer_size=4, rank=rank,
        world_size=world_size, skipped_file=table.with_name("skipped.jsonl"),
    )  # fmt: skip
    stream.passes = 1
    return stream, held_out


def rows_of(stream):
    return [int(item["anomaly_maps"].mean().round()) for item in stream]


@pytest.mark.slow
def test_processes_share_the_row_groups_of_a_file_though_they_do_not_come_out_even(table):
    # A reader keeps what it has fetched of a shard, and one that skips the others' rows fetches them all the same.
    streams = [divided(table, rank, 2)[0] for rank in range(2)]
    assert [stream.dataset.num_shards for stream in streams] == [11, 10]
    first, second = map(rows_of, streams)
    assert (len(first), len(second)) == (11, 10)
    assert sorted(first + second) == list(range(ROWS))


@pytest.mark.slow
def test_what_is_held_out_is_the_same_on_every_process_and_in_no_stream(table):
    expected = [index for index in range(ROWS) if is_held_out(f"{index}", 0.3)]
    assert 0 < len(expected) < ROWS
    seen = []
    for rank in range(2):
        stream, held_out = divided(table, rank, 2, share=0.3)
        assert held_out.dataset["image_id"][:] == [f"{index}" for index in expected]
        seen += rows_of(stream)
    assert sorted(seen + expected) == list(range(ROWS))
    assert divided(table, share=0.0)[1] is None
