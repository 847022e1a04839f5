"""`agssp finetune OWNER/NAME --dataset OWNER/NAME --push-to-hub OWNER/NAME`: from the Hub and back, with results."""

import json

import pytest
from huggingface_hub import ModelCard
from model_cases import backbone_folder, make_images
from test_push import run_all
from test_streaming import publish_corpus

from agssp.errors import InputError
from agssp.training.arguments import AgsspTrainingArguments

SHORT = ["--image-size", 64, "--num-train-epochs", 1, "--per-device-train-batch-size", 4, "--use-cpu", "True",
         "--dataloader-num-workers", 0, "--disable-tqdm", "True"]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({}, None),
        ({"push_to_hub": "me/x"}, "me/x"),
        ({"push_to_hub": "True", "hub_model_id": "me/x"}, "me/x"),
        ({"push_to_hub": "False", "hub_model_id": "me/x"}, None),
    ],
)
def test_the_flag_names_the_repository_and_trainer_pushes_nothing_itself(flags, name):
    training = AgsspTrainingArguments(use_cpu=True, **flags)
    assert training.publish_to == name
    assert not training.push_to_hub


@pytest.mark.parametrize("flags", [{"push_to_hub": "x"}, {"push_to_hub": "True"}])
def test_a_flag_without_owner_and_name_is_refused(flags):
    with pytest.raises(InputError, match="expected OWNER/NAME"):
        AgsspTrainingArguments(use_cpu=True, **flags)


@pytest.mark.slow
def test_a_finetuned_detector_goes_up_with_its_results(hub, tmp_path):
    backbone_folder(tmp_path / "backbone", "yolov8n")
    make_images(tmp_path / "images", 8)
    hub.agssp("push", tmp_path / "backbone", "agssp/backbone", timeout=600)
    hub.publish("agssp/taken", {"config.json": json.dumps({"model_type": "bert"})})
    publish_corpus(hub, tmp_path, rows=2, shards=1, repository="me/unlabelled")
    words = ["finetune", "agssp/backbone", "--dataset", tmp_path / "images", "--test", tmp_path / "images", *SHORT]
    words += ["--output", tmp_path / "mine"]
    unlabelled = ["--dataset", "me/unlabelled"]
    taken, may_not, none_to_learn, pushed, again, none_to_measure = run_all(
        hub,
        [*words, "--push-to-hub", "agssp/taken"],
        [*words, "--push-to-hub", "me/my-detector"],
        ["finetune", "agssp/backbone", *unlabelled, *SHORT, "--output", tmp_path / "none"],
        [*words, "--push-to-hub", "me/my-detector"],
        [*words, "--push-to-hub", "me/again"],
        ["evaluate", tmp_path / "mine", *unlabelled],
        tokens=[None, hub.tokens["read"], *[hub.tokens["write"]] * 4],
    )
    # What cannot be published is told before the training, not after it.
    assert (taken[0], "holds another model already" in taken[1], "learning rate" in taken[1]) == (2, True, False)
    assert (may_not[0], "right to write to me" in may_not[1], "learning rate" in may_not[1]) == (2, True, False)
    for status, said in (none_to_learn, none_to_measure):
        assert (status, "me/unlabelled: " in said, "no label was found" in said) == (2, True, True)
    assert pushed[0] == 0, pushed[1]
    files = hub.files("me/my-detector")
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "run.json"} <= set(files)
    assert not [name for name in files if "checkpoint" in name or name.endswith((".bin", ".pt", ".pth"))]
    assert len(hub.history("me/my-detector")) == 1
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == ["agssp/backbone"]
    assert {result.metric_type for result in card.data.eval_results} >= {"map_50", "map_50_95"}
    assert "lambda 4.25" in card.text, "what the Hub records of the backbone goes with it"
    assert str(tmp_path).encode() not in b"".join(files.values())
    # A finished training is published, not trained again.
    assert again[0] == 0
    assert "finished already" in again[1]
    assert hub.files("me/again")["model.safetensors"] == files["model.safetensors"]
