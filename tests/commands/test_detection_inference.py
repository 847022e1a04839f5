"""The inference loop keeps order, names what it cannot read, and does not depend on the batch."""

import numpy as np
import pytest
import torch
from detector_cases import detector, save_detector
from PIL import Image
from safetensors.torch import save_file

from agssp.errors import InputError
from agssp.evaluation.inference import choose_device, detect, load_detector
from agssp.models.detection import YoloConfig, YoloForObjectDetection


def rows(count=5):
    generator = np.random.default_rng(0)
    return [
        {"image_id": f"{i}", "image": Image.fromarray(generator.integers(0, 255, (40 + 9 * i, 70, 3), dtype=np.uint8))}
        for i in range(count)
    ]


def test_no_rows_give_nothing():
    assert list(detect(detector(), [], threshold=0.1)) == []


def test_boxes_are_those_of_the_model_itself():
    model = detector()
    found = list(detect(model, rows(), threshold=0.1, batch_size=3, keep_images=True))
    assert [result.image_id for result in found] == ["0", "1", "2", "3", "4"]
    for row, result in zip(rows(), found, strict=True):
        with torch.inference_mode():
            inputs = model.image_processor()(row["image"], return_tensors="pt")
            outputs = model(**inputs)
        expected = model.post_process_object_detection(outputs, 0.1, target_sizes=[row["image"].size[::-1]])[0]
        assert result.size == row["image"].size[::-1]
        assert len(result.boxes) > 0
        np.testing.assert_allclose(result.boxes, expected["boxes"], atol=1e-3)
        np.testing.assert_allclose(result.scores, expected["scores"], atol=1e-5)
        np.testing.assert_array_equal(result.labels, expected["labels"])
        np.testing.assert_array_equal(result.image, np.asarray(row["image"]))


def test_an_image_is_found_alike_whoever_comes_with_it():
    together = list(detect(detector(), rows(5), threshold=0.05, batch_size=4))
    alone = [next(detect(detector(), [row], threshold=0.05, batch_size=4)) for row in rows(5)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_unreadable_images_are_named_in_their_place():
    some = rows(3)
    some[1]["image"] = {"bytes": b"no image", "path": None}
    found = list(detect(detector(), some, threshold=0.1, batch_size=2))
    assert [result.error is None for result in found] == [True, False, True]
    assert "1" in found[1].error
    assert found[1].boxes.shape == (0, 4)


def test_rows_are_read_a_little_ahead_only():
    taken = []

    def endless():
        for row in (row for _ in range(1000) for row in rows(1)):
            taken.append(1)
            yield row

    stream = detect(detector(), endless(), threshold=0.1, batch_size=2)
    next(stream)
    assert len(taken) <= 6


def test_sizes_that_the_network_cannot_take_are_refused():
    with pytest.raises(InputError, match="--image-size 100"):
        next(detect(detector(), rows(1), threshold=0.1, image_size=100))


@pytest.mark.slow
def test_detectors_open_from_folders_and_ultralytics_files(tmp_path):
    model = load_detector(save_detector(tmp_path / "model"))
    assert not model.training
    save_file(detector().to_ultralytics(), tmp_path / "model.safetensors")
    other = load_detector(tmp_path / "model.safetensors", ["bright", "black"])
    assert other.config.id2label == {0: "bright", 1: "black"}
    pixel_values = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model(pixel_values).logits, other(pixel_values).logits)


def test_detectors_saved_in_half_precision_are_loaded_in_float32(tmp_path):
    torch.manual_seed(0)
    half = YoloForObjectDetection(YoloConfig(image_size=64)).to(torch.bfloat16)
    half.save_pretrained(tmp_path / "model")
    model = load_detector(tmp_path / "model")
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {torch.float32}
    assert torch.equal(model.head.cv2[0][-1].weight, half.head.cv2[0][-1].weight.float())
    assert len(list(detect(model, rows(2), threshold=0.1))) == 2


def test_what_is_no_detector_is_said(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    with pytest.raises(InputError, match=r"no config.json.*a\.png"):
        load_detector(tmp_path / "photos")
    with pytest.raises(InputError, match="no such folder"):
        load_detector(tmp_path / "nowhere")
    detector().backbone.save_pretrained(tmp_path / "backbone")
    with pytest.raises(InputError, match="expected a detector"):
        load_detector(tmp_path / "backbone")


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="--device toaster"):
        choose_device("toaster")
