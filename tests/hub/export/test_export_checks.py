"""Checks of exports by the programs they are for can fail: other weights are found out, and nothing is left."""

import pytest
import torch
from export_cases import detector

from agssp import AgsspBackbone
from agssp.errors import InputError
from agssp.hub.export.check_images import drawn_images
from agssp.hub.export.timm import write_timm
from agssp.hub.export.ultralytics import export_ultralytics
from agssp.hub.export.ultralytics_check import check_ultralytics


@pytest.mark.parametrize(
    ("variant", "bias", "wrong"),
    [("yolov8n", "head.cv2.0.2.bias", 1.0), ("yolo26n", "head.one2one_cv3.0.2.bias", float("nan"))],
)
@pytest.mark.slow
def test_ultralytics(variant, bias, wrong, tmp_path):
    model, file, images = detector(variant), tmp_path / "x.pt", drawn_images(64)
    export_ultralytics(model, file)
    found = check_ultralytics(model, file, images)
    assert (found["images"], found["boxes"]) == (3, 252)
    assert found["pixels"] < 1e-3
    assert found["logit"] < 1e-4
    # One number of one branch is enough.
    with torch.no_grad():
        model.get_parameter(bias)[0] += wrong
    with pytest.raises(InputError, match=r"does not compute what the detector computes.*Nothing was written"):
        check_ultralytics(model, file, images)


def test_timm(tmp_path, monkeypatch):
    backbone = AgsspBackbone.from_architecture("test_resnet")
    assert write_timm(backbone, tmp_path / "same")["difference"] <= 1e-6
    save = backbone.save_pretrained

    def save_another(folder):
        save(folder)
        with torch.no_grad():
            backbone.network.conv1[0].weight *= 1.001

    monkeypatch.setattr(backbone, "save_pretrained", save_another)
    with pytest.raises(InputError, match=r"computes other features from the weights.*nothing was written"):
        write_timm(backbone, tmp_path / "other")
