import importlib
import json
import shlex

import pytest
import timm
import torch
from chain_cases import backbone_arguments, detector_arguments, finetune_arguments
from safetensors.torch import load_file
from transformers import TrainerCallback

from agssp import AgsspBackbone, AgsspForPreTraining, YoloForObjectDetection
from agssp.arguments import parse_arguments
from agssp.commands import finetune, pretrain_backbone, pretrain_detector
from agssp.commands.pretrain_backbone import BackboneTrainingArguments
from agssp.errors import InputError
from agssp.training.backbone_recipe import choose_backbone_optimizer
from agssp.training.trainer import AgsspTrainer, last_checkpoint


def run_facts(folder):
    return json.loads((folder / "run.json").read_text())


def losses(folder):
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in entry.items() if "loss" in key or "eval_" in key} for entry in entries
            if "train_runtime" not in entry]  # fmt: skip


class Interrupt(TrainerCallback):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt(f"at step {self.step}")


def interrupted(command, arguments, step, monkeypatch):
    original = AgsspTrainer.__init__

    def with_interrupt(self, **kwargs):
        original(self, **kwargs)
        self.add_callback(Interrupt(step))

    with monkeypatch.context() as patch:
        patch.setattr(AgsspTrainer, "__init__", with_interrupt)
        with pytest.raises(KeyboardInterrupt, match=f"^at step {step}$"):
            command.main(*arguments)


@pytest.mark.slow
def test_backbone_output_opens_in_agssp_and_timm(pretrained, capsys):
    folder = pretrained / "whole"
    facts = run_facts(folder)
    assert facts["lambda"] > 0
    assert facts["teacher"]["teacher"] == "timm:test"
    measured = {"alignment", "alignment_elsewhere", "accuracy", "task_loss", "distillation_loss", "feature_rank"}
    assert set(facts["results"]["starting_weights"]) == measured
    assert {"loss_task", "loss_distillation", "loss_distillation_weight"} <= set(losses(folder)[0])
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours = AgsspBackbone.from_pretrained(folder).eval()
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels).feature_maps[-1], theirs(pixels)[-1])
    assert AgsspForPreTraining.from_pretrained(folder / "pretraining").distillation_weight == facts["lambda"]
    capsys.readouterr()
    pretrain_backbone.main(*backbone_arguments(pretrained, "whole"))
    assert "finished already" in capsys.readouterr().out


@pytest.mark.slow
def test_best_by_alignment_is_kept_beside_the_last_average_which_is_final(root, monkeypatch):
    aligned = iter([0.1, 0.3, 0.2, 0.0])
    original = AgsspTrainer._keep_best
    monkeypatch.setattr(
        AgsspTrainer, "_keep_best", lambda self, model, _: original(self, model, {"alignment": next(aligned)})
    )
    pretrain_backbone.main(*backbone_arguments(root, "backbone", save_total_limit=4))
    results = run_facts(root / "backbone")["results"]
    assert results["final"] == "last"
    assert results["best"] == {"metric": "alignment", "value": 0.3, "epoch": 2.0}
    assert results["last"]["epoch"] == 4.0
    second, last = (load_file(root / "backbone" / f"checkpoint-{step}/ema.safetensors") for step in (6, 12))
    for folder, expected in (("backbone", last), ("backbone/best/backbone", second)):
        saved = AgsspBackbone.from_pretrained(root / folder)
        assert saved.config.frozen_stages == 0
        state = saved.state_dict()
        assert all(torch.equal(value, expected[f"backbone.{name}"]) for name, value in state.items())
    best = AgsspForPreTraining.from_pretrained(root / "backbone/best")
    assert torch.equal(best.classifier.weight, second["classifier.weight"])


def recipe(architecture, **changes):
    training = BackboneTrainingArguments(use_cpu=True, **changes)
    choose_backbone_optimizer(training, architecture)
    names = ("optimizer", "learning_rate", "nominal_batch", "weight_decay", "schedule", "warmup_epochs",
             "max_grad_norm")  # fmt: skip
    return {name: getattr(training, name) for name in names}


@pytest.mark.slow
def test_transformers_and_cnns_get_the_recipe_of_the_method():
    adamw = {"optimizer": "adamw", "learning_rate": 1e-4, "nominal_batch": 512, "weight_decay": 0.05,
             "schedule": "cosine", "warmup_epochs": 20.0, "max_grad_norm": 5.0}  # fmt: skip
    sgd = {"optimizer": "sgd", "learning_rate": 0.01, "nominal_batch": 512, "weight_decay": 1e-4,
           "schedule": "multistep", "warmup_epochs": 1.0, "max_grad_norm": 5.0}  # fmt: skip
    for name in ("swin_base_patch4_window7_224", "test_vit", "test_convnext"):
        assert recipe(name) == adamw
    assert recipe("resnet50") == sgd
    for name in ("yolov8n", "yolov8s"):
        assert recipe(name) == sgd | {"nominal_batch": 1024}
    assert BackboneTrainingArguments(use_cpu=True).momentum == 0.9
    # What belongs together is chosen together, and a short run warms up for the same share.
    assert recipe("resnet50", optimizer="adamw") == adamw
    assert recipe("test_vit", optimizer="sgd") == sgd
    assert recipe("test_vit", num_train_epochs=30)["warmup_epochs"] == 3
    chosen = {"schedule": "linear", "warmup_epochs": 0.0, "learning_rate": 0.5, "weight_decay": 0.0}
    # A rate of the user's own is meant for the user's own batch.
    assert recipe("test_vit", **chosen) == adamw | chosen | {"nominal_batch": 0}


@pytest.mark.slow
def test_transformer_is_pretrained_with_its_recipe_and_exported_without_drop_path(root):
    changes = {"backbone": "test_vit", "image_size": 64, "drop_path": 0.3, "num_train_epochs": 2}
    pretrain_backbone.main(*backbone_arguments(root, "backbone", **changes))
    facts = run_facts(root / "backbone")
    assert facts["drop_path"] == 0.3
    assert (facts["optimizer"]["optimizer"], facts["optimizer"]["schedule"]) == ("adamw", "cosine")
    trained = AgsspForPreTraining.from_pretrained(root / "backbone/pretraining")
    assert trained.config.backbone_config.model_args["drop_path_rate"] == 0.3
    for folder in ("backbone", "backbone/best/backbone"):
        assert "drop_path_rate" not in AgsspBackbone.from_pretrained(root / folder).config.model_args


def test_drop_path_of_a_network_without_it_is_refused(root):
    with pytest.raises(InputError, match="yolov8n has no stochastic depth"):
        pretrain_backbone.main(*backbone_arguments(root, "out", backbone="yolov8n", drop_path=0.1))


@pytest.mark.slow
def test_frozen_stages_keep_their_values_and_are_free_in_the_saved_backbone(root):
    start = AgsspBackbone.from_architecture("test_resnet")
    start.save_pretrained(root / "start")
    changes = {"start": str(root / "start"), "num_train_epochs": 1}
    pretrain_backbone.main(*backbone_arguments(root, "backbone", **changes))
    saved = AgsspBackbone.from_pretrained(root / "backbone").train()
    before, after = start.network.state_dict(), saved.network.state_dict()
    kept = {name.split(".")[0] for name in before if torch.equal(before[name], after[name])}
    assert {"conv1", "layer1", "layer2"} <= kept
    assert run_facts(root / "backbone")["frozen_stages"] == 2
    assert saved.config.frozen_stages == 0
    assert all(parameter.requires_grad for parameter in saved.parameters())


def assert_goes_on_exactly(root, cut, monkeypatch, changes):
    """A run that is interrupted in its third epoch ends as `whole`, which is not."""
    interrupted(pretrain_backbone, backbone_arguments(root, cut, **changes), 7, monkeypatch)
    assert last_checkpoint(root / cut).name == "checkpoint-6"
    pretrain_backbone.main(*backbone_arguments(root, cut, **changes))
    first, second = (load_file(root / name / "pretraining/model.safetensors") for name in ("whole", cut))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(root / cut) == losses(root / "whole")
    assert run_facts(root / cut)["lambda"] == run_facts(root / "whole")["lambda"]


def assert_resumes_exactly(root, monkeypatch, changes):
    """As above, and `whole` is trained first."""
    pretrain_backbone.main(*backbone_arguments(root, "whole", **changes))
    assert_goes_on_exactly(root, "cut", monkeypatch, changes)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.slow
def test_interrupted_backbone_training_equals_uninterrupted(pretrained, monkeypatch, workers):
    """Nor does the number of workers, of which the whole run has none, change anything."""
    assert_goes_on_exactly(pretrained, f"cut-{workers}", monkeypatch, {"dataloader_num_workers": workers})


@pytest.mark.slow
def test_checkpoint_that_was_cut_off_is_not_resumed_from(pretrained, monkeypatch):
    cut = pretrained / "cut-off"
    interrupted(pretrain_backbone, backbone_arguments(pretrained, "cut-off"), 7, monkeypatch)
    (cut / "checkpoint-6/complete.json").unlink()
    assert last_checkpoint(cut).name == "checkpoint-3"
    pretrain_backbone.main(*backbone_arguments(pretrained, "cut-off"))
    assert losses(cut) == losses(pretrained / "whole")


@pytest.mark.slow
def test_gradient_accumulation_and_bf16(root):
    pretrain_backbone.main(
        *backbone_arguments(root, "backbone", gradient_accumulation_steps=2, bf16=True, num_train_epochs=1)
    )
    assert run_facts(root / "backbone")["lambda"] > 0


@pytest.mark.slow
def test_task_alone_and_distillation_alone(root):
    pretrain_backbone.main(*backbone_arguments(root, "task", distillation=False, maps=None, num_train_epochs=1))
    pretrain_backbone.main(*backbone_arguments(root, "maps-only", objective="none", num_train_epochs=1))
    assert "loss_task" in losses(root / "task")[0]
    assert "loss_distillation" not in losses(root / "task")[0]
    assert run_facts(root / "maps-only")["lambda"] is None


def next_command(printed):
    """The command line that the last line names, parsed as a shell and the command would."""
    line = printed.strip().splitlines()[-1]
    assert line.startswith("next: agssp "), line
    _, name, *words = shlex.split(line.removeprefix("next: "))
    module = importlib.import_module(f"agssp.commands.{name.replace('-', '_')}")
    return name, parse_arguments(name, module.ARGUMENTS, words, positional=module.POSITIONAL)[0]


@pytest.mark.slow
def test_chain_from_backbone_to_finetuned_detector_names_each_next_command_as_a_shell_takes_it(root, capsys):
    (root / "images").rename(root / "my images")
    images, output = str(root / "my images"), str(root / "my backbone")
    pretrain_backbone.main(*backbone_arguments(root, output, dataset=images, backbone="yolov8n", num_train_epochs=1))
    name, following = next_command(capsys.readouterr().out)
    assert name == "pretrain-detector"
    assert (following.dataset, following.backbone) == (images, output)
    assert (following.detector, following.image_size, following.boxes) == ("yolov8n", 640, "BOXES")
    assert not following.freeze_backbone

    trained = str(root / "my detector")
    pretrain_detector.main(*detector_arguments(root, trained, start=None, backbone=output, dataset=images))
    name, following = next_command(capsys.readouterr().out)
    assert (name, following.model, following.image_size) == ("finetune", trained, 64)
    before = AgsspBackbone.from_pretrained(output).state_dict()
    detector = YoloForObjectDetection.from_pretrained(trained)
    assert detector.config.id2label == {0: "defect"}
    after = detector.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items()), "a frozen backbone changed"
    assert detector.config.backbone_config.frozen_stages == 0

    for folder in (root / "labelled/plate", root / "labelled/strip"):
        folder.unlink()
        folder.symlink_to(root / "my images" / folder.name)
    finetune.main(*finetune_arguments(root, "the end", model=trained, test=str(root / "labelled")))
    name, following = next_command(capsys.readouterr().out)
    assert (name, following.model) == ("evaluate", str(root / "the end"))
    final = YoloForObjectDetection.from_pretrained(root / "the end")
    assert list(final.config.id2label.values()) == ["pit", "scratch"]
    assert final.config.image_size == 64
    facts = run_facts(root / "the end")
    assert facts["dataset"]["images"] + facts["dataset"]["selection_images"] == 12
    assert set(facts["results"]["test"]) == {"map_50", "map_50_95"}
    assert facts["results"]["final"] == ("best" if (root / "the end/best/complete.json").is_file() else "last")
    assert "class" in (root / "the end/transfer.txt").read_text()


@pytest.mark.parametrize(
    ("architecture", "detector"), [("yolov8n", "yolov8n"), ("yolov8s", "yolov8s"), ("test_resnet", "yolov8s")]
)
def test_backbone_is_offered_to_a_detector_that_takes_it(root, architecture, detector):
    arguments, _ = backbone_arguments(root, "b", split="train", category="plate")
    line = pretrain_backbone.next_step(arguments, AgsspBackbone.from_architecture(architecture))
    _, following = next_command(line)
    assert (following.detector, following.split, following.category) == (detector, "train", "plate")


def test_backbone_of_other_strides_is_offered_to_no_detector(root):
    arguments, _ = backbone_arguments(root, "b")
    line = pretrain_backbone.next_step(arguments, AgsspBackbone.from_architecture("test_vit"))
    assert "strides [16, 16, 16]" in line
    assert "none of `--detector`" in line


@pytest.mark.slow
def test_interrupted_finetuning_equals_uninterrupted(root, monkeypatch):
    changes = {"num_train_epochs": 3, "closing_epochs": 1}
    finetune.main(*finetune_arguments(root, "whole", **changes))
    interrupted(finetune, finetune_arguments(root, "cut", **changes), 5, monkeypatch)
    finetune.main(*finetune_arguments(root, "cut", **changes))
    first, second = (load_file(root / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(root / "cut") == losses(root / "whole")


@pytest.mark.slow
def test_without_selection_the_last_average_is_final(root):
    finetune.main(*finetune_arguments(root, "final", val_fraction=0.0, num_train_epochs=1))
    assert run_facts(root / "final")["results"]["final"] == "last"
    assert not (root / "final/best").exists()
    pretrain_backbone.main(*backbone_arguments(root, "backbone", val_fraction=0.0, num_train_epochs=1))
    assert run_facts(root / "backbone")["results"]["best"] is None
    assert not (root / "backbone/best").exists()


def test_output_with_foreign_content_is_refused(root):
    (root / "mine").mkdir()
    (root / "mine/thesis.txt").write_text("mine")
    for command, arguments in ((finetune, finetune_arguments), (pretrain_backbone, backbone_arguments)):
        with pytest.raises(InputError, match=r"thesis\.txt"):
            command.main(*arguments(root, "mine"))


@pytest.mark.slow
def test_output_of_other_settings_is_refused(root):
    finetune.main(*finetune_arguments(root, "final", num_train_epochs=1))
    with pytest.raises(InputError, match="num_train_epochs"):
        finetune.main(*finetune_arguments(root, "final", num_train_epochs=2))


def test_maps_and_boxes_of_other_images_are_refused(root):
    other = root / "other/plates"
    other.mkdir(parents=True)
    (root / "images/plate/01.png").rename(other / "x.png")
    with pytest.raises(InputError, match="none of its 12 maps belongs to the 1 images"):
        pretrain_backbone.main(*backbone_arguments(root, "a", dataset=str(root / "other")))
    with pytest.raises(InputError, match="none of its 12 images is among the 1"):
        pretrain_detector.main(*detector_arguments(root, "b", dataset=str(root / "other")))


@pytest.mark.slow
def test_checkpoint_of_another_architecture_is_refused(root, pretrained):
    weights = pretrained / "whole/model.safetensors"
    with pytest.raises(InputError, match="does not hold the weights of yolov8n; choose the architecture"):
        pretrain_backbone.main(*backbone_arguments(root, "a", backbone="yolov8n", start=str(weights)))
    with pytest.raises(InputError, match=r"no tensor model\.0\.conv\.weight or roi_heads"):
        finetune.main(*finetune_arguments(root, "b", model=str(weights)))


@pytest.mark.parametrize(
    ("command", "arguments", "changes", "message"),
    [
        (finetune, finetune_arguments, {"model": "./gone"}, "no such folder"),
        (finetune, finetune_arguments, {"optimizer": "lion"}, "expected one of auto, sgd"),
        (pretrain_backbone, backbone_arguments, {"maps": None}, "needs anomaly maps"),
        (pretrain_backbone, backbone_arguments, {"streaming": True}, "--max-steps"),
        (pretrain_detector, detector_arguments, {"start": None}, "or both"),
    ],
)
def test_named_errors(root, command, arguments, changes, message):
    with pytest.raises(InputError, match=message):
        command.main(*arguments(root, "out", **changes))


def test_mistyped_folder_that_looks_like_a_hub_id_is_named(root, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="runs/gone: no such folder"):
        finetune.main(*finetune_arguments(root, "a", model="runs/gone"))
    with pytest.raises(InputError, match="runs/gone: no such folder"):
        pretrain_detector.main(*detector_arguments(root, "b", start="runs/gone"))


def with_labels(root, folder, change):
    """The images once more, with changed lines of metadata.jsonl."""
    other = root / folder
    other.mkdir()
    for name in ("plate", "strip"):
        (other / name).symlink_to(root / "images" / name)
    lines = [json.loads(line) for line in (root / "labelled/metadata.jsonl").read_text().splitlines()]
    (other / "metadata.jsonl").write_text("\n".join(json.dumps(change(line)) for line in lines))
    return str(other)


@pytest.mark.slow
def test_validation_and_test_images_may_lack_a_class(root):
    def scratches_alone(line):
        return line if line["objects"]["category"] == ["scratch"] else {**line, "objects": {"bbox": [], "category": []}}

    def one_unknown(line):
        return {**line, "objects": None} if line["file_name"] == "plate/01.png" else line

    other = with_labels(root, "scratches", lambda line: one_unknown(scratches_alone(line)))
    dataset = finetune.labelled(other, ["pit", "scratch"], "test")
    assert {label for row in dataset["objects"] for label in row["category"]} == {1}
    trained = with_labels(root, "trained", one_unknown)
    options = {"dataset": trained, "validation": other, "test": other, "num_train_epochs": 1}
    finetune.main(*finetune_arguments(root, "out", **options))
    facts = run_facts(root / "out")
    assert set(facts["results"]["test"]) == {"map_50", "map_50_95"}
    # Nobody has said that there are no defects on that one.
    assert (facts["dataset"]["images"], facts["dataset"]["images_without_labels"]) == (11, 1)
    assert facts["test_dataset"]["images"] == 11


@pytest.mark.slow
def test_crowd_regions_are_left_out_of_training_and_counted(root, capsys):
    def crowded(line):
        objects = dict(line["objects"])
        if line["file_name"] in ("strip/00.png", "plate/01.png"):  # nothing but a region
            objects["iscrowd"] = [1]
        elif line["file_name"] == "strip/02.png":  # a region beside the object
            objects = {name: 2 * value for name, value in objects.items()} | {"iscrowd": [0, 1]}
        return {**line, "objects": objects}

    dataset = with_labels(root, "crowds", crowded)
    finetune.main(*finetune_arguments(root, "out", dataset=dataset, test=dataset, num_train_epochs=1))
    facts = run_facts(root / "out")["dataset"]
    assert (facts["images"] + facts["selection_images"], facts["images_of_crowds_alone"], facts["crowds"]) == (10, 2, 3)
    assert run_facts(root / "out")["test_dataset"]["images"] == 12
    assert (
        "3 crowd regions (iscrowd 1) are left out of training: they are painted over in 1 images; 2 images have no "
        "other box and are left out"
    ) in capsys.readouterr().out

    def marked(line):
        return {**line, "objects": line["objects"] | {"iscrowd": [1]}}

    every = with_labels(root, "every", marked)
    with pytest.raises(InputError, match=r"all 12 boxes of its 12 images are crowd regions .*--crowds objects"):
        finetune.main(*finetune_arguments(root, "ignore", dataset=every, crowds="ignore"))
    with pytest.raises(InputError, match="--crowds 'no'"):
        finetune.main(*finetune_arguments(root, "no", dataset=every, crowds="no"))
    assert [row["iscrowd"] for row in finetune.labelled(every, ["pit", "scratch"], "test")["objects"]] == [[False]] * 12
    kept = finetune.labelled(every, ["pit", "scratch"], "test", "ignore")
    assert [row["iscrowd"] for row in kept["objects"]] == [[True]] * 12


def test_labels_with_crowd_regions_are_no_pseudo_boxes(root):
    def defect(line):
        mark = [int(line["file_name"] == "plate/01.png")]
        return {**line, "objects": {**line["objects"], "category": ["defect"], "iscrowd": mark}}

    dataset = with_labels(root, "defects", defect)
    with pytest.raises(InputError, match="brings no pseudo boxes along, but labels, for some are crowd regions"):
        pretrain_detector.main(*detector_arguments(root, "out", dataset=dataset, boxes=None))


@pytest.mark.parametrize("flag", ["validation", "test"])
def test_unknown_class_of_validation_and_test_images_is_named(root, flag):
    def with_crack(line):
        return {**line, "objects": {**line["objects"], "category": ["crack"]}}

    other = with_labels(root, "cracks", with_crack)
    with pytest.raises(InputError, match=rf"--{flag} .*cracks.*'crack'"):
        finetune.main(*finetune_arguments(root, "out", **{flag: other}))
    with pytest.raises(InputError, match=rf"--{flag} .*images: no label was found"):
        finetune.main(*finetune_arguments(root, "out", **{flag: str(root / "images")}))
