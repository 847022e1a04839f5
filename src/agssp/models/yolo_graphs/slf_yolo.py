"""The modules of SLF-YOLO: a C2f of gated star blocks for its backbone, GSConv and scale sequence fusion for its neck.

Liu, Liu, Guo, Ling and Geng, "Metal surface defect detection using SLF-YOLO enhanced YOLOv8 model", Scientific Reports
15, 11105 (2025). From the paper: SC_C2f has a channel gating mechanism, the Light-SSF neck fuses several scales at
little cost. From the configuration and the modules that its authors published: which blocks these are, their kernel
sizes and widths, and how they are connected. They come from StarNet (arXiv:2403.19967), TransNeXt (the convolutional
gated linear unit, arXiv:2311.17132), Slim-neck (GSConv, arXiv:2206.02424) and ASF-YOLO (the three-scale concatenation
and the scale sequence, arXiv:2312.06458). Decided here: the convolution that the published block of Slim-neck has and
never uses is left out, since a parameter without gradient stops distributed training.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agssp.models.ultralytics import import_ultralytics


class ConvolutionalGLU(nn.Module):
    """The channel gate: half of the channels, seen through a depthwise convolution, decide what of the rest passes.

    Args:
        channels: Channels of input and output; two thirds of them are the width of either half.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = 2 * channels // 3
        self.expand = nn.Conv2d(channels, 2 * hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W): `x + project(gelu(depthwise(gate)) * value)`."""
        gate, value = self.expand(x).chunk(2, 1)
        return x + self.project(functional.gelu(self.depthwise(gate)) * value)


class StarBlock(nn.Module):
    """A residual block that multiplies two projections of its input, with a channel gate at its end.

    Args:
        channels: Channels of input and output.
        expansion: Width of the two projections in multiples of `channels`.
    """

    def __init__(self, channels: int, expansion: int = 3):
        super().__init__()
        self.depthwise = _conv(channels, channels, 7, groups=channels, activated=False)
        self.left = nn.Conv2d(channels, expansion * channels, 1)
        self.right = nn.Conv2d(channels, expansion * channels, 1)
        self.merge = _conv(expansion * channels, channels, 1, activated=False)
        self.spread = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.gate = ConvolutionalGLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        seen = self.depthwise(x)
        star = functional.relu6(self.left(seen)) * self.right(seen)
        return x + self.gate(self.spread(self.merge(star)))


class StarC2f(nn.Module):
    """SC_C2f: YOLOv8's C2f whose bottlenecks are gated star blocks.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        repeats: Number of star blocks.
    """

    def __init__(self, inputs: int, outputs: int, repeats: int):
        super().__init__()
        half = outputs // 2
        self.split = _conv(inputs, 2 * half, 1)
        self.blocks = nn.ModuleList(StarBlock(half) for _ in range(repeats))
        self.merge = _conv((2 + repeats) * half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        parts = list(self.split(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.merge(torch.cat(parts, 1))


class GSConv(nn.Module):
    """A convolution whose second half is made of its first by a depthwise one; both halves are then mixed.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output, an even number.
        kernel: Side of the first convolution's kernel.
        stride: Its stride.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        half = outputs // 2
        self.dense = _conv(inputs, half, kernel, stride)
        self.cheap = _conv(half, half, 5, groups=half)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride), channels with even numbers before the odd ones."""
        dense = self.dense(x)
        both = torch.cat((dense, self.cheap(dense)), 1)
        return torch.cat((both[:, ::2], both[:, 1::2]), 1)


class GSBottleneck(nn.Module):
    """Two GSConvs beside a plain projection.

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.light = nn.Sequential(GSConv(channels, channels), GSConv(channels, channels, 3))
        self.shortcut = _conv(channels, channels, 1, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.light(x) + self.shortcut(x)


class GSCSP(nn.Module):
    """Slim-neck's cross-stage block (VoV-GSCSP): half of the channels go through GS bottlenecks, half around them.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output, a multiple of 4.
        repeats: Number of bottlenecks.
    """

    def __init__(self, inputs: int, outputs: int, repeats: int):
        super().__init__()
        half = outputs // 2
        self.through = _conv(inputs, half, 1)
        self.around = _conv(inputs, half, 1)
        self.bottlenecks = nn.Sequential(*(GSBottleneck(half) for _ in range(repeats)))
        self.merge = _conv(2 * half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return self.merge(torch.cat((self.around(x), self.bottlenecks(self.through(x))), 1))


class ZoomConcat(nn.Module):
    """Three neighbouring scales brought to the size of the middle one (triple feature encoding)."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Finer, middle and coarser map -> all their channels at the middle one's height and width.

        The finer map, twice as high and wide, becomes the sum of the maximum and the mean of each square of four, the
        coarser one is repeated.
        """
        fine, middle, coarse = maps
        size = (middle.shape[2], middle.shape[3])
        # Sides of the input are multiples of 32. Adaptive pooling is the same, but torch 2.11 cannot write it as ONNX.
        pooled = functional.max_pool2d(fine, 2) + functional.avg_pool2d(fine, 2)
        return torch.cat((pooled, middle, functional.interpolate(coarse, size, mode="nearest")), 1)


class ScaleSequence(nn.Module):
    """Three scales as a sequence along a third axis, of which the strongest response counts (SSFF).

    Args:
        inputs: Channels of the three maps, finest first.
        outputs: Channels of the output; a finest map of as many channels is taken as it is.
    """

    def __init__(self, inputs: Sequence[int], outputs: int):
        super().__init__()
        self.project = nn.ModuleList(
            nn.Identity() if level == 0 and channels == outputs else _conv(channels, outputs, 1)
            for level, channels in enumerate(inputs)
        )
        self.mix = nn.Conv3d(outputs, outputs, 1)
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, H, W), finest first -> (B, outputs, H, W) of the finest."""
        projected = [project(feature_map) for project, feature_map in zip(self.project, maps, strict=True)]
        size = projected[0].shape[2:]
        sequence = torch.stack([functional.interpolate(scale, size, mode="nearest") for scale in projected], 2)
        return functional.leaky_relu(self.norm(self.mix(sequence)), 0.1).amax(2)


class Add(nn.Module):
    """The sum of maps of one shape."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, H, W) -> (B, C, H, W)."""
        first, second = maps
        return first + second


_REPEATED = {"StarC2f": StarC2f, "GSCSP": GSCSP}
_PLAIN = {"ZoomConcat": ZoomConcat, "Add": Add}


def is_ours(module: str) -> bool:
    """Whether a module of a description is built here and not by ultralytics."""
    return module in {*_REPEATED, *_PLAIN, "GSConv", "ScaleSequence"}


def build_module(module: str, inputs: Sequence[int], outputs: int, repeats: int, arguments: Sequence[int]) -> nn.Module:
    """Build one layer.

    Args:
        module: Its name in a description, for which `is_ours`.
        inputs: Channels of each source.
        outputs: Channels of its output.
        repeats: Number of its blocks, where it has such.
        arguments: What follows the width in the description.
    """
    if module in _REPEATED:
        return _REPEATED[module](inputs[0], outputs, repeats)
    if module in _PLAIN:
        return _PLAIN[module]()
    if module == "GSConv":
        return GSConv(inputs[0], outputs, *arguments)
    return ScaleSequence(inputs, outputs)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activated: bool = True) -> Any:
    """ultralytics' convolution with batch norm, and SiLU where it is activated."""
    import_ultralytics()
    from ultralytics.nn.modules import Conv

    return Conv(inputs, outputs, kernel, stride, None, groups, act=activated)
