"""Each objective on two processes equals one with the whole batch: losses, lambda, weights, the slow encoder."""

from pathlib import Path

import pytest
import torch
from warm_python import torchrun

WORKER = Path(__file__).with_name("objective_worker.py")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All objectives by one process and by two; launching costs more than training."""
    output = tmp_path_factory.mktemp("objectives")
    for processes in (1, 2):
        torchrun(WORKER, output, processes=processes)
    return lambda objective, world, rank: torch.load(output / f"{objective}-{world}-{rank}.pt", weights_only=True)


@pytest.mark.parametrize("objective", ["classification", "mocov3", "simmim"])
@pytest.mark.slow
def test_two_ranks_equal_one(trained, objective):
    one, first, second = (trained(objective, *place) for place in ((1, 0), (2, 0), (2, 1)))
    assert first["losses"] == second["losses"]
    assert one["state"]["distillation_weight"] > 0
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert first["state"].keys() == one["state"].keys()
    assert any(name.startswith("momentum_backbone.") for name in one["state"]) == (objective == "mocov3")
    for name, expected in one["state"].items():
        torch.testing.assert_close(first["state"][name], expected, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(second["state"][name], first["state"][name], rtol=0, atol=1e-7)
