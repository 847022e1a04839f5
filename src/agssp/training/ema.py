"""An exponential moving average of a model's weights: what is evaluated, selected and exported."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.files import whole_file
from agssp.tensor_files import facts_of, open_tensors


class ExponentialMovingAverage:
    """Averages of a model's floating-point weights and buffers.

    After step t the average moves by 1 - decay * (1 - exp(-t / ramp)) towards the weights, so that the first steps,
    from random or foreign weights, are soon forgotten (as ultralytics does). Scalar buffers are copied: they are
    counters and constants such as lambda, of which an average means nothing. So are tensors whose names begin with one
    of the model's `already_averaged`.

    Args:
        model: to follow.
        decay: of the finished ramp, in [0, 1); 0 follows the weights exactly.
        ramp: steps over which the decay rises.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, ramp: float = 2000) -> None:
        if not 0 <= decay < 1 or ramp <= 0:
            raise InputError(f"ema_decay must be in [0, 1) and the ramp positive, got {decay} and {ramp}")
        self.decay, self.ramp, self.steps = decay, ramp, 0
        self._copied = tuple(getattr(model, "already_averaged", ()))
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the averages after an optimizer step."""
        self.steps += 1
        weight = 1 - self.decay * (1 - math.exp(-self.steps / self.ramp))
        averages, values = [], []
        for name, value in model.state_dict().items():
            average = self.average[name]
            if average.device != value.device:
                average = self.average[name] = average.to(value.device)
            if average.is_floating_point() and average.ndim > 0 and not name.startswith(self._copied):
                averages.append(average)
                values.append(value.detach().to(average.dtype))
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, weight)

    def synchronise(self) -> None:
        """Give all processes the averages of the first: running statistics of norms differ between them."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for value in self.average.values():
                torch.distributed.broadcast(value, src=0)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Put the averages into the model for the length of a `with` block."""
        kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.copy_to(model)
        try:
            yield
        finally:
            _copy(kept, model)

    def copy_to(self, model: nn.Module) -> None:
        """Put the averages into the model for good."""
        _copy(self.average, model)

    def save(self, file: Path) -> None:
        """Write the averages and the number of steps to a safetensors file."""
        metadata = {"ema": json.dumps({"steps": self.steps, "decay": self.decay, "ramp": self.ramp})}
        with whole_file(file) as part:
            save_file({name: value.contiguous() for name, value in self.average.items()}, part, metadata=metadata)

    def load(self, file: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            InputError: the file is another model's, or damaged.
        """
        with open_tensors(file) as content:
            names = set(content.keys())
            if names != set(self.average):
                raise InputError(f"{file}: holds another model's averages; remove the checkpoint and start again")
            self.steps = int(facts_of(content, "ema", file)["steps"])
            for name in names:
                tensor = content.get_tensor(name)
                if tensor.shape != self.average[name].shape:
                    raise InputError(f"{file}: holds another model's averages; remove the checkpoint and start again")
                self.average[name].copy_(tensor)


@torch.no_grad()
def _copy(state: dict[str, Tensor], model: nn.Module) -> None:
    # In place, so that optimizer and DDP keep the tensors they know.
    for name, value in model.state_dict().items():
        value.copy_(state[name])
