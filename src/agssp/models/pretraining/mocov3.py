"""MoCo v3: two views of an image must find each other among all images' (Chen, Xie and He, arXiv 2104.02057)."""

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class MomentumEncoder(nn.Module):
    """What follows a module slowly: a copy of its trainable parameters, and running statistics of its own.

    Only tensors are kept. The computation is the module's own, and whatever is frozen in it is shared, not copied.

    Args:
        module: the online encoder, with its frozen parameters frozen already.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        parameters = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        frozen = {_owner(name) for name, parameter in module.named_parameters() if not parameter.requires_grad}
        saved = module.state_dict().keys()
        statistics = {name for name, _ in module.named_buffers() if name in saved and _owner(name) not in frozen}
        self._parameters_followed = {name: _key(name) for name in sorted(parameters)}
        self._own = {name: _key(name) for name in sorted(parameters | statistics)}
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        for name, key in self._own.items():
            self.register_buffer(key, tensors[name].detach().clone())

    @torch.no_grad()
    def encode(self, module: nn.Module, inputs: Tensor) -> Any:
        """What the module would return with the slow tensors in the place of its own; without gradient.

        Args:
            module: the one that is followed, in the mode it shall run in.
            inputs: its only argument.
        """
        return functional_call(module, {name: getattr(self, key) for name, key in self._own.items()}, (inputs,))

    @torch.no_grad()
    def follow(self, module: nn.Module, momentum: float) -> None:
        """Move each parameter by 1 - momentum towards the module's.

        Args:
            module: the one that is followed.
            momentum: 0..1; 1 stays.
        """
        online = dict(module.named_parameters())
        slow = [getattr(self, key) for key in self._parameters_followed.values()]
        fast = [
            online[name].detach().to(tensor.dtype) for name, tensor in zip(self._parameters_followed, slow, strict=True)
        ]
        torch._foreach_lerp_(slow, fast, 1 - momentum)

    @torch.no_grad()
    def copy_from(self, module: nn.Module) -> None:
        """Begin anew at the module's own values: for weights that were loaded after this copy was made."""
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        for name, key in self._own.items():
            getattr(self, key).copy_(tensors[name])


class BatchNormOverRanks(nn.BatchNorm1d):
    """Batch norm whose statistics in training are those of all processes' batches, on any device.

    torch's SyncBatchNorm is for GPUs alone. The heads are small, so plain collectives cost little here.
    """

    momentum: float
    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C)."""
        if not self.training or _world_size() == 1:
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce

        values = input.float()
        count = len(values) * _world_size()
        mean = all_reduce(values.sum(0)) / count
        centred = values - mean
        variance = all_reduce(centred.square().sum(0)) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(variance.detach() * count / (count - 1), self.momentum)
        normalised = centred * (variance + self.eps).rsqrt()
        if self.affine:
            normalised = normalised * self.weight + self.bias
        return normalised.to(input.dtype)


def projector(channels: int, hidden: int, dimension: int) -> nn.Sequential:
    """Two layers from pooled features (B, channels) to (B, dimension), the last one normalised without scale."""
    return nn.Sequential(
        nn.Linear(channels, hidden, bias=False),
        BatchNormOverRanks(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, dimension, bias=False),
        BatchNormOverRanks(dimension, affine=False),
    )


def predictor(hidden: int, dimension: int) -> nn.Sequential:
    """Two layers from (B, dimension) to (B, dimension): guesses the other view's projection."""
    return nn.Sequential(
        nn.Linear(dimension, hidden, bias=False),
        BatchNormOverRanks(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, dimension, bias=False),
    )


def contrastive_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE of MoCo v3: 2 tau x cross-entropy of picking each query's own key among the keys of all processes.

    Args:
        queries: (B, D), with gradient; of this process.
        keys: (B, D), without gradient; key i belongs to query i. Every process has as many.
        temperature: tau, above 0.

    Returns:
        Scalar float32, mean over this process's queries.
    """
    queries = F.normalize(queries.float(), dim=1)
    keys = F.normalize(keys.detach().float(), dim=1).contiguous()
    own = torch.arange(len(queries), device=queries.device)
    if _world_size() > 1:
        everyone = [torch.empty_like(keys) for _ in range(_world_size())]
        dist.all_gather(everyone, keys)
        keys = torch.cat(everyone)
        own = own + dist.get_rank() * len(queries)
    return 2 * temperature * F.cross_entropy(queries @ keys.T / temperature, own)


def momentum_at(progress: float, start: float) -> float:
    """Momentum of the slow encoder: rises from `start` to 1 along a cosine.

    Args:
        progress: share of the training that is done, 0..1.
        start: momentum at the beginning, 0..1.
    """
    return 1 - (1 - start) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _key(name: str) -> str:
    """A buffer's name must have no dots."""
    return name.replace(".", "-")
