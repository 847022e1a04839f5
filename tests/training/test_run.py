"""What a run's record says."""

import torch
from accelerate import PartialState

from agssp.training.run import hardware


def test_hardware_is_what_was_computed_on(monkeypatch):
    state = PartialState()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a GPU")
    monkeypatch.setattr(state, "device", torch.device("cpu"))
    assert hardware().startswith("CPU, ")
    monkeypatch.setattr(state, "device", torch.device("cuda", 0))
    assert hardware() == "1 x a GPU"
