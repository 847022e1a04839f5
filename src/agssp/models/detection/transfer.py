"""Weights carried from one detector to another, or from a backbone to a detector, and what happened to every tensor."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from agssp.errors import InputError
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone


@dataclass(frozen=True)
class TransferReport:
    """Names of the tensors that were carried over, and of those that were not, with the reason.

    Attributes:
        source: Where the weights came from.
        loaded: Tensors of the target that now hold the source's values.
        reinitialised: Tensors of the target that start afresh -> why.
        left_out: Tensors of the source that found no place -> why.
    """

    source: str
    loaded: tuple[str, ...]
    reinitialised: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"weights from {self.source}", f"  {'loaded':<14}{len(self.loaded):>5} tensors"]
        for title, tensors in (("reinitialised", self.reinitialised), ("left out", self.left_out)):
            lines.append(f"  {title:<14}{len(tensors):>5} tensors")
            lines += [f"    {name}: {reason}" for name, reason in tensors.items()]
        return "\n".join(lines)


def load_backbone(model: Any, backbone: AgsspBackbone) -> TransferReport:
    """Take over a pretrained backbone with the input normalisation that it was trained with.

    Args:
        model: Detector whose backbone has its values replaced. How much of it is frozen stays as the detector has it.
        backbone: Backbone of the same architecture, such as `AgsspForPreTraining.backbone`.

    Raises:
        InputError: the architectures differ.
    """
    ours, theirs = model.config.backbone_config, backbone.config
    require_same("backbone", ours.architecture, theirs.architecture)
    place, target = detector_backbone(model)
    state = backbone.state_dict()
    expected = target.state_dict()
    check_fit(expected, state, f"backbone {theirs.architecture}")
    target.load_state_dict(state)
    ours.image_mean, ours.image_std = list(theirs.image_mean), list(theirs.image_std)
    return TransferReport(f"backbone {theirs.architecture}", tuple(f"{place}.{name}" for name in expected))


def detector_backbone(model: Any) -> tuple[str, AgsspBackbone]:
    """The backbone in a detector, and the name that it has there.

    Raises:
        InputError: it has none of ours.
    """
    for name, module in model.named_modules():
        if isinstance(module, AgsspBackbone):
            return name, module
    raise InputError(f"{type(model).__name__} has no AgsspBackbone; build it with one as its backbone_config")


def carry_over(model: Any, source: Any, kind: str, of_the_classes: Collection[str]) -> TransferReport:
    """Take over another detector's weights and input normalisation, all but some tensors that belong to its classes.

    Args:
        model: Detector that receives; its classes, its image size and its freezing stay.
        source: Detector of the same make.
        kind: What the source is, for the report.
        of_the_classes: Names of the tensors that depend on the classes, and stay as `model` has them.

    Raises:
        InputError: the other tensors do not fit.
    """
    ours, theirs = class_names(model), class_names(source)
    state = source.state_dict()
    carried = {name: value for name, value in state.items() if name not in of_the_classes}
    expected = {name: value for name, value in model.state_dict().items() if name not in of_the_classes}
    check_fit(expected, carried, "the source model")
    model.load_state_dict(carried, strict=False)
    mean_std = source.config.backbone_config
    model.config.backbone_config.image_mean = list(mean_std.image_mean)
    model.config.backbone_config.image_std = list(mean_std.image_std)
    return TransferReport(
        f"{kind} with {len(theirs)} classes ({listed(theirs)})",
        tuple(carried),
        dict.fromkeys(of_the_classes, f"{len(ours)} classes of its own ({listed(ours)})"),
        dict.fromkeys(of_the_classes, "belongs to the source's classes"),
    )


def class_names(model: Any) -> list[str]:
    """Names of a detector's classes in the order of its logits."""
    names = model.config.id2label
    return [names[index] for index in range(len(names))]


def check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Raise InputError unless both have the same names and shapes."""
    problems = {
        "missing": [name for name in expected if name not in given],
        "unexpected": [name for name in given if name not in expected],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} for {tuple(value.shape)}"
            for name, value in expected.items()
            if name in given and given[name].shape != value.shape
        ],
    }
    raise_for_problems(problems, source)


def raise_for_problems(problems: Mapping[str, Iterable[str]], source: str) -> None:
    """Raise InputError that names the first few tensors of each kind of problem, if there are any."""
    lists = {kind: list(names) for kind, names in problems.items()}
    found = [f"{len(names)} {kind} ({listed(names)})" for kind, names in lists.items() if names]
    if found:
        raise InputError(f"the tensors of {source} do not fit the model: {'; '.join(found)}")


def require_same(what: str, ours: Any, theirs: Any) -> None:
    """Raise InputError that names both unless they are equal."""
    if ours != theirs:
        raise InputError(
            f"{what} differs: this detector has {ours}, the source has {theirs}; build the detector with {theirs}"
        )


def listed(names: list[str], limit: int = 6) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")
