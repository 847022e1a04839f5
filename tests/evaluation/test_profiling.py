"""What a network costs, against networks whose costs are known by arithmetic."""

import numpy as np
import torch
from torch import nn
from torchvision.ops import roi_align

from agssp.evaluation.profiling import count_flops, count_parameters, peak_memory, time_in_turns

CPU = torch.device("cpu")


class Sampling(nn.Module):
    """A bilinear sampling of 3 x 5 places, and 2 x 2 cells pooled from a region, each from 3 x 3 samples."""

    def forward(self, pixel_values):
        batch = len(pixel_values)
        sampled = nn.functional.grid_sample(pixel_values, torch.zeros(batch, 3, 5, 2), align_corners=False)
        boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])] * batch
        return sampled, roi_align(pixel_values, boxes, 2, sampling_ratio=3)


class Attention(nn.Module):
    """torch's attention of 4 heads over the rows of a picture, which runs fused in eval mode."""

    def __init__(self, width):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)

    def forward(self, pixel_values):
        rows = pixel_values[:, 0]
        return self.attention(rows, rows, rows, need_weights=False)


def test_nothing_costs_nothing():
    empty, pixel_values = nn.Sequential().eval(), torch.rand(1, 3, 4, 4)
    assert (count_parameters(empty), count_flops(empty, pixel_values)) == (0, 0)
    assert peak_memory(empty, pixel_values, CPU) == 4 * 3 * 4 * 4


def test_flops_of_a_convolution_are_two_a_product():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    network[3].weight.requires_grad_(False)
    assert count_flops(network, torch.rand(2, 3, 10, 6)) == 2 * (2 * 10 * 6) * (8 * 3 * 9 + 4 * 8)
    # What is trained stays so, what is frozen too.
    assert [parameter.requires_grad for parameter in network.parameters()] == [True] * 4 + [False, True]
    assert count_parameters(network) == 3 * 8 * 9 + 8 + 2 * 8 + 8 * 4 + 4


def test_flops_of_attention_are_counted_where_it_runs_fused():
    length, width = 12, 16
    projections, products = 4 * 2 * length * width * width, 2 * 2 * length * length * width
    assert count_flops(Attention(width).eval(), torch.rand(1, 1, length, width)) == projections + products
    assert torch.backends.mha.get_fastpath_enabled()


def test_flops_of_bilinear_sampling_are_eight_a_value():
    channels = 3
    assert count_flops(Sampling(), torch.rand(2, channels, 8, 8)) == 2 * channels * 8 * (3 * 5 + 2 * 2 * 3 * 3)


def test_peak_memory_is_that_of_the_widest_moment():
    network = nn.Sequential(nn.Linear(100, 300), nn.ReLU(inplace=True), nn.Linear(300, 10), nn.Linear(10, 5)).eval()
    weights = 100 * 300 + 300 + 300 * 10 + 10 + 10 * 5 + 5
    # Input, the wide layer and its successor live at once; what came before them is gone when the last one runs.
    assert peak_memory(network, torch.rand(7, 100), CPU) == 4 * (weights + 7 * (100 + 300 + 10))


def test_what_two_layers_share_is_counted_once():
    layer = nn.Linear(50, 50, bias=False)
    assert peak_memory(nn.Sequential(layer, layer).eval(), torch.rand(1, 50), CPU) == 4 * (50 * 50 + 3 * 50)


def test_networks_take_turns_and_change_the_order():
    calls = []
    networks = {name: lambda _, name=name: calls.append(name) for name in "ab"}
    spent = time_in_turns(networks, torch.zeros(1), 3)
    assert len(calls) == 2 * (2 + 3)
    assert all(set(calls[start : start + 2]) == {"a", "b"} for start in range(0, 10, 2))
    assert len({*calls[::2]}) == 2
    assert all(seconds.shape == (3,) and np.all(seconds > 0) for seconds in spent.values())
