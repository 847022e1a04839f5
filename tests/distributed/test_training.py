"""Two real processes train one model: they finish, agree, and measure what one process measures."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm_python import torchrun

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from chain_cases import write_all

from agssp.cli import run
from agssp.data.readers import read_dataset
from agssp.data.training_sets import is_held_out
from agssp.training.attention_snapshots import read_examples

WORKER = Path(__file__).with_name("training_worker.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("ranks"), count=13)


COMMON = ("--use-cpu", "--dataloader-num-workers", "0", "--disable-tqdm", "True")


@pytest.mark.slow
def test_two_ranks_pretrain_a_backbone_and_measure_all_images_once(root):
    words = ("pretrain-backbone", "--dataset", root / "images", "--maps", root / "maps", "--backbone", "test_resnet")
    words += ("--image-size", "32", "--val-fraction", "0.4", "--num-train-epochs", "1", *COMMON)
    command, *flags = map(str, words)
    run(command, [*flags, "--per-device-train-batch-size", "4", "--output", str(root / "one")])
    # With the interpreter that users have: hash seeds differ, and it has to end well.
    flags = ("--per-device-train-batch-size", "2", "--output", root / "two")
    torchrun("-m", "agssp", *words, *flags, interpreter=sys.executable)
    one, two = (json.loads((root / name / "run.json").read_text()) for name in ("one", "two"))
    assert two["results"]["starting_weights"] == pytest.approx(one["results"]["starting_weights"], rel=1e-4)
    assert "alignment_elsewhere" in one["results"]["starting_weights"]
    for name, numbers in one["results"]["levels"].items():
        assert two["results"]["levels"][name] == pytest.approx(numbers, rel=1e-4)
    for name in ("one", "two"):
        assert [shot.moment for shot in read_examples(root / name).snapshots] == ["start", "epoch 1"]
        assert "5 held-out images" in (root / name / "report.html").read_text()
    assert two["lambda"] > 0
    assert two["optimizer"] == one["optimizer"], "the learning rate belongs to the images of both"
    assert one["optimizer"]["global_batch"] == 4
    assert one["optimizer"]["scaled_learning_rate"] == pytest.approx(0.01 * 4 / 512)


@pytest.mark.slow
def test_two_ranks_finetune_and_a_second_run_finds_it_finished(root):
    words = (
        "finetune",
        "scratch:yolov8n",
        "--dataset",
        root / "labelled",
        "--image-size",
        "64",
        "--val-fraction",
        "0.3",
    )
    words += ("--test", root / "labelled", "--num-train-epochs", "2", "--per-device-train-batch-size", "2", *COMMON)
    words += ("--output", root / "detector")
    torchrun("-m", "agssp", *words)
    facts = json.loads((root / "detector/run.json").read_text())
    assert facts["results"]["test"]["map_50"] >= 0
    assert (root / "detector/model.safetensors").is_file()
    assert "finished already" in torchrun("-m", "agssp", *words).stdout


@pytest.mark.slow
def test_two_ranks_share_each_epoch_and_measure_one_model(root):
    torchrun(WORKER, root, "epochs")
    first, second = (json.loads((root / f"epochs-{rank}.json").read_text()) for rank in (0, 1))
    seen = [tuple(item) for rank in (first, second) for item in rank["seen"]]
    # The last round of an epoch is filled up with images from its start, so that both ranks take as many steps.
    rows = len({index for _, index in seen})
    assert {epoch for epoch, _ in seen} == {0, 1, 2}
    assert set(seen) == {(epoch, index) for epoch in range(3) for index in range(rows)}
    assert first["averages"] == second["averages"] != []


def write_odd_table(root):
    """The images as two Parquet shards, one of them broken, one 16-bit grey, one long; the id of the broken one."""
    rows = read_dataset(root / "images")
    broken, grey, long = [image_id for image_id in rows["image_id"] if not is_held_out(image_id, 0.3)][:3]
    contents = {broken: b"broken"}
    for image_id, pixels in ((grey, np.full((90, 40), 40000, np.uint16)), (long, np.full((20, 700, 3), 9, np.uint8))):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "png")
        contents[image_id] = file.getvalue()

    def embedded(row):
        content = contents.get(row["image_id"]) or Path(row["image"]["path"]).read_bytes()
        return {"image": {"bytes": content, "path": None}}

    (root / "table").mkdir()
    for index in range(2):
        part = rows.map(embedded).shard(2, index)
        part.to_parquet(root / f"table/train-{index:05d}-of-00002.parquet")
    return broken


@pytest.mark.slow
def test_two_ranks_train_on_a_stream_and_pass_over_what_is_broken(root):
    broken = write_odd_table(root)
    said = torchrun(WORKER, root, "stream", "--streaming").stdout
    assert "(1 images skipped)" in said
    facts = json.loads((root / "stream/run.json").read_text())
    assert list(facts["skipped"]) == [broken]
    assert "no known image format" in facts["skipped"][broken]
    assert facts["lambda"] > 0
    first, second = (json.loads((root / f"stream-{rank}.json").read_text()) for rank in (0, 1))
    assert first["averages"] == second["averages"]
    assert len(first["averages"]) == 2, "at steps 3 and 6"
