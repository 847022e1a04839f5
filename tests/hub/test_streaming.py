"""Pretraining from the Hub as the rows come: each row once a pass on any number of processes, and resumed exactly."""

import io
import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Array2D, Dataset, Features
from PIL import Image
from safetensors.torch import load_file

from agssp.data.schema import features

WORKER = Path(__file__).with_name("stream_worker.py")
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def publish_corpus(hub, folder, rows=24, shards=8, repository="me/corpus", leave_out=()):
    """Rows of two categories with a map each, as Parquet shards; every map holds its row's number."""
    generator = np.random.default_rng(0)
    columns = Features(features(["plate", "strip"]) | {"anomaly_map": Array2D((4, 4), "float16")})
    columns = Features({name: kind for name, kind in columns.items() if name not in leave_out})
    table = []
    for number in range(rows):
        picture = io.BytesIO()
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(picture, "png")
        image, anomaly_map = {"bytes": picture.getvalue(), "path": None}, np.full((4, 4), number, np.float16)
        row = {"image": image, "image_id": f"{number:02d}.png", "category": number % 2, "is_normal": None,
               "anomaly_map": anomaly_map}  # fmt: skip
        table.append({name: row[name] for name in columns})
    files = {}
    for shard in range(shards):
        path = folder / f"train-{shard:05d}-of-{shards:05d}.parquet"
        Dataset.from_list(table[shard::shards], features=columns).to_parquet(path)
        files[f"data/{path.name}"] = path.read_bytes()
    hub.publish(repository, files, repo_type="dataset")


@pytest.mark.slow
def test_each_row_comes_once_a_pass(hub, tmp_path):
    publish_corpus(hub, tmp_path)
    hub.run([*TWO_PROCESSES, str(WORKER)], tmp_path)
    for processes in (1, 2):
        seen = [json.loads((tmp_path / f"seen-{rank}-of-{processes}.json").read_text()) for rank in range(processes)]
        rows = 24 // processes
        # The workers of a process take turns, so the first half is the first pass of each of them.
        passes = [list(chain(*(part[:rows] for part in seen))), list(chain(*(part[rows:] for part in seen)))]
        assert [sorted(found) for found in passes] == [list(range(24))] * 2
        assert passes[0] != passes[1]


@pytest.mark.slow
def test_nothing_is_downloaded_that_was_not_asked_for(hub, tmp_path):
    publish_corpus(hub, tmp_path)
    cache = tmp_path / "cache"
    hub.run(
        """
        from agssp.data.readers import read_dataset
        print(next(iter(read_dataset("me/corpus", streaming=True)))["image_id"])
        """,
        cache=cache,
    )
    read = {call.path for call in hub.requested("GET", r"/resolve/.*\.parquet")}
    assert len(read) == 1
    assert not list(cache.rglob("*.parquet"))
    assert not list(cache.rglob("*.arrow"))


PRETRAIN = """
    import json, sys
    import datasets
    from agssp.cli import main

    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.1  # in place of five seconds a pass
    for words in json.loads(sys.argv[1]):
        main(words)
    """


def pretrain(hub, *outputs, **options):
    """Runs one after the other in one program; importing torch takes longer than any of them."""
    flags = {"max-steps": 12, "save-steps": 4, "shuffle-buffer": 8, "backbone": "test_resnet", "image-size": 32,
             "disable-tqdm": "true", "per-device-train-batch-size": 4, "dataloader-num-workers": 0}  # fmt: skip
    words = ["pretrain-backbone", "--dataset", "me/corpus", "--streaming", "--use-cpu"]
    words += [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    return hub.run(PRETRAIN, json.dumps([[*words, "--output", str(output)] for output in outputs]), **options)


@pytest.mark.slow
def test_pretraining_goes_on_exactly_after_the_hub_was_gone(hub, tmp_path):
    publish_corpus(hub, tmp_path)
    # Served are the schema and, each with a call a shard, the row groups, the rows to hold out and two passes to train
    # on; not the third, in which the run would end.
    hub.fail("GET", r"/resolve/.*\.parquet", status=403, calls=range(1 + 4 * 8 + 1, 10_000))
    cut = pretrain(hub, tmp_path / "cut", check=False)
    assert cut.returncode == 2
    assert "error: me/corpus: reading it broke off (HfHubHTTPError: 403" in cut.stderr
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    assert not (tmp_path / "cut/run.json").exists()
    hub.heal()
    done = pretrain(hub, tmp_path / "cut", tmp_path / "whole")
    assert f"going on from {tmp_path / 'cut'}/checkpoint-8" in done.stdout
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    record = json.loads((tmp_path / "whole/run.json").read_text())
    assert record["steps"] == 12
    assert record["lambda"] > 0
    assert record["dataset"]["hub_id"] == "me/corpus"


@pytest.mark.slow
def test_a_column_that_is_missing_is_named(hub, tmp_path):
    publish_corpus(hub, tmp_path, repository="me/corpus", leave_out=("anomaly_map",))
    done = pretrain(hub, tmp_path / "out", check=False)
    assert "me/corpus has no column `anomaly_map`" in done.stderr
    assert not (tmp_path / "out").exists()
