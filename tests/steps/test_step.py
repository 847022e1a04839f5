"""Every step has its command's flags as keywords, leaves the process as it was, and its result shows itself."""

import dataclasses
import importlib
import inspect
import logging
import random

import numpy as np
import pytest
import torch

from agssp.steps.step import Asked, StepResult, step
from agssp.terminal import on_terminal, shown_on_terminal

STEPS = {
    "evaluate": ("evaluate", "evaluate"),
    "evaluate-maps": ("evaluate_maps", "evaluate_maps"),
    "pseudo-boxes": ("cut_boxes", "cut_boxes"),
}
"""Command -> the step's module and function."""
OF_TRAINING = {"training", "learning_rate", "num_train_epochs", "per_device_train_batch_size", "seed", "push_to_hub"}
"""Keywords that are no flags of the command itself, but TrainingArguments or the usual of them."""


@pytest.mark.parametrize("command", STEPS)
def test_keywords_are_the_flags(command):
    module, name = STEPS[command]
    options = inspect.signature(getattr(importlib.import_module(f"agssp.steps.{module}"), name)).parameters
    flags = importlib.import_module(f"agssp.commands.{command.replace('-', '_')}").ARGUMENTS[0]
    expected = {}
    for field in dataclasses.fields(flags):
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        expected[field.name] = inspect.Parameter.empty if made is dataclasses.MISSING else made
    found = {name: option.default for name, option in options.items() if name not in OF_TRAINING - expected.keys()}
    assert found == expected
    assert all(option.kind is not inspect.Parameter.VAR_KEYWORD for option in options.values())


@step
def spend(seed):
    """Change all that a step may change."""
    from accelerate import PartialState
    from transformers.utils import logging as transformers_logging

    PartialState(cpu=True)
    torch.set_num_threads(torch.get_num_threads() + 1)
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    return torch.rand(1).item(), np.random.rand(), random.random()


def test_a_step_leaves_the_process_as_it_was():
    from accelerate import PartialState
    from transformers.utils import logging as transformers_logging

    def now():
        return (
            torch.get_num_threads(), dict(PartialState._shared_state), transformers_logging.is_progress_bar_enabled(),
            torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(),
        )  # fmt: skip

    before = now()
    first = spend(1)
    assert now() == before
    assert spend(2) != first
    assert spend(1) == first


def test_what_the_process_had_agreed_on_is_there_again():
    from accelerate import PartialState

    PartialState._reset_state()
    try:
        PartialState(cpu=True).marker = "mine"
        spend(0)
        assert PartialState().marker == "mine"
    finally:
        PartialState._reset_state()


def test_an_empty_result():
    assert str(StepResult("evaluate")) == ""
    assert StepResult("evaluate")._repr_html_() == "<b>agssp.evaluate</b><br>"


def test_a_result_shows_itself(caplog, tmp_path):
    result = StepResult("split", tmp_path, ("8 < 9 images",), {"images": 8}, tmp_path / "a b.html", "agssp predict 'm'")
    assert str(result) == "8 < 9 images\nnext: agssp predict 'm'"
    assert "8 &lt; 9 images" in result._repr_html_()
    assert "a b.html" in result._repr_html_()
    with caplog.at_level(logging.INFO, logger="agssp"):
        assert result.tell() is result
    assert caplog.messages == ["8 < 9 images", "next: agssp predict 'm'"]


def test_what_was_asked_becomes_settings():
    def take(model, output, *, size=3):
        return Asked(**locals())

    assert take(1, "x").settings("output") == {"model": 1, "size": 3}
    assert take([1], "x").settings("output", model="given") == {"model": "given", "size": 3}


def test_a_terminal_shows_what_is_logged(capsys):
    logger = logging.getLogger("agssp.anything")
    logger.info("nobody listens")

    @on_terminal
    def main():
        logger.info("100 % of it")
        logger.info("90 %%, %s", "really")
        with shown_on_terminal():
            logger.info("once")

    main()
    logger.info("nobody listens again")
    assert capsys.readouterr().out.splitlines() == ["100 % of it", "90 %, really", "once"]


def test_other_processes_of_a_run_print_warnings_alone(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with shown_on_terminal():
        logging.getLogger("agssp.anything").info("the first one says so")
        logging.getLogger("agssp.anything").warning("but this is from here")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "but this is from here\n")
