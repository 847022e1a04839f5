"""What a learning rate means: chosen or given, scaled with the global batch, and felt by the weights."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from chain_cases import detector_arguments, finetune_arguments
from test_commands import run_facts
from torch import nn
from torch.utils.data import Dataset

from agssp.commands import finetune, pretrain_detector
from agssp.commands.finetune import DetectorTrainingArguments
from agssp.data.training_sets import DetectionImages
from agssp.errors import InputError
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.detector_recipes import choose_detector_optimizer, loss_scale
from agssp.training.run import choose_optimizer, optimizer_facts, optimizer_line
from agssp.training.trainer import AgsspTrainer

RATES = {"sgd": 0.1, "adamw": 0.001}
DECAYS = {"sgd": 0.01, "adamw": 0.05}
NOMINAL = {"sgd": 32, "adamw": 0}


def arguments(**changes):
    return AgsspTrainingArguments(use_cpu=True, disable_tqdm=True, dataloader_num_workers=0, **changes)


def chosen(**changes):
    training = arguments(per_device_train_batch_size=8, **changes)
    choose_optimizer(training, kind="sgd", rates=RATES, decays=DECAYS, nominal_batches=NOMINAL)
    return training


@pytest.mark.parametrize(
    ("given", "rate", "nominal", "scaled"),
    [
        ({}, 0.1, 32, 0.025),
        ({"gradient_accumulation_steps": 8}, 0.1, 32, 0.2),
        ({"nominal_batch": 0}, 0.1, 0, 0.1),
        ({"nominal_batch": 4}, 0.1, 4, 0.2),
        ({"learning_rate": 0.3}, 0.3, 0, 0.3),
        ({"learning_rate": 0.3, "nominal_batch": 16}, 0.3, 16, 0.15),
        ({"optimizer": "adamw"}, 0.001, 0, 0.001),
        ({"optimizer": "adamw", "nominal_batch": 16}, 0.001, 16, 0.0005),
    ],
)
def test_a_rate_is_scaled_unless_it_is_given_alone(given, rate, nominal, scaled):
    training = chosen(**given)
    assert (training.learning_rate, training.nominal_batch) == (rate, nominal)
    assert training.scaled_learning_rate == pytest.approx(scaled)


def test_choosing_again_changes_nothing():
    training = chosen()
    before = optimizer_facts(training)
    choose_optimizer(training, kind="adamw", rates=RATES, decays=DECAYS, nominal_batches=NOMINAL)
    assert optimizer_facts(training) == before


def test_the_rate_is_told_as_given_and_as_scaled():
    training = chosen(gradient_accumulation_steps=2)
    assert optimizer_line(training) == (
        "sgd, learning rate 0.1 meant for 32: 0.05 for 16 images a step (8 a device x 1 x 2 accumulated)"
    )
    assert optimizer_line(chosen(learning_rate=0.3)).startswith("sgd, learning rate 0.3 as it is, 8 images a step")
    facts = optimizer_facts(training)
    assert (facts["learning_rate"], facts["nominal_batch"], facts["global_batch"]) == (0.1, 32, 16)
    assert facts["scaled_learning_rate"] == pytest.approx(0.05)


def test_a_negative_nominal_batch_is_refused():
    with pytest.raises(InputError, match="--nominal-batch -1: expected at least 0"):
        arguments(nominal_batch=-1)


@pytest.mark.parametrize(
    ("images", "changes", "steps", "epochs"),
    [
        (0, {}, 3, 3),
        (17, {}, 15, 3),
        (16, {"gradient_accumulation_steps": 3}, 6, 3),
        (17, {"num_train_epochs": 0.5}, 3, 1),
        (17, {"max_steps": 11}, 11, 3),
        (17, {"max_steps": 10, "num_train_epochs": 200}, 10, 2),
    ],
)
def test_steps_and_epochs_of_a_run(images, changes, steps, epochs):
    training = arguments(per_device_train_batch_size=4, **{"num_train_epochs": 3} | changes)
    assert (training.total_steps(images), training.epochs_begun(images)) == (steps, epochs)


class Rows(Dataset):
    def __len__(self):
        return 8

    def set_epoch(self, epoch):
        pass

    def __getitem__(self, index):
        return {"x": torch.arange(3.0) * index - 2, "y": torch.tensor(float(index % 3))}


class Line(nn.Module):
    """Squared error, averaged over the images as our models do it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.3, -0.2, 0.1]]))

    def forward(self, x, y):
        loss = ((x @ self.weight[0] - y) ** 2).mean()
        return SimpleNamespace(loss=loss, loss_dict={})


def one_step(tmp_path, **changes):
    """Weights after one step of the Trainer, with the loss scaled as for detectors."""
    # Nesterov's step asks for some momentum.
    still = {"optimizer": "sgd", "momentum": 1e-9, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0.0}
    training = arguments(output_dir=str(tmp_path), max_steps=1, max_grad_norm=1e9, ema_decay=0.0, **still | changes)
    choose_detector_optimizer(training, 8, 1)
    model, rows = Line(), Rows()
    start = copy.deepcopy(model.weight.detach())

    class Trainer(AgsspTrainer):
        def _get_train_sampler(self, *args):
            return torch.utils.data.SequentialSampler(rows)

    trainer = Trainer(model=model, args=training, train_dataset=rows, loss_scale=loss_scale(training))
    trainer.train()
    return start, model.weight.detach()


@pytest.mark.parametrize("nominal", [2, 4, 64])
@pytest.mark.parametrize(("batch", "accumulated"), [(2, 1), (4, 1), (2, 2), (8, 1)])
def test_sgd_of_a_detector_moves_by_the_rate_times_the_gradient_of_the_summed_loss(
    tmp_path, nominal, batch, accumulated
):
    start, moved = one_step(
        tmp_path,
        learning_rate=1e-4,
        nominal_batch=nominal,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulated,
    )
    weight = start.clone().requires_grad_()
    rows = [Rows()[index] for index in range(batch * accumulated)]
    sum((row["x"] @ weight[0] - row["y"]) ** 2 for row in rows).backward()
    torch.testing.assert_close(moved, start - 1e-4 * weight.grad)


def test_a_rate_without_nominal_batch_is_for_a_sum_over_ultralytics_64(tmp_path):
    start, moved = one_step(tmp_path, learning_rate=1e-4, per_device_train_batch_size=4)
    weight = start.clone().requires_grad_()
    (sum((row["x"] @ weight[0] - row["y"]) ** 2 for row in (Rows()[index] for index in range(4))) / 4).backward()
    torch.testing.assert_close(moved, start - 64e-4 * weight.grad)


def detector_choice(images=1000, classes=6, kind="agssp_yolo", **changes):
    given = {"per_device_train_batch_size": 10, "num_train_epochs": 100} | changes
    training = DetectorTrainingArguments(use_cpu=True, disable_tqdm=True, dataloader_num_workers=0, **given)
    choose_detector_optimizer(training, images, classes, kind)
    return training


@pytest.mark.parametrize("kind", ["agssp_dino", "rt_detr_v2", "d_fine"])
def test_the_family_of_detr_has_adamw_in_short_and_long_runs(kind):
    for images in (10, 1000):
        training = detector_choice(images, kind=kind)
        facts = (training.optimizer, training.scaled_learning_rate, training.weight_decay, training.max_grad_norm)
        assert facts == ("adamw", 1e-4, 1e-4, 0.1)
        assert loss_scale(training, kind) == 1
    with pytest.raises(InputError, match=r"--optimizer sgd: .* give --learning-rate"):
        detector_choice(kind=kind, optimizer="sgd")
    training = detector_choice(kind=kind, optimizer="sgd", learning_rate=0.01, max_grad_norm=5.0)
    assert (training.learning_rate, training.max_grad_norm, loss_scale(training, kind)) == (0.01, 5.0, 1)


def test_faster_rcnn_has_the_papers_sgd_in_long_runs_for_a_mean_loss():
    training = detector_choice(kind="agssp_faster_rcnn")
    assert (training.optimizer, training.learning_rate, training.nominal_batch) == ("sgd", 0.0025, 32)
    assert loss_scale(training, "agssp_faster_rcnn") == 1
    training = detector_choice(10, kind="agssp_faster_rcnn")
    assert (training.optimizer, training.scaled_learning_rate, training.max_grad_norm) == ("adamw", 1e-4, 10.0)


def test_sgd_is_for_long_runs_of_detectors():
    assert detector_choice(images=990).optimizer == "adamw"
    assert detector_choice(images=1000).optimizer == "sgd"
    assert detector_choice(gradient_accumulation_steps=2).optimizer == "adamw"
    assert detector_choice(max_steps=9_999).optimizer == "adamw"
    assert detector_choice(images=10, max_steps=10_000).optimizer == "sgd"


def test_adamw_of_detectors_has_one_rate_for_any_batch_and_sgd_ultralytics_nominal_batch():
    for batch in (8, 64):
        training = detector_choice(images=8, per_device_train_batch_size=batch)
        assert training.scaled_learning_rate == training.learning_rate == 0.001
        assert loss_scale(training) == 1
    training = detector_choice(optimizer="sgd", per_device_train_batch_size=16)
    assert (training.nominal_batch, loss_scale(training)) == (64, 64)
    assert training.scaled_learning_rate == pytest.approx(0.01 / 4)


@pytest.fixture
def closing(monkeypatch):
    """The epochs from which the training images of a run were asked for without mosaic."""
    seen = []
    original = DetectionImages.__init__

    def record(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if not self.evaluation:
            seen.append(self.first_closing_epoch)

    monkeypatch.setattr(DetectionImages, "__init__", record)
    return seen


@pytest.mark.parametrize(
    ("command", "words"), [(finetune, finetune_arguments), (pretrain_detector, detector_arguments)]
)
@pytest.mark.slow
def test_closing_epochs_are_the_last_also_where_steps_rule(root, closing, command, words):
    """12 images, a quarter held out, 4 a step: 3 steps an epoch, so that 5 steps are 2 epochs."""
    changes = {"max_steps": 5, "num_train_epochs": 100, "per_device_train_batch_size": 4, "closing_epochs": 1}
    command.main(*words(root, "run", **changes))
    assert closing == [1]
    lines = [json.loads(line) for line in (root / "run/log.jsonl").read_text().splitlines()]
    assert max(line["epoch"] for line in lines) == pytest.approx(5 / 3)


@pytest.mark.slow
def test_a_run_records_and_uses_the_scaled_rate(root, capsys):
    changes = {"optimizer": "sgd", "learning_rate": 1e-4, "nominal_batch": 16, "num_train_epochs": 1,
               "warmup_epochs": 0.0, "schedule": "constant"}  # fmt: skip
    finetune.main(*finetune_arguments(root, "run", **changes))
    assert "learning rate 0.0001 meant for 16: 2.5e-05 for 4 images a step" in capsys.readouterr().out
    facts = run_facts(root / "run")["optimizer"]
    assert (facts["optimizer"], facts["learning_rate"], facts["nominal_batch"]) == ("sgd", 1e-4, 16)
    assert facts["scaled_learning_rate"] == pytest.approx(2.5e-5)
    lines = [json.loads(line) for line in (root / "run/log.jsonl").read_text().splitlines()]
    used = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert used == pytest.approx([2.5e-5] * len(used))
    assert used
    with pytest.raises(InputError, match="nominal_batch: there 16, now 8"):
        finetune.main(*finetune_arguments(root, "run", **changes | {"nominal_batch": 8}))
