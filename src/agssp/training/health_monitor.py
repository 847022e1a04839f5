"""Follows a pretraining run: measures held-out images, keeps what is looked at, and says and draws how it stands."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from tqdm import tqdm
from transformers import TrainerCallback, TrainerState

from agssp.training.alignment import AlignmentEvaluator
from agssp.training.attention_snapshots import AttentionSnapshots
from agssp.training.health import RunHealth, health_line, verdict
from agssp.training.trainer import last_checkpoint

logger = logging.getLogger(__name__)

REPORT = "report.html"
REPORT_SHARE = 0.05
"""Largest share of the time that goes into rewriting the page."""
FIRST_REPORT = 10.0
"""Seconds of training before the page is written for the first time, if the run is not over sooner."""


class HealthMonitor(TrainerCallback):
    """Follows a run: `measure` is its Trainer's evaluator, the monitor itself one of its callbacks.

    Nothing here draws random numbers or changes weights. Files are written on the main process alone.

    Args:
        output: the run's folder.
        held_out: `PretrainingImages` in evaluation, or None.
        collate: of its items.
        report: writes the page.
        unit: what the log is drawn over, `epoch` or `step`.
        batch_size: images a forward pass.
        workers: processes that load images.

    Attributes:
        start: what the starting weights score; from `begin` on.
    """

    def __init__(
        self,
        output: Path,
        held_out: Any,
        collate: Any,
        report: Callable[[RunHealth], object],
        *,
        unit: str = "epoch",
        batch_size: int,
        workers: int = 0,
    ) -> None:
        self.output, self.report, self.unit = output, report, unit
        self.images = 0 if held_out is None else len(held_out)
        self.start: dict[str, float] = {}
        self._evaluator: AlignmentEvaluator | None = None
        self._snapshots: AttentionSnapshots | None = None
        if held_out is not None:
            self._evaluator = AlignmentEvaluator(held_out, collate, batch_size=batch_size, workers=workers)
            self._snapshots = AttentionSnapshots(output, held_out) if PartialState().is_main_process else None
        self._state = TrainerState()
        self._reported_step, self._free_from = -1, -math.inf

    @property
    def levels(self) -> dict[str, dict[str, float]]:
        """What fixed attention scores, see `fixed_attention_levels`; empty without held-out maps."""
        return (self._evaluator.levels or {}) if self._evaluator is not None else {}

    def begin(self, model: Any) -> None:
        """Measure the starting weights, on every process."""
        if self._evaluator is None:
            return
        model.eval()
        self.start = self._evaluator(model)
        if self._snapshots is not None:
            self._snapshots.begin(model, resumed=last_checkpoint(self.output) is not None)
            logger.info("starting weights: " + ", ".join(f"{name} {value:.4f}" for name, value in self.start.items()))

    def measure(self, model: Any) -> dict[str, float]:
        """Measure the weights at hand on the held-out images, on every process, and keep what they look at."""
        assert self._evaluator is not None, "there are no held-out images"
        measured = self._evaluator(model)
        if self._snapshots is not None:
            state = self._state
            moment = f"step {state.global_step}" if self.unit == "step" else f"epoch {round(state.epoch, 2):g}"
            self._snapshots.take(model, state.global_step, state.max_steps, moment)
        return measured

    def health(self) -> RunHealth:
        """How the run stands now."""
        state = self._state
        return RunHealth(
            state.log_history, self.start, self.levels, self.images, state.global_step, state.max_steps, self.unit
        )

    def record(self) -> dict[str, Any]:
        """What run.json says of the held-out images, beside the numbers of the evaluations."""
        return {"held_out": self.images, "starting_weights": self.start, "levels": self.levels}

    def closing_line(self) -> str:
        """The verdict, and where to see why."""
        words, problems = verdict(self.health())
        return "\n".join([f"health: {words}; look at {self.output / REPORT}", *(f"  {line}" for line in problems)])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the Trainer's state, which says where the run is."""
        self._state, self._free_from = state, time.monotonic() + FIRST_REPORT

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say and draw what was measured."""
        if state.is_world_process_zero:
            # Beside the Trainer's progress bar, if there is one, and not across it.
            tqdm.write(health_line(self.health()))
            self._write_report()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the losses where nothing else is measured."""
        if state.is_world_process_zero and self._evaluator is None:
            self._write_report()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw the end, if it is not drawn yet."""
        if state.is_world_process_zero:
            self._write_report()

    def _write_report(self) -> None:
        """Unless the last time was so short ago that epochs of seconds would be spent on drawing."""
        health, before = self.health(), time.monotonic()
        if health.step == self._reported_step or (before < self._free_from and not health.finished):
            return
        self.report(health)
        after = time.monotonic()
        self._reported_step, self._free_from = health.step, after + (after - before) / REPORT_SHARE
