"""What a run's record says."""

import torch
from accelerate import PartialState

from agssp.command_lines import command_line
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.run import hardware


def test_hardware_is_what_was_computed_on(monkeypatch):
    state = PartialState()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a GPU")
    monkeypatch.setattr(state, "device", torch.device("cpu"))
    assert hardware().startswith("CPU, ")
    monkeypatch.setattr(state, "device", torch.device("cuda", 0))
    assert hardware() == "1 x a GPU"


def test_the_recorded_command_says_what_was_asked_and_leaves_accelerate_alone(tmp_path):
    training = AgsspTrainingArguments(output_dir=str(tmp_path), use_cpu=True, num_train_epochs=2, report_to="none")
    state = PartialState()
    before = dict(state._shared_state)
    assert command_line("finetune", training) == "agssp finetune --num-train-epochs 2 --use-cpu True"
    training.learning_rate = 0.5
    assert "--learning-rate 0.5" in command_line("finetune", training)
    assert state._shared_state == before
    assert state.num_processes == training.world_size == 1
