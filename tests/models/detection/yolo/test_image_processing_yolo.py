"""Letterboxed input equal to ultralytics', and transformers' pipeline on a saved folder."""

import json

import numpy as np
import pytest
import torch
from contract_cases import NAMES
from PIL import Image
from transformers import AutoImageProcessor, pipeline
from yolo_cases import build

from agssp.data.letterbox import letterbox
from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection.yolo import YoloImageProcessor
from agssp.models.ultralytics import import_ultralytics


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (61, 40), (40, 61), (1, 300), (200, 199), (333, 127)])
@pytest.mark.parametrize("input_size", [(64, 64), (64, 96)])
def test_letterbox_equals_ultralytics(size, input_size):
    import_ultralytics()
    from ultralytics.data.augment import LetterBox

    image = noise(*size)
    assert np.array_equal(letterbox(image, input_size), LetterBox(new_shape=input_size)(image=image))


def test_arrays_tensors_and_pictures_give_the_same():
    image = noise(30, 50)
    processor = YoloImageProcessor(64, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    expected = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    assert expected.shape == (1, 3, 64, 64)
    assert expected.dtype == torch.float32
    for same in (image, image.transpose(2, 0, 1), torch.from_numpy(image)):
        assert torch.equal(processor(same, return_tensors="pt")["pixel_values"], expected)
    both = processor([Image.fromarray(image), Image.fromarray(noise(64, 20))], return_tensors="pt")["pixel_values"]
    assert torch.equal(both[:1], expected)
    plain = (letterbox(image, (64, 64)) / 255 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.3, 0.25])
    np.testing.assert_allclose(expected[0].numpy(), plain.transpose(2, 0, 1), rtol=0, atol=1e-6)
    assert plain[0, 0, 0] == pytest.approx((114 / 255 - 0.4) / 0.2)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_other_modes(mode):
    picture = Image.fromarray(noise(20, 20)).convert(mode)
    assert YoloImageProcessor(32)(picture, return_tensors="np")["pixel_values"].shape == (1, 3, 32, 32)


def test_arrays_that_are_not_rgb_bytes_are_refused():
    for wrong in (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4), np.uint8)):
        with pytest.raises(InputError, match="expected uint8"):
            YoloImageProcessor(32)(wrong)


def test_the_model_saves_its_processor(tmp_path):
    backbone = AgsspBackboneConfig(architecture="test_resnet")
    model = build(backbone_config=backbone)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["size"] == {"height": 64, "width": 64}
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, YoloImageProcessor)
    assert loaded.image_mean == list(backbone.image_mean)
    assert loaded.to_dict() == model.image_processor().to_dict()


def test_pipeline_gives_the_boxes_of_the_model(tmp_path, detector, caplog):
    detector.save_pretrained(tmp_path)
    picture = Image.fromarray(noise(90, 120))
    detect = pipeline("object-detection", model=str(tmp_path), image_processor=str(tmp_path), device="cpu")
    assert "not supported" not in caplog.text
    found = detect(picture, threshold=0.3)
    pixel_values = detector.image_processor()(picture, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        outputs = detector(pixel_values)
    (expected,) = detector.post_process_object_detection(outputs, threshold=0.3, target_sizes=[(90, 120)])
    assert len(found) == len(expected["scores"]) > 0
    assert [row["score"] for row in found] == expected["scores"].tolist()
    assert [row["label"] for row in found] == [NAMES[label] for label in expected["labels"].tolist()]
    assert [list(row["box"].values()) for row in found] == expected["boxes"].int().tolist()
