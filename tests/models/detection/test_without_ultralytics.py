"""Detectors that are not AGPL-3.0 build, train and predict where `ultralytics` cannot be imported at all."""

import subprocess

import pytest
from warm_python import python

PROGRAM = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ultralytics":
            raise ImportError(f"{name} is hidden")

sys.meta_path.insert(0, Hidden())

import torch
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection import DinoConfig, DinoForObjectDetection, FasterRcnnConfig, FasterRcnnForObjectDetection
from agssp.models.detection.detr import KINDS, build_detr

def backbone():
    return AgsspBackboneConfig(architecture="test_resnet")

few = {"num_queries": 20, "decoder_layers": 2}
narrow = dict.fromkeys(["d_model", "encoder_hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim"], 32)
narrow["decoder_in_channels"] = [32] * 3
models = {kind: build_detr(kind, backbone(), image_size=64, **few, **narrow) for kind in KINDS}
config = FasterRcnnConfig(backbone(), image_size=64, pyramid_channels=16, head_channels=32)
models["faster_rcnn"] = FasterRcnnForObjectDetection(config)
config = DinoConfig(backbone_config=backbone(), image_size=64, d_model=64, encoder_layers=1, **few)
models["dino"] = DinoForObjectDetection(config)
labels = [{"class_labels": torch.tensor([0]), "boxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]])}]
for kind, model in models.items():
    model.train()(torch.rand(1, 3, 64, 64), labels=labels).loss.backward()
    with torch.no_grad():
        outputs = model.eval()(torch.rand(1, 3, 64, 64))
    print(kind, outputs.logits.shape[0] == outputs.pred_boxes.shape[0] == 1)
assert not any(name.split(".")[0] == "ultralytics" for name in sys.modules)
"""


@pytest.mark.slow
def test_apache_and_bsd_detectors_do_not_need_it():
    done = subprocess.run([python(), "-c", PROGRAM], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    names = ["rtdetr_v2_s", "rtdetr_v2_l", "dfine_s", "dfine_l", "faster_rcnn", "dino"]
    assert done.stdout.split("\n") == [*(f"{name} True" for name in names), ""]
