"""DINO's loss and gradients on two processes, one of them without any box, equal those of one with the whole batch."""

import dino_worker
import pytest
import torch
from warm_python import torchrun


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    dino_worker.main(tmp_path)
    torchrun(dino_worker.__file__, tmp_path)
    one, first, second = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert first["loss"] == second["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert first["gradients"].keys() == one["gradients"].keys()
    for name, expected in one["gradients"].items():
        torch.testing.assert_close(first["gradients"][name], expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(second["gradients"][name], first["gradients"][name], rtol=0, atol=1e-6)
