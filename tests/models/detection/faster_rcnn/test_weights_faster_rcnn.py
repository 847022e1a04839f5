"""Weights of torchvision's fasterrcnn_resnet50_fpn under our names, with equal boxes."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from agssp.errors import InputError
from agssp.models.detection.faster_rcnn import FasterRcnnForObjectDetection


def torchvision_resnet50(num_labels, frozen_norms=False):
    """torchvision's own detector with random weights that find something."""
    torch.manual_seed(0)
    norm_layer = FrozenBatchNorm2d if frozen_norms else nn.BatchNorm2d
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm_layer)
    model = FasterRCNN(backbone, num_labels + 1, min_size=96, max_size=96)
    if frozen_norms:
        overwrite_eps(model, 0.0)  # as in the published COCO weights
    with torch.no_grad():
        for name, module in model.named_modules():
            if hasattr(module, "running_var"):
                # So small that what is added to them counts.
                module.running_var.uniform_(2e-5, 1e-4)
                module.running_mean.normal_(0, 0.1)
                module.weight.fill_(0.002 if name.endswith("bn3") else 0.007)
        for layer in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
            layer.weight.normal_(0, 0.5)
    return model.eval()


def assert_same_detections(model, reference):
    images = torch.rand(1, 3, 96, 96)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        outputs, (found,) = model((images - mean) / std), reference(list(images))
    (ours,) = model.post_process_object_detection(outputs, threshold=0.2, target_sizes=[(96, 96)])
    found = {name: value[found["scores"] > 0.2] for name, value in found.items()}
    assert len(found["scores"]) > 5
    torch.testing.assert_close(ours["scores"], found["scores"], rtol=0, atol=1e-4)
    assert torch.equal(ours["labels"], found["labels"] - 1)
    torch.testing.assert_close(ours["boxes"], found["boxes"], rtol=0, atol=1e-2)


@pytest.mark.slow
def test_detections_equal_torchvision(tmp_path):
    reference = torchvision_resnet50(3)
    published = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    assert list(published.state_dict()) == list(reference.state_dict())
    save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    model = FasterRcnnForObjectDetection.from_torchvision(tmp_path / "weights.safetensors", image_size=96)
    assert model.config.id2label == {0: "class_0", 1: "class_1", 2: "class_2"}
    assert model.config.backbone_config.image_mean == [0.485, 0.456, 0.406]
    assert_same_detections(model, reference)


@pytest.mark.slow
def test_coco_weights_have_frozen_norms_older_names_and_classes_that_are_named(tmp_path):
    reference = torchvision_resnet50(90, frozen_norms=True)
    state = {}
    for name, value in reference.state_dict().items():
        older = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        state[older.replace(".0.weight", ".weight").replace(".0.bias", ".bias") if ".fpn." in older else older] = value
    assert "backbone.fpn.inner_blocks.3.weight" in state
    assert not any("num_batches_tracked" in name for name in state)
    save_file(state, tmp_path / "weights.safetensors")
    model = FasterRcnnForObjectDetection.from_torchvision(tmp_path / "weights.safetensors", image_size=96)
    assert model.config.id2label[0] == "person"
    assert model.config.id2label[89] == "toothbrush"
    assert_same_detections(model, reference)


@pytest.mark.parametrize(
    ("change", "id2label", "message"),
    [
        (lambda state: state.clear(), None, "no tensor roi_heads.box_predictor.cls_score.weight"),
        (lambda state: None, {0: "a"}, "3 classes in the file, 1 in id2label"),
        (lambda state: state.pop("backbone.fpn.inner_blocks.0.0.bias"), None, r"1 missing \(fpn.inner_blocks.0.0.bias"),
    ],
)
@pytest.mark.slow
def test_files_that_do_not_fit(tmp_path, change, id2label, message):
    state = torchvision_resnet50(3).state_dict()
    change(state)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=message):
        FasterRcnnForObjectDetection.from_torchvision(tmp_path / "weights.safetensors", id2label)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file; expected weights of torchvision's Faster R-CNN"):
        FasterRcnnForObjectDetection.from_torchvision(tmp_path / "none.safetensors")
