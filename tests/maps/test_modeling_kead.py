"""KeAD as a whole on a small CLIP: scores, references, dtypes, batches."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kead_cases import KNOWLEDGE, picture, pixels, small_kead, small_teacher
from PIL import Image

from agssp.data.images import decode_image
from agssp.errors import InputError
from agssp.maps.modeling_kead import KeAD
from agssp.maps.prompts import TEMPLATES


def with_references(kead, mode="normal", count=3):
    for name, start in (("plate", 100), ("strip", 200)):
        pictures = [picture(start + index) for index in range(count)]
        kead.set_references({name: pictures}, {name: [f"{name}{index}" for index in range(count)]}, mode=mode)
    return kead


def test_pictures_without_pixels_are_an_error():
    with pytest.raises(InputError, match="no pixels"):
        small_kead().preprocess(Image.new("RGB", (0, 3)))


def other_kinds():
    """Pictures of other kinds, each with the plain RGB picture that a viewer shows."""
    sixteen = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    yield Image.fromarray(sixteen), Image.fromarray(np.rint(sixteen / 257).astype(np.uint8)).convert("RGB")
    rgb = picture(3)
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    rgb.save(turned, "PNG", exif=exif)
    yield Image.open(turned), rgb.transpose(Image.Transpose.ROTATE_270)
    palette = picture(4).quantize(16)
    yield palette, palette.convert("RGB")
    grey = picture(5).convert("L")
    yield grey, Image.merge("RGB", [grey] * 3)


@pytest.mark.parametrize("kind", range(4))
def test_pictures_of_any_kind_are_seen_as_a_viewer_shows_them(kind):
    kead = small_kead()
    image, shown = list(other_kinds())[kind]
    small = np.asarray(shown.resize((32, 32), Image.Resampling.BICUBIC), np.float32).transpose(2, 0, 1) / 255
    mean, std = (
        np.array(value, np.float32)[:, None, None] for value in (kead.teacher.image_mean, kead.teacher.image_std)
    )
    np.testing.assert_allclose(kead.preprocess(image).numpy(), (small - mean) / std, atol=1e-5)
    assert torch.equal(kead.preprocess(decode_image(image)), kead.preprocess(image))


def test_zero_shots_give_text_probabilities():
    kead = small_kead()
    kead.set_references({"plate": []})
    inputs = pixels(kead, [1, 2])
    output = kead(inputs, ["plate", "strip"])
    assert output.anomaly_maps.shape == (2, 4, 4)
    assert output.anomaly_maps.dtype == output.scores.dtype == torch.float32
    tokens, embedding = kead.teacher(inputs)
    for index, name in enumerate(["plate", "strip"]):
        normal, anomalous = kead.text_features(name)
        sides = [embedding[index] @ side / 0.07 for side in (normal, anomalous)]
        torch.testing.assert_close(output.scores[index], torch.stack(sides).softmax(0)[1])
        patches = torch.stack([tokens[:, index] @ normal, tokens[:, index] @ anomalous]) / 0.07
        torch.testing.assert_close(output.anomaly_maps[index].flatten(), patches.softmax(0)[1].mean(0))


def test_references_add_their_distance():
    kead = small_kead()
    inputs = pixels(kead, [1, 2])
    names = ["plate", "strip"]
    zero = kead(inputs, names)
    few = with_references(kead)(inputs, names)
    distance = few.anomaly_maps - zero.anomaly_maps
    assert distance.min() >= 0
    torch.testing.assert_close(few.scores, zero.scores + distance.flatten(1).amax(1))
    kead.image_score = "mean_fused"
    torch.testing.assert_close(kead(inputs, names).scores, (zero.scores + few.anomaly_maps.flatten(1).amax(1)) / 2)
    kead.banks.clear()
    assert torch.equal(kead(inputs, names).scores, zero.scores)


@pytest.mark.slow
def test_text_features_are_the_means_of_the_prompts():
    kead = small_kead(subtract_empty_prompt=False)
    states = [
        "steel plate",
        "flawless steel plate",
        "perfect steel plate",
        "unblemished steel plate",
        "even steel plate",
    ]
    model, tokenizer = kead.teacher.model, kead.teacher.tokenizer
    with torch.inference_mode():
        prompts = [template.format(state) for state in states for template in TEMPLATES]
        normal = F.normalize(F.normalize(model.encode_text(tokenizer(prompts)), dim=-1).mean(0), dim=-1)
    torch.testing.assert_close(kead.text_features("plate")[0], normal)
    assert not torch.allclose(small_kead().text_features("plate")[0], normal, atol=1e-2)


@pytest.mark.parametrize("mode", ["normal", "mutual"])
def test_an_image_is_the_same_alone_and_in_a_batch(mode):
    kead = with_references(small_kead(), mode)
    inputs = pixels(kead, range(5))
    names = ["plate", "strip", "plate", "plate", "strip"]
    together = kead(inputs, names)
    for index in range(5):
        alone = kead(inputs[index : index + 1], names[index : index + 1])
        torch.testing.assert_close(alone.anomaly_maps[0], together.anomaly_maps[index], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.scores[0], together.scores[index], atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["normal", "mutual"])
@pytest.mark.slow
def test_bfloat16_is_close_to_float32(mode):
    full, half = (with_references(small_kead(dtype=dtype), mode) for dtype in (torch.float32, torch.bfloat16))
    inputs, names = pixels(full, range(4)), ["plate", "strip"] * 2
    difference = (full(inputs, names).anomaly_maps - half(inputs, names).anomaly_maps).abs().max()
    assert difference <= 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.slow
def test_references_come_back_bit_equal(tmp_path, dtype):
    kead = with_references(small_kead(dtype=dtype), "mutual")
    inputs, names = pixels(kead, [1, 2]), ["plate", "strip"]
    expected = kead(inputs, names, ["x", "strip1"])
    kead.save_references(tmp_path / "references.safetensors")
    other = small_kead(dtype=dtype)
    other.load_references(tmp_path / "references.safetensors")
    assert {name: (bank.mode, bank.image_ids) for name, bank in other.banks.items()} == {
        name: (bank.mode, bank.image_ids) for name, bank in kead.banks.items()
    }
    for name in names:
        assert torch.equal(other.banks[name].tokens, kead.banks[name].tokens)
        assert all(map(torch.equal, other._text[name], kead._text[name]))
    result = other(inputs, names, ["x", "strip1"])
    assert torch.equal(result.anomaly_maps, expected.anomaly_maps)
    assert torch.equal(result.scores, expected.scores)


def test_description_tells_teachers_apart():
    kead = small_kead()
    assert kead.describe() == small_kead().describe()
    assert kead.describe()["layers"] == [2, 4, 6, 8]
    assert kead.describe()["surgery_from"] == 3
    other = KeAD(small_teacher(layers=(8,)), KNOWLEDGE, image_score="mean_fused")
    assert other.describe() != kead.describe()


@pytest.mark.slow
def test_wrong_use_is_an_error():
    kead = small_kead()
    with pytest.raises(InputError, match="did you mean plate"):
        kead(pixels(kead, [1]), ["plates"])
    with pytest.raises(InputError, match="expected one of normal, mutual"):
        kead.set_references({"plate": [picture(1)]}, mode="other")
    with pytest.raises(InputError, match="shots: expected at least 1, got 0"):
        kead.set_references({"plate": [picture(1)]}, shots=0)
    with pytest.raises(InputError, match="1 references but 2 ids"):
        kead.set_references({"plate": [picture(1)]}, {"plate": ["a", "b"]})
    with pytest.raises(InputError, match="needs knowledge"):
        KeAD(small_teacher())
    with pytest.raises(InputError, match="expected one of sum, mean_fused"):
        small_kead(image_score="max")
    with pytest.raises(InputError, match="has blocks 1 to 8"):
        small_teacher(layers=(9,))
    with pytest.raises(InputError, match="has blocks 1 to 8"):
        small_teacher(surgery_from=0)
