"""SimMIM: what is hidden stays hidden, the loss equals loops, and networks that cannot hide are refused."""

import numpy as np
import pytest
import timm
import torch

from agssp.errors import InputError
from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining
from agssp.models.pretraining.simmim import decoder, enlarged, hidden_patches, hide, reconstruction_loss, token_channels

# One for each way in which timm's networks return their patches: channels last, channels first, a row, a row and its
# grid. Shrunk, so that they are built and run at once.
SMALL = {
    "swin_tiny_patch4_window7_224": {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
    "swinv2_cr_tiny_ns_224": {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)},
    "pvt_v2_b0": {},
    "hiera_tiny_224": {"embed_dim": 16, "stages": (1, 1, 1, 1)},
    "mvitv2_tiny": {},
    "test_vit": {"dynamic_img_size": True},
}
FIXED = {"swinv2_cr_tiny_ns_224": 224, "hiera_tiny_224": 224}


def random_masks(count: int, cells: int, hidden: float = 0.5) -> torch.Tensor:
    return torch.rand(count, cells, cells, generator=torch.Generator().manual_seed(0)) < hidden


def build(architecture: str = "pvt_v2_b0", **config) -> AgsspForPreTraining:
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture(architecture, frozen_stages=1)
    return AgsspForPreTraining.from_backbone(backbone, objective="simmim", **config)


def batch(size: int = 96) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "pixel_values": torch.randn(2, 3, size, size, generator=generator),
        "anomaly_maps": torch.rand(2, 8, 8, generator=generator),
        "masks": random_masks(2, size // 32),
    }


def test_nothing_hidden_costs_nothing():
    images = torch.randn(2, 3, 64, 64)
    nothing = torch.zeros(2, 2, 2, dtype=torch.bool)
    assert reconstruction_loss(torch.zeros_like(images), images, nothing) == 0
    assert torch.equal(hide(images, nothing), images)


def test_enlarging_equals_kron_and_refuses_parts_of_a_cell():
    masks = random_masks(3, 4)
    expected = np.stack([np.kron(mask, np.ones((3, 2), bool)) for mask in masks.numpy()])
    assert np.array_equal(enlarged(masks, (12, 8)).numpy(), expected)
    with pytest.raises(InputError, match="do not divide"):
        enlarged(masks, (10, 8))


def test_loss_equals_a_loop_over_hidden_pixels():
    generator = torch.Generator().manual_seed(1)
    images, guessed = torch.randn(2, 2, 3, 8, 8, generator=generator)
    masks = random_masks(2, 4)
    differences = [
        abs(float(images[b, c, y, x] - guessed[b, c, y, x]))
        for b in range(2) for c in range(3) for y in range(8) for x in range(8) if masks[b, y // 2, x // 2]
    ]  # fmt: skip
    assert reconstruction_loss(guessed, images, masks).item() == pytest.approx(sum(differences) / len(differences))


def test_only_hidden_pixels_get_a_gradient():
    guessed = torch.randn(2, 3, 8, 8, requires_grad=True)
    masks = random_masks(2, 4)
    reconstruction_loss(guessed, torch.randn(2, 3, 8, 8), masks).backward()
    hidden = enlarged(masks, (8, 8)).unsqueeze(1).expand_as(guessed)
    assert torch.equal(guessed.grad != 0, hidden)


def test_image_that_the_network_does_not_divide_is_named():
    model = build().train()
    with pytest.raises(InputError, match="multiple of the network's coarsest stride"):
        model(torch.randn(1, 3, 80, 80), torch.rand(1, 8, 8), masks=random_masks(1, 5))


def test_decoder_puts_the_pixels_of_a_position_where_it_lies():
    layer = decoder(5, 4)
    features = torch.zeros(1, 5, 3, 3)
    before = layer(features)
    features[0, :, 1, 2] = 1.0
    changed = (layer(features) != before).any(dim=1)[0]
    assert changed[4:8, 8:12].all()
    assert changed.sum() == 16


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.slow
def test_hidden_pixels_cannot_be_seen_and_shown_ones_can(architecture):
    torch.manual_seed(0)
    network = timm.create_model(architecture, num_classes=0, **SMALL[architecture]).eval()
    size = FIXED.get(architecture, 64 if architecture == "test_vit" else 224)
    token = torch.randn(token_channels(architecture, SMALL[architecture]))
    images = torch.randn(1, 3, size, size)
    masks = random_masks(1, size // 32)
    pixels = enlarged(masks, (size, size)).unsqueeze(1)

    @torch.no_grad()
    def last(images, hidden):
        with hidden_patches(network, token, hidden):
            features = network.forward_intermediates(hide(images, hidden), intermediates_only=True, output_fmt="NCHW")
        return features[-1]

    shown = last(images, masks)
    assert torch.equal(last(torch.where(pixels, torch.randn_like(images), images), masks), shown)
    assert not torch.allclose(last(torch.where(pixels, images, torch.randn_like(images)), masks), shown)
    with torch.no_grad():
        plain = network.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")[-1]
    assert torch.equal(last(images, torch.zeros_like(masks)), plain)


def test_hook_is_gone_after_an_error():
    network = timm.create_model("test_vit", num_classes=0)
    with (
        pytest.raises(RuntimeError, match="in the block"),
        hidden_patches(network, torch.zeros(64), random_masks(1, 2)),
    ):
        raise RuntimeError("in the block")
    assert not network.patch_embed._forward_hooks


@pytest.mark.parametrize("architecture", ["yolov8n", "test_resnet", "test_convnext", "fasternet_t0"])
def test_convolutional_networks_are_refused_with_the_reason(architecture):
    with pytest.raises(InputError, match=f"{architecture} is no transformer that embeds patches"):
        build(architecture)


@pytest.mark.slow
def test_whole_images_are_distilled_unless_asked_otherwise():
    inputs = batch()
    for masked, forwards in ((False, 2), (True, 1)):
        model = build(distill_masked=masked).train()
        seen = []
        model.backbone.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        output = model(**inputs)
        assert len(seen) == forwards
        assert output.loss_dict.keys() == {"task", "distillation", "distillation_weight"}
        assert torch.equal(seen[-1], inputs["pixel_values"]) != masked
        output.loss.backward()
        missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert missing == []
        assert model.mask_token.grad.abs().sum() > 0


def test_without_distillation_one_forward_is_enough():
    model, seen = build(distillation=False).train(), []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args))
    model(**{name: value for name, value in batch().items() if name != "anomaly_maps"})
    assert len(seen) == 1


def test_evaluation_aligns_the_whole_image_and_still_measures_the_task():
    model, inputs = build(distill_masked=True).eval(), batch()
    with torch.no_grad():
        output = model(**inputs)
        whole = model(inputs["pixel_values"], inputs["anomaly_maps"])
    torch.testing.assert_close(output.alignment, whole.alignment)
    assert output.reconstruction.shape == inputs["pixel_values"].shape
    assert output.loss_dict["task"] > 0
    assert whole.reconstruction is None


def test_training_needs_masks():
    inputs = batch()
    inputs.pop("masks")
    with pytest.raises(InputError, match="masks"):
        build().train()(**inputs)


def test_masked_distillation_without_masks_to_hide_is_refused():
    with pytest.raises(InputError, match="distill_masked belongs"):
        AgsspForPreTraining.from_backbone(
            AgsspBackbone.from_architecture("test_vit"), objective="none", distill_masked=True
        )


@pytest.mark.slow
def test_weights_survive_saving(tmp_path):
    model, inputs = build().eval(), batch()
    model.save_pretrained(tmp_path)
    loaded = AgsspForPreTraining.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).reconstruction, model(**inputs).reconstruction)


@pytest.mark.slow
def test_training_learns_to_fill_in():
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture("pvt_v2_b0")
    model = AgsspForPreTraining.from_backbone(backbone, objective="simmim", distillation=False).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    images = torch.linspace(-1, 1, 64).expand(2, 3, 64, 64)
    masks = torch.tensor([[[True, False], [False, True]], [[False, True], [True, False]]])
    losses = []
    for _ in range(25):
        loss = model(images, masks=masks).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
