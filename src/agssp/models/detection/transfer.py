"""What happened to every tensor when weights were carried from one model to another."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
