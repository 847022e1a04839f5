"""Lets fresh batch norms take their running statistics from the first steps, so that short runs can be evaluated."""

from typing import Any

from torch import nn
from transformers import TrainerCallback


class NormStatistics(TrainerCallback):
    """The momentum of a fresh norm falls from 1 to its own as 1 / step, so that it begins with plain means.

    Without it the values that running statistics begin with, 0 and 1, stay in them for hundreds of steps at YOLO's
    momentum of 0.03, which matters where activations are small: weights that are good with the statistics of a batch
    are then worth nothing in evaluation. Norms with statistics of their own, from a file of weights, are left alone.
    """

    def __init__(self) -> None:
        self._own: dict[Any, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Find the norms that have seen nothing yet, or not enough."""
        for module in model.modules():
            if not isinstance(module, nn.modules.batchnorm._BatchNorm) or not module.momentum:
                continue
            if module.running_mean is None or module.running_var is None or module.num_batches_tracked is None:
                continue
            untouched = not module.running_mean.any() and bool((module.running_var == 1).all())
            if not untouched and module.num_batches_tracked == 0:
                # Weights from a file without counters: as many as make its statistics count in full.
                module.num_batches_tracked.fill_(round(1 / module.momentum))
            self._own[module] = module.momentum
        self._set()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Lower the momentum for the next step."""
        self._set()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the norms as they were built."""
        for module, own in self._own.items():
            module.momentum = own
        self._own = {}

    def _set(self) -> None:
        # By the counters, which go into checkpoints: a run that goes on has the momentum that it would have had.
        for module, own in list(self._own.items()):
            module.momentum = max(own, 1 / (int(module.num_batches_tracked) + 1))
            if module.momentum == own:
                del self._own[module]
