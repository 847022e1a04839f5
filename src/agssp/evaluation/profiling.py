"""What a network costs: parameters, FLOPs, memory, and how many images it takes in a second beside another one."""

import os
import platform
import time
import weakref
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

COUNTED = """\
FLOPs are of one image; a multiplication and its addition are two. Counted are convolutions, matrix products (those of
attention too) and bilinear sampling (of deformable attention and of pooled regions); not norms, activations and other
elementwise work, sorting, suppression."""
"""What `count_flops` counts, for people."""

BILINEAR = 8
"""FLOPs of an interpolated value: four products and their sum."""

WARM_UP = 2


def count_parameters(network: nn.Module) -> int:
    """Numbers in a network's parameters, frozen ones included, buffers not."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, pixel_values: Tensor) -> int:
    """FLOPs of one forward pass; see `COUNTED`.

    Args:
        network: In eval mode.
        pixel_values: (B, 3, H, W) on the network's device.
    """
    formulas: dict[Any, Any] = {
        torch.ops.aten.grid_sampler_2d: _sampling_flops,
        torch.ops.torchvision.roi_align: _pooling_flops,
    }
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    fast = torch.backends.mha.get_fastpath_enabled()
    # The counter has no formula for the fused attention of CPUs; unfused, attention is matrix products.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for parameter in trained:
            # The counter trips over views of them in a pass without gradients.
            parameter.requires_grad_(False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(None, 2, False, formulas) as counter:
            network(pixel_values)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops()


def peak_memory(network: nn.Module, pixel_values: Tensor, device: torch.device) -> int:
    """Bytes of all tensors when there are most in one forward pass: weights, input and what lies between.

    On a GPU it is what the allocator had given out, with the work space of kernels but for what libraries took at the
    first pass of all and keep; on a CPU, which keeps no such count, the storages that operations have returned and that
    are still alive, without work space.

    Args:
        network: In eval mode. It is moved to the device, and back to the CPU afterwards.
        pixel_values: (B, 3, H, W).
        device: Where to run.
    """
    if device.type != "cuda":
        with torch.inference_mode(), _LivingStorages() as living:
            for tensor in (*network.parameters(), *network.buffers(), pixel_values):
                living.add(tensor)
            network(pixel_values)
        return living.peak
    peak = 0
    for _ in range(2):  # at the first pass of all, the libraries take work space that they keep
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with torch.inference_mode():
            network.to(device)(pixel_values.to(device))
        peak = torch.cuda.max_memory_allocated(device) - before
        network.cpu()
    return peak


class _LivingStorages(TorchDispatchMode):
    """Counts the bytes of the storages that operations return, for as long as anything refers to them."""

    def __init__(self) -> None:
        super().__init__()
        self.living = self.peak = 0
        self.seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is counted already."""
        storage = tensor.untyped_storage()
        if storage in self.seen:
            return
        self.seen.add(storage)
        self.living += storage.nbytes()
        self.peak = max(self.peak, self.living)
        weakref.finalize(storage, self._subtract, storage.nbytes())

    def _subtract(self, size: int) -> None:
        self.living -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result


def time_in_turns(
    networks: Mapping[str, Callable[[Tensor], Any]], pixel_values: Tensor, repeats: int
) -> dict[str, np.ndarray]:
    """Seconds of each forward pass, the networks taking turns so that what else the machine does meets all alike.

    Args:
        networks: In eval mode, by name.
        pixel_values: (B, 3, H, W) on the networks' device.
        repeats: Rounds that are timed, after `WARM_UP` that are not.

    Returns:
        For each name (repeats,) float64.
    """
    spent = {name: np.empty(repeats) for name in networks}
    with torch.inference_mode():
        for number in range(-WARM_UP, repeats):
            # Who comes second finds caches as the first left them, so the order changes from round to round.
            for name in list(networks)[:: 1 if number % 2 else -1]:
                _finish(pixel_values.device)
                start = time.perf_counter()
                networks[name](pixel_values)
                _finish(pixel_values.device)
                if number >= 0:
                    spent[name][number] = time.perf_counter() - start
    return spent


def _finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def hardware(device: torch.device) -> str:
    """What was measured on: the device's name, threads of a CPU, and torch's version."""
    if device.type == "cuda":
        tf32 = "TF32 convolutions" if torch.backends.cudnn.allow_tf32 else "no TF32"
        machine = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, {tf32}"
    else:
        machine = f"{_cpu_name()}, {torch.get_num_threads()} threads on {os.cpu_count()} processors"
    return f"{machine}, float32, torch {torch.__version__}"


def _cpu_name() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _sampling_flops(*_: Any, out_shape: Any, **__: Any) -> int:
    """Of `grid_sample`: one interpolation a value."""
    return BILINEAR * prod(out_shape)


def _pooling_flops(
    _: Any, boxes: Any, scale: Any, height: Any, width: Any, ratio: int, *__: Any, out_shape: Any, **___: Any
) -> int:
    """Of `roi_align` with a fixed number of samples: a value is the mean of a square of interpolations."""
    return BILINEAR * ratio**2 * prod(out_shape)
