"""Folded norms change no output, and only those are folded of which nothing else is used."""

import pytest
import torch
from torch import nn

from agssp.hub.export.norms import fold_norms


class Network(nn.Module):
    """Convolutions with a norm each: two that take it in, and others that must stay as they are."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.biased = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.used_twice = nn.Conv2d(4, 4, 1)  # its weights
        self.seen_twice = nn.Conv2d(4, 4, 1)  # its output
        self.before_no_scale = nn.Conv2d(4, 4, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4, eps=10.0**-index, affine=index != 7) for index in range(1, 8))
        for norm in self.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            if norm.affine:
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)

    def forward(self, values):
        values = self.norms[0](self.plain(values)).relu()
        values = self.norms[1](self.biased(values)).relu()
        values = self.norms[2](self.used_twice(values)) + self.norms[3](self.used_twice(values.sin()))
        seen = self.seen_twice(values)
        values = self.norms[4](seen) + seen
        values = self.norms[5](nn.functional.conv2d(values, torch.eye(4)[:, :, None, None] * 2))
        return self.norms[6](self.before_no_scale(values)).relu()


def traced(network):
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        return torch.export.export(network, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: batch},))


def test_nothing_to_fold():
    assert fold_norms(traced(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval())) == 0


def test_a_network_that_ends_in_a_norm_keeps_it():
    assert fold_norms(traced(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).eval())) == 0


@pytest.mark.slow
def test_the_same_outputs():
    torch.manual_seed(0)
    network = Network().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    program = traced(network)
    assert fold_norms(program) == 2
    assert len(program.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default)) == 5
    folded = program.run_decompositions().module()
    for batch in (1, 2, 5):
        values = torch.rand(batch, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(folded(values), network(values), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
