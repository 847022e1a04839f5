"""Knowledge in words -> the prompts whose text features stand for `normal` and `anomalous` (METHOD 1.3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# WinCLIP's photo templates (Jeong et al., CVPR 2023, appendix A).
TEMPLATES = (
    "a cropped photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)


@dataclass(frozen=True)
class Knowledge:
    """Words for one category.

    Attributes:
        object: how the object is called in a prompt, for instance `steel plate`.
        normal: phrases for a sound object beside the general ones.
        defects: defect type -> how it appears.
    """

    object: str
    normal: tuple[str, ...] = ()
    defects: Mapping[str, str] = field(default_factory=dict)


def normal_states(knowledge: Knowledge) -> list[str]:
    """Phrases for a sound object: four general ones and the category's own."""
    word = knowledge.object
    return [word, f"flawless {word}", f"perfect {word}", f"unblemished {word}", *knowledge.normal]


def anomalous_states(knowledge: Knowledge) -> list[str]:
    """Phrases for a defective object: four general ones and one for each known defect, in the paper's form."""
    word = knowledge.object
    known = [f"{word} with {kind} defect, it appears as {features}" for kind, features in knowledge.defects.items()]
    return [f"damaged {word}", f"{word} with flaw", f"{word} with defect", f"{word} with damage", *known]


def fill_templates(states: list[str]) -> list[str]:
    """Every state in every template; states vary slowest."""
    return [template.format(state) for state in states for template in TEMPLATES]


def empty_prompts() -> list[str]:
    """The templates around nothing: what text features have in common whatever the object (CLIP Surgery)."""
    return [template.format("").replace(" .", ".").replace("  ", " ") for template in TEMPLATES]
