"""RT-DETR's two small ResNets, added to timm's models: `resnet18vd` and `resnet34vd`.

They are timm's `resnet18d` and `resnet34d` with one convolution more: the shortcut of the first block has weights.
"""

from typing import Any

from timm.models import ResNet, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock
from torch import nn

INPUT = {"input_size": (3, 640, 640), "pool_size": (20, 20), "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
LAYERS = {"first_conv": "conv1.0", "classifier": "fc"}
# timm's decorator looks for this name.
default_cfgs = generate_default_cfgs({name: INPUT | LAYERS for name in ("resnet18vd", "resnet34vd")})


class ResNetVd(ResNet):
    """timm's ResNet of basic blocks whose first block has a convolution in its shortcut too."""

    layer1: Any

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        like = self.layer1[0].conv1.weight
        width = like.shape[1]
        convolution = nn.Conv2d(width, width, 1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        # Numbered as in timm's other shortcuts, which begin with a pooling.
        shortcut = nn.Sequential(nn.Identity(), convolution, nn.BatchNorm2d(width))
        self.layer1[0].downsample = shortcut.to(like.device, like.dtype)


@register_model
def resnet18vd(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """ResNet18 of RT-DETR; takes what timm's `resnet18d` takes."""
    return _build("resnet18vd", (2, 2, 2, 2), pretrained, arguments)


@register_model
def resnet34vd(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """ResNet34 of RT-DETR; takes what timm's `resnet34d` takes."""
    return _build("resnet34vd", (3, 4, 6, 3), pretrained, arguments)


def _build(name: str, layers: tuple[int, ...], pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    fixed: dict[str, Any] = {
        "block": BasicBlock,
        "layers": layers,
        "stem_width": 32,
        "stem_type": "deep",
        "avg_down": True,
    }
    return build_model_with_cfg(ResNetVd, name, pretrained, **(fixed | arguments))
