"""What is saved may be read by whom the umask lets read, not by its owner alone; safetensors' own files are closed."""

import os
import stat
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

from agssp import AgsspBackbone, FasterRcnnConfig, FasterRcnnForObjectDetection, KeAD, files
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig


def backbone(folder):
    AgsspBackbone.from_architecture("test_resnet", "scratch").save_pretrained(folder)


def detector(folder):
    config = FasterRcnnConfig(AgsspBackboneConfig(architecture="test_resnet"), id2label={0: "pit"})
    FasterRcnnForObjectDetection(config).save_pretrained(folder)


def kead(folder):
    torch.manual_seed(0)
    weights = folder.with_name("teacher.safetensors")
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    model = KeAD.from_teacher("timm:test_resnet", weights=weights, image_size=64, dtype="float32", device="cpu")
    model.save_pretrained(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are of POSIX")
@pytest.mark.parametrize("save", [backbone, detector, kead])
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_the_umask(tmp_path, save, mask):
    # A process asks for its umask once, since to ask is to change it for a moment.
    files._usual_mode.cache_clear()
    before = os.umask(mask)
    try:
        save(tmp_path / "saved")
    finally:
        os.umask(before)
        files._usual_mode.cache_clear()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").iterdir()}
    assert any(name.endswith(".safetensors") for name in modes)
    assert set(modes.values()) == {0o666 & ~mask}
    assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == 0o777 & ~mask
