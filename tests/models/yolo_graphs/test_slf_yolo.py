"""SLF-YOLO's modules against loops over positions and channels."""

import math

import pytest
import torch
from torch.nn import functional

from agssp.models.yolo_graphs.slf_yolo import (
    GSCSP,
    Add,
    ConvolutionalGLU,
    GSBottleneck,
    GSConv,
    ScaleSequence,
    StarBlock,
    StarC2f,
    ZoomConcat,
)


def settled(module, seed=0):
    """The module in evaluation mode with norms that are not the identity, in float64."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
    return module.double().eval()


def at(convolution, x, image, row, column):
    """Output (channels,) of a 1x1 or depthwise convolution at one place, by summing products."""
    weight, bias = convolution.weight, convolution.bias
    reach = weight.shape[2] // 2
    result = torch.zeros(weight.shape[0], dtype=x.dtype) if bias is None else bias.clone()
    for channel in range(weight.shape[0]):
        for down in range(-reach, reach + 1):
            for across in range(-reach, reach + 1):
                y, z = row + down, column + across
                if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                    read = x[image, :, y, z] if convolution.groups == 1 else x[image, channel, y, z]
                    result[channel] += (weight[channel, :, down + reach, across + reach] * read).sum()
    return result


def normed(block, x, image, row, column):
    """ultralytics' convolution and norm at one place, without activation."""
    norm = block.bn
    value = at(block.conv, x, image, row, column)
    return (value - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def filled(function, x, channels):
    """A map (B, channels, H, W) of `function(image, row, column)`."""
    batch, _, height, width = x.shape
    out = torch.zeros(batch, channels, height, width, dtype=x.dtype)
    for image in range(batch):
        for row in range(height):
            for column in range(width):
                out[image, :, row, column] = function(image, row, column)
    return out


@torch.no_grad()
def test_channel_gate_against_a_loop():
    module, x = settled(ConvolutionalGLU(6)), torch.randn(2, 6, 3, 4, dtype=torch.float64)
    expanded = filled(lambda *place: at(module.expand, x, *place), x, 8)
    gate, value = expanded[:, :4], expanded[:, 4:]

    def output(image, row, column):
        seen = at(module.depthwise, gate, image, row, column)
        passed = torch.stack([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in seen]) * value[image, :, row, column]
        weight, bias = module.project.weight[:, :, 0, 0], module.project.bias
        return x[image, :, row, column] + weight @ passed + bias

    torch.testing.assert_close(module(x), filled(output, x, 6))


@torch.no_grad()
def test_star_block_against_a_loop():
    module, x = settled(StarBlock(4)), torch.randn(1, 4, 3, 3, dtype=torch.float64)
    seen = filled(lambda *place: normed(module.depthwise, x, *place), x, 4)

    def star(*place):
        left, right = at(module.left, seen, *place), at(module.right, seen, *place)
        return torch.stack([min(max(value, torch.zeros(())), torch.full((), 6.0)) for value in left]) * right

    stars = filled(star, x, 12)
    merged = filled(lambda *place: normed(module.merge, stars, *place), x, 4)
    spread = filled(lambda *place: at(module.spread, merged, *place), x, 4)
    torch.testing.assert_close(module(x), x + module.gate(spread))


@torch.no_grad()
def test_star_c2f_joins_every_intermediate_result():
    module, x = settled(StarC2f(6, 8, 2)), torch.randn(2, 6, 4, 4, dtype=torch.float64)
    first, second = module.split(x)[:, :4], module.split(x)[:, 4:]
    third = module.blocks[0](second)
    joined = torch.cat((first, second, third, module.blocks[1](third)), 1)
    torch.testing.assert_close(module(x), module.merge(joined))
    assert StarC2f(6, 8, 0)(x.float()).shape == (2, 8, 4, 4)


@torch.no_grad()
def test_gs_convolution_mixes_its_halves():
    module, x = settled(GSConv(3, 8)), torch.randn(1, 3, 4, 3, dtype=torch.float64)
    dense = functional.silu(filled(lambda *place: normed(module.dense, x, *place), x, 4))
    cheap = functional.silu(filled(lambda *place: normed(module.cheap, dense, *place), x, 4))
    both = [*dense[0], *cheap[0]]
    expected = torch.stack([both[index] for index in (0, 2, 4, 6, 1, 3, 5, 7)])[None]
    torch.testing.assert_close(module(x), expected)
    assert GSConv(3, 8, 3, 2)(x.float()).shape == (1, 8, 2, 2)


@torch.no_grad()
def test_gs_blocks_are_their_branches():
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    bottleneck = settled(GSBottleneck(8))
    torch.testing.assert_close(
        bottleneck(x), bottleneck.light[1](bottleneck.light[0](x)) + bottleneck.shortcut(x), rtol=0, atol=0
    )
    module = settled(GSCSP(8, 12, 2))
    through = module.bottlenecks[1](module.bottlenecks[0](module.through(x)))
    torch.testing.assert_close(module(x), module.merge(torch.cat((module.around(x), through), 1)))


@pytest.mark.parametrize("size", [(4, 4), (2, 6)])
def test_zoom_against_a_loop(size):
    height, width = size
    fine = torch.randn(2, 3, 2 * height, 2 * width)
    middle = torch.randn(2, 4, height, width)
    coarse = torch.randn(2, 5, height // 2, width // 2)
    out = ZoomConcat()([fine, middle, coarse])
    for row in range(height):
        for column in range(width):
            cell = fine[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(2)
            expected = (cell.amax(2) + cell.mean(2), middle[..., row, column], coarse[..., row // 2, column // 2])
            torch.testing.assert_close(out[:, :, row, column], torch.cat(expected, 1))


@torch.no_grad()
@pytest.mark.parametrize("outputs", [3, 4])
def test_scale_sequence_keeps_the_strongest_scale(outputs):
    module = settled(ScaleSequence([3, 4, 5], outputs))
    assert isinstance(module.project[0], torch.nn.Identity) == (outputs == 3)
    maps = [
        torch.randn(2, channels, side, side, dtype=torch.float64)
        for channels, side in zip((3, 4, 5), (4, 2, 1), strict=True)
    ]
    projected = [project(x) for project, x in zip(module.project, maps, strict=True)]
    out, norm = module(maps), module.norm
    weight, bias = module.mix.weight[:, :, 0, 0, 0], module.mix.bias
    for row in range(4):
        for column in range(4):
            scales = []
            for level, x in enumerate(projected):
                mixed = x[:, :, row >> level, column >> level] @ weight.T + bias
                value = (mixed - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
                scales.append(torch.where(value > 0, value, 0.1 * value))
            torch.testing.assert_close(out[:, :, row, column], torch.stack(scales).amax(0))


def test_sum():
    first, second = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(Add()([first, second]), first + second)
