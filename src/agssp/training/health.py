"""Is a pretraining run healthy? Its numbers, what they must beat, and a verdict in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEALTHY, EARLY, UNKNOWN, WRONG = "healthy", "too early to say", "not measured", "something looks wrong"
JUDGED_FROM = 0.25
"""Share of the steps before which low alignment is not held against a run."""
FEWEST_IMAGES = 8
"""Among fewer held-out images, few directions of features and a chance likeness of maps mean nothing."""
SAME_EVERYWHERE = 0.9
"""Share of the alignment that remains with the maps of other images, from which on the image hardly matters."""


@dataclass(frozen=True)
class RunHealth:
    """How a run stands.

    Attributes:
        history: the Trainer's log: mappings with `epoch` and `step`, with losses, or with numbers of held-out images
            under the prefix `eval_`.
        start: what the starting weights scored on the held-out images, without prefix; empty without such images.
        levels: what fixed attention scores there, see `fixed_attention_levels`; empty without maps.
        images: how many are held out.
        step: of the optimizer, so far.
        max_steps: of the whole run.
        unit: what the log is drawn over, `epoch` or, for a stream, `step`.
    """

    history: Sequence[Mapping[str, Any]]
    start: Mapping[str, float]
    levels: Mapping[str, Mapping[str, float]]
    images: int
    step: int
    max_steps: int
    unit: str = "epoch"

    @property
    def latest(self) -> dict[str, float]:
        """The numbers of the last evaluation, without prefix; of the starting weights before the first one."""
        for entry in reversed(self.history):
            found = {key.removeprefix("eval_"): value for key, value in entry.items() if key.startswith("eval_")}
            if found:
                return found
        return dict(self.start)

    @property
    def losses(self) -> dict[str, float]:
        """The last training losses and their weight, as they were logged."""
        return next((dict(entry) for entry in reversed(self.history) if "loss" in entry), {})

    @property
    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.step >= self.max_steps > 0

    @property
    def moment(self) -> str:
        """Where the run is, such as `epoch 3 of 20`."""
        epoch = next((entry["epoch"] for entry in reversed(self.history) if "epoch" in entry), 0.0)
        if self.unit == "step" or not self.step:
            return f"step {self.step} of {self.max_steps}"
        return f"epoch {round(epoch, 2):g} of {round(epoch * self.max_steps / self.step, 2):g}"


def verdict(health: RunHealth) -> tuple[str, list[str]]:
    """Judge a run by its numbers alone.

    Returns:
        `HEALTHY`, `EARLY` (nothing is wrong, but it has hardly begun), `UNKNOWN` (nothing is held out) or `WRONG`, and
        for each thing that looks wrong a sentence on what it is and one on what to do.
    """
    problems = _not_finite(health)
    if not problems:
        problems = _collapse(health)
        if health.step >= JUDGED_FROM * health.max_steps:
            problems += _attention(health)
    if problems:
        return WRONG, problems
    if not health.start:
        return UNKNOWN, []
    return (HEALTHY if health.step >= JUDGED_FROM * health.max_steps else EARLY), []


def _not_finite(health: RunHealth) -> list[str]:
    for entry in health.history:
        for key, value in entry.items():
            if key.startswith(("loss", "eval_")) and not math.isfinite(value):
                place = f"{health.unit} {entry.get(health.unit, 0):g}"
                return [
                    f"`{key}` is not a finite number since {place}. The weights are spoilt: begin anew in another "
                    "folder, with a lower `--learning-rate` and without `--fp16` or `--bf16` if one was given."
                ]
    return []


def _collapse(health: RunHealth) -> list[str]:
    now, before = health.latest.get("feature_rank"), health.start.get("feature_rank")
    # A few images span few directions whatever their features are.
    if now is None or before is None or health.images < FEWEST_IMAGES or now >= max(2.0, before / 10):
        return []
    return [
        f"The features have collapsed: they vary in {now:.1f} directions (effective rank), those of the starting "
        f"weights in {before:.1f}, so they hardly tell images apart. Lower the `--learning-rate`, keep more stages as "
        "they are with `--frozen-stages`, or train on a richer task (`--objective`, more categories)."
    ]


def _attention(health: RunHealth) -> list[str]:
    problems = []
    now, before = health.latest.get("alignment"), health.start.get("alignment")
    fixed = health.levels.get("mean_map", {}).get("alignment")
    if now is not None and before is not None and now <= before:
        problems.append(
            f"The attention agrees with the anomaly maps no better than that of the starting weights: alignment "
            f"{now:.3f}, at the start {before:.3f}. Train longer, give the maps more weight (`--loss-weights`), freeze "
            "fewer stages (`--frozen-stages`), and see whether the maps show defects at all (`agssp pseudo-boxes "
            "--report`)."
        )
    if now is not None and fixed is not None and now <= fixed:
        problems.append(
            f"One map for all images would agree better: alignment {now:.3f}, of the mean map {fixed:.3f}. So usual "
            "places, such as borders, tell more of the maps than what was learned. Train longer; and where the maps "
            "are hot at the same border everywhere, cut it off the images or choose other references."
        )
    elsewhere = health.latest.get("alignment_elsewhere")
    enough = health.images >= FEWEST_IMAGES
    if enough and now is not None and elsewhere is not None and now > 0 and elsewhere >= SAME_EVERYWHERE * now:
        problems.append(
            f"The attention is much the same in all images: alignment {now:.3f} with an image's own map, "
            f"{elsewhere:.3f} with those of other images. It has learned places, and no defects yet. Train longer or "
            "with a higher `--learning-rate`."
        )
    loss, constant = (
        numbers.get("distillation_loss") for numbers in (health.latest, health.levels.get("constant_map", {}))
    )
    if loss is not None and constant is not None and loss > constant:
        problems.append(
            f"Attention that is the same everywhere would be nearer to the maps: distillation loss {loss:.4f}, of a "
            f"constant {constant:.4f}. Train longer or give the maps more weight (`--loss-weights`); maps that are "
            "nearly flat, where a constant is hard to beat, are for `--map-target centered`."
        )
    return problems


def health_line(health: RunHealth) -> str:
    """A line for the terminal: losses in training and on held-out images, and what there is to compare with."""
    latest, losses = health.latest, health.losses
    parts = []
    for name in ("task", "distillation"):
        values = [f"{losses[f'loss_{name}']:.4f}"] if f"loss_{name}" in losses else []
        values += [f"held out {latest[f'{name}_loss']:.4f}"] if f"{name}_loss" in latest else []
        parts += [f"{name} loss {', '.join(values)}"] if values else []
    if "alignment" in latest:
        beside = {
            "start": health.start.get("alignment"),
            "mean map": health.levels.get("mean_map", {}).get("alignment"),
            "with other images' maps": latest.get("alignment_elsewhere"),
        }
        known = ", ".join(f"{key} {value:.3f}" for key, value in beside.items() if value is not None)
        parts.append(f"alignment {latest['alignment']:.3f} ({known})")
    if "accuracy" in latest:
        parts.append(f"accuracy {latest['accuracy']:.3f}")
    if "feature_rank" in latest:
        parts.append(f"feature rank {latest['feature_rank']:.1f}")
    return f"{health.moment}: " + "; ".join(parts)
