"""From images to a published detector and back, every step a command of its own and nothing kept between them."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from chain_cases import write_all
from huggingface_hub import ModelCard
from test_model_loading import TIMM

from agssp.commands.dataset_build import DatasetBuildArguments, main

REPOSITORY = Path(__file__).parents[2]
SHORT = ["--use-cpu", "--disable-tqdm", "true", "--dataloader-num-workers", "0"]
PULL = """
    import json, sys
    import agssp
    from agssp import AgsspBackbone
    from datasets import load_dataset
    from PIL import Image
    from transformers import AutoModelForObjectDetection, pipeline

    backbone = AgsspBackbone.from_pretrained("agssp/tiny")
    streamed = list(load_dataset("agssp/corpus", split="train", streaming=True))
    detect = pipeline("object-detection", model="me/my-detector", device="cpu")
    print(json.dumps({
        "architecture": backbone.config.architecture,
        "rows": len(streamed),
        "columns": sorted(streamed[0]),
        "map": max(map(max, streamed[0]["anomaly_map"])),
        "classes": sorted(detect.model.config.id2label.values()),
        "boxes": len(detect(Image.open(sys.argv[1]), threshold=0.0)),
    }))
    """


@pytest.mark.slow
def test_from_images_to_a_published_detector(hub, tmp_path):
    root = write_all(tmp_path / "line")
    # What a contributor has: images, their maps and boxes; and a few labelled ones.
    licence = ["--licence", "cc-by-4.0"]
    maps = ["--maps", root / "maps", "--boxes", root / "boxes"]
    hub.agssp("dataset push", root / "images", "agssp/corpus", *maps, "--shard-images", 3, *licence)
    main(DatasetBuildArguments("own-line", str(root / "labelled"), str(tmp_path / "built"), licence="mit"))
    hub.agssp("dataset push", tmp_path / "built", "me/defects")

    streamed = ["--dataset", "agssp/corpus", "--streaming", "--max-steps", 4, "--save-steps", 4, *SHORT]
    pretrain = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    small = ["--backbone", "test_resnet", "--image-size", 32, "--per-device-train-batch-size", 2]
    output = ["--output", tmp_path / "backbone", "--push-to-hub", "agssp/tiny"]
    hub.run([*pretrain, str(REPOSITORY / "scripts/pretrain_backbone.py")], *streamed, *small, *output)
    once = ["--image-size", 64, "--num-train-epochs", 1, "--per-device-train-batch-size", 4, *SHORT]
    built = ["--backbone", "agssp/tiny", "--detector", "yolov8n", "--output", tmp_path / "detector"]
    hub.agssp("pretrain-detector", "--dataset", "agssp/corpus", *built, "--push-to-hub", "agssp/tiny-yolov8n", *once)
    mine = ["--test", "me/defects", "--output", tmp_path / "mine", "--push-to-hub", "me/my-detector"]
    hub.agssp("finetune", "agssp/tiny-yolov8n", "--dataset", "me/defects", *mine, *once)

    pulled = hub.run(PULL, root / "images/plate/01.png", cache=tmp_path / "empty", token=None).value
    assert pulled == {
        "architecture": "test_resnet",
        "rows": 12,
        "columns": ["anomaly_map", "anomaly_score", "category", "image", "image_id", "is_normal", "map_max", "objects"],
        "map": pulled["map"],
        "classes": ["pit", "scratch"],
        "boxes": pulled["boxes"],
    }
    assert abs(pulled["map"] - 0.9) < 1e-3
    assert pulled["boxes"] > 0
    hub.run(TIMM, "hf-hub:agssp/tiny", tmp_path / "timm.npz", without=("agssp",), cache=tmp_path / "empty too")
    assert (tmp_path / "timm.npz").is_file()
    card = ModelCard(hub.files("me/my-detector")["README.md"].decode())
    assert card.data.base_model == ["agssp/tiny-yolov8n"]
    assert {result.metric_type for result in card.data.eval_results} >= {"map_50", "map_50_95"}
    assert {result.dataset_type for result in card.data.eval_results} == {"me/defects"}
    published = [*hub.files("agssp/tiny").values(), *hub.files("agssp/tiny-yolov8n").values()]
    assert not any(str(tmp_path).encode() in content for content in published)
    record = json.loads(hub.files("agssp/tiny")["run.json"])
    assert record["dataset"]["hub_id"] == "agssp/corpus"
    # What the corpus's repository tells of its maps, boxes and images goes on into the records of all models.
    teacher = json.loads((root / "maps/manifest.json").read_text())
    assert record["teacher"]["teacher"] == teacher["teacher"]
    assert record["teacher"]["licence"] == teacher["licence"]
    assert record["dataset"]["licence"] == "cc-by-4.0"
    assert (record["epochs"], record["steps"]) == (None, 4)
    assert ModelCard(hub.files("agssp/tiny")["README.md"].decode()).data.license == "apache-2.0"
    pretrained = hub.files("agssp/tiny-yolov8n")["README.md"].decode()
    assert "boxes cut from anomaly maps, without any label," in pretrained
    assert teacher["teacher"] in pretrained
