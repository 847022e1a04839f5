"""What all steps have in common: they keep their outputs to themselves, leave no state behind, and give a result."""

import contextlib
import functools
import html
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import numpy as np

from agssp.output_folder import keeps_outputs
from agssp.telemetry import switch_off

logger = logging.getLogger(__name__)
Options = ParamSpec("Options")
Given = TypeVar("Given")


def step(function: Callable[Options, Given]) -> Callable[Options, Given]:
    """Make a function a step: what it claims is its own until it ends, and the process is as before it afterwards.

    Random generators, torch's threads, the settings that accelerate keeps for a process (device, number of processes)
    and the progress bars of transformers are put back, so that two steps after one another do what they do in two
    processes.
    """
    kept = keeps_outputs(function)

    @functools.wraps(function)
    def run(*arguments: Options.args, **options: Options.kwargs) -> Given:
        switch_off()
        with process_as_it_was():
            return kept(*arguments, **options)

    return run


@contextlib.contextmanager
def process_as_it_was() -> Iterator[None]:
    """Put back, at the end, what computing changes in a process."""
    own, arrays = random.getstate(), np.random.get_state()
    with contextlib.ExitStack() as stack:
        stack.callback(np.random.set_state, arrays)
        stack.callback(random.setstate, own)
        stack.enter_context(_torch_as_it_was())
        stack.enter_context(_bars_as_they_were())
        yield


@contextlib.contextmanager
def _torch_as_it_was() -> Iterator[None]:
    import torch
    from accelerate.state import AcceleratorState, GradientState, PartialState

    threads = torch.get_num_threads()
    shared: list[dict[str, Any]] = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            # In a process group the processes go on together, with what they have agreed on.
            if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
                for state, old in zip(shared, before, strict=True):
                    state.clear()
                    state.update(old)


@contextlib.contextmanager
def _bars_as_they_were() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@dataclass(frozen=True)
class StepResult:
    """What a step has made; printed, or as the last line of a notebook's cell, it shows itself.

    Attributes:
        step: name of the step.
        output: folder or file that it wrote; None where it wrote nothing.
        lines: what came out, in sentences.
        numbers: the same for programs: JSON values, as the step's function says.
        report: page to look at.
        next: the command that comes next.
    """

    step: str
    output: Path | None = None
    lines: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    report: Path | None = None
    next: str = ""

    def __str__(self) -> str:
        return "\n".join([*self.lines, *([f"next: {self.next}"] if self.next else [])])

    def __repr__(self) -> str:
        return f"{self.step}: {self}"

    def _repr_html_(self) -> str:
        shown = [html.escape(line) for line in self.lines]
        if self.report is not None:
            address = html.escape(self.report.as_posix(), quote=True)
            shown.append(f'<a href="{address}">{html.escape(str(self.report))}</a>')
        if self.next:
            shown.append(f"next: <code>{html.escape(self.next)}</code>")
        return f"<b>agssp.{html.escape(self.step)}</b><br>" + "<br>".join(shown)

    def tell(self) -> "StepResult":
        """Log the result's lines and what comes next; gives the result back."""
        for line in str(self).splitlines():
            logger.info("%s", line)
        return self


class Asked(SimpleNamespace):
    """The keywords of a step with their values: `asked = Asked(**locals())` is its first line."""

    def settings(self, *without: str, **instead: Any) -> dict[str, Any]:
        """What decides the results, as the record of an output folder keeps it.

        Args:
            without: names that decide nothing, as the folder itself.
            instead: other values for some, as the name of a data set for the data set itself.
        """
        return {name: value for name, value in (vars(self) | instead).items() if name not in without}
