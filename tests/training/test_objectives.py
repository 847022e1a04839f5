"""MoCo v3 and SimMIM through `pretrain-backbone`: resumed exactly, stepped once an optimizer step, exported plain."""

import pytest
from chain_cases import backbone_arguments
from test_commands import assert_resumes_exactly, losses, run_facts

from agssp import AgsspBackbone
from agssp.commands import pretrain_backbone
from agssp.errors import InputError
from agssp.models.pretraining import AgsspForPreTraining

OBJECTIVES = {
    "mocov3": {"objective": "mocov3", "backbone": "test_resnet", "image_size": 64},
    "simmim": {"objective": "simmim", "backbone": "pvt_v2_b0", "image_size": 64},
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.slow
def test_interrupted_training_equals_uninterrupted(root, monkeypatch, objective):
    changes = OBJECTIVES[objective] | {"num_train_epochs": 3}
    assert_resumes_exactly(root, monkeypatch, changes)
    assert {"loss_task", "loss_distillation"} <= set(losses(root / "whole")[0])
    facts = run_facts(root / "whole")
    assert facts["objective"] == objective
    assert facts["lambda"] > 0
    # What is exported is the backbone alone, with the names that it always has.
    assert AgsspBackbone.from_pretrained(root / "whole").config.architecture == OBJECTIVES[objective]["backbone"]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.slow
def test_the_task_alone(root, objective):
    changes = OBJECTIVES[objective] | {"distillation": False, "maps": None, "num_train_epochs": 1}
    pretrain_backbone.main(*backbone_arguments(root, "task", **changes))
    assert "loss_distillation" not in losses(root / "task")[0]
    assert run_facts(root / "task")["lambda"] is None


@pytest.mark.slow
def test_slow_encoder_follows_once_an_optimizer_step(root, monkeypatch):
    progress = []
    original = AgsspForPreTraining.after_optimizer_step

    def step(self, share):
        progress.append(share)
        original(self, share)

    monkeypatch.setattr(AgsspForPreTraining, "after_optimizer_step", step)
    changes = OBJECTIVES["mocov3"] | {"gradient_accumulation_steps": 2, "num_train_epochs": 3, "val_fraction": 0}
    pretrain_backbone.main(*backbone_arguments(root, "accumulated", **changes))
    # 12 images, 3 a batch, 2 batches a step: 2 steps an epoch.
    assert progress == [pytest.approx(step / 6) for step in range(1, 7)]


def test_images_that_do_not_fill_a_batch_of_views_are_named(root):
    with pytest.raises(InputError, match="do not fill one batch of 64"):
        pretrain_backbone.main(*backbone_arguments(root, "out", **OBJECTIVES["mocov3"], per_device_train_batch_size=64))


@pytest.mark.slow
def test_last_image_alone_is_left_out_of_an_epoch_of_views(root):
    changes = OBJECTIVES["mocov3"] | {"per_device_train_batch_size": 11, "val_fraction": 0, "num_train_epochs": 1}
    pretrain_backbone.main(*backbone_arguments(root, "out", **changes))  # 12 images
    assert run_facts(root / "out")["results"]["final"] == "last"


@pytest.mark.slow
def test_one_pass_variant(root):
    changes = OBJECTIVES["simmim"] | {"distill_masked": True, "num_train_epochs": 1}
    pretrain_backbone.main(*backbone_arguments(root, "masked", **changes))
    assert run_facts(root / "masked")["arguments"]["distill_masked"]
    assert AgsspForPreTraining.from_pretrained(root / "masked/pretraining").config.distill_masked


def test_mask_unit_that_does_not_fit_is_named(root):
    with pytest.raises(InputError, match="mask unit 48 px does not divide the image size 64"):
        pretrain_backbone.main(*backbone_arguments(root, "out", **OBJECTIVES["simmim"], mask_unit=48))


def test_simmim_of_a_convolutional_network_is_refused_with_a_way_out(root):
    with pytest.raises(InputError, match=r"test_resnet is no transformer that embeds patches.*mocov3"):
        pretrain_backbone.main(*backbone_arguments(root, "out", objective="simmim"))
