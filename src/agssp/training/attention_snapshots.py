"""Keeps what a backbone's attention looks like on a few held-out images: at the start, in the middle and now."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from agssp.data.training_sets import PretrainingImages, maps_in_order
from agssp.errors import InputError
from agssp.files import remove_leftovers, whole_file
from agssp.models.pretraining.distillation import attention_map
from agssp.parsing import parse_json
from agssp.tensor_files import open_tensors

FOLDER = "attention"
EXAMPLES = "examples.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """Attention at one moment.

    Attributes:
        step: of the optimizer.
        moment: the same in words, such as `epoch 3`.
        attention: name of a stage -> (n, H, W) float32, as `attention_map` gives it.
    """

    step: int
    moment: str
    attention: dict[str, Tensor]


@dataclass(frozen=True)
class Examples:
    """The images that the snapshots show.

    Attributes:
        images: (n, S, S, 3) uint8 RGB, as the backbone sees them.
        anomaly_maps: (n, h, w) float32; None without maps.
        categories: n names.
        snapshots: in the order of their steps.
    """

    images: np.ndarray
    anomaly_maps: Tensor | None
    categories: list[str]
    snapshots: list[Snapshot]


class AttentionSnapshots:
    """Takes the snapshots of a run; on the main process alone.

    Args:
        output: the run's folder; the files come to `attention/` in it.
        images: the held-out ones.
    """

    def __init__(self, output: Path, images: PretrainingImages) -> None:
        self.output, self.images = output, images
        self._pixel_values: Tensor | None = None

    def begin(self, model: Any, *, resumed: bool) -> None:
        """Choose the images and take the first snapshot, of the starting weights in eval mode.

        Args:
            model: `AgsspForPreTraining`.
            resumed: whether the run goes on, so that the first snapshot is kept if there is one.
        """
        rows = choose_examples(list(self.images.dataset["category"]), self._peaks())
        items = [self.images[row] for row in rows]
        self._pixel_values = torch.stack([item["pixel_values"] for item in items])
        if not resumed:
            shutil.rmtree(self.output / FOLDER, ignore_errors=True)
        remove_leftovers(self.output / FOLDER, alone=True)
        if _file(self.output, 0).is_file():
            return
        settings = model.backbone.config
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (settings.image_mean, settings.image_std))
        pixels = ((self._pixel_values * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        maps = torch.stack([item["anomaly_maps"] for item in items]) if "anomaly_maps" in items[0] else None
        categories = [model.config.id2label[int(item["labels"])] for item in items]
        write_examples(self.output, pixels.permute(0, 2, 3, 1), maps, categories)
        self.take(model, 0, 1, "start")

    @torch.no_grad()
    def take(self, model: Any, step: int, max_steps: int, moment: str) -> None:
        """Take a snapshot, and keep it beside the first one and the first one past the middle of the run.

        Args:
            model: `AgsspForPreTraining` in eval mode.
            step: of the optimizer.
            max_steps: steps of the whole run.
            moment: the step in words.
        """
        assert self._pixel_values is not None, "begin() chooses the images"
        backbone = model.backbone
        features = dict(
            zip(backbone.out_indices, backbone(self._pixel_values.to(model.device)).feature_maps, strict=True)
        )
        attention = {
            backbone.stage_names[layer]: attention_map(features[layer]) for layer in model.config.distill_layers
        }
        write_snapshot(self.output, Snapshot(step, moment, attention))
        steps = _steps(self.output)
        middle = [other for other in steps if max_steps / 2 <= other <= step]
        for other in set(steps) - {0, step, *middle[:1]}:
            _file(self.output, other).unlink()

    def _peaks(self) -> list[float]:
        """How far the highest place of each image's map stands out; 0 without maps."""
        found = maps_in_order(self.images.dataset, self.images.maps)
        heights = (0.0 if each is None else np.ptp(each.astype(np.float32)) for each in found)
        return [float(np.nan_to_num(height)) for height in heights]


def choose_examples(categories: Sequence[int], peaks: Sequence[float], count: int = 6) -> list[int]:
    """Rows of images to look at: spread over the categories, striking maps and ordinary ones in turn.

    Args:
        categories: category of each image.
        peaks: how striking the map of each is.
        count: how many rows at most.

    Returns:
        Row indices in the order of their categories.
    """
    present = sorted(set(categories))
    if len(present) > count:
        present = [present[index * len(present) // count] for index in range(count)]
    waiting = {category: [row for row, other in enumerate(categories) if other == category] for category in present}
    for rows in waiting.values():
        rows.sort(key=lambda row: -peaks[row])
    chosen: dict[int, list[int]] = {category: [] for category in present}
    for turn in range(len(categories)):
        for place, category in enumerate(present):
            rows = waiting[category]
            if rows and sum(map(len, chosen.values())) < count:
                striking = (turn + place) % 2 == 0
                chosen[category].append(rows.pop(0 if striking else len(rows) // 2))
    return [row for rows in chosen.values() for row in rows]


def write_examples(output: Path, images: Tensor, anomaly_maps: Tensor | None, categories: Sequence[str]) -> None:
    """Write the images that the snapshots show; arguments as the attributes of `Examples`, but images as a tensor."""
    tensors = {"images": images.contiguous()}
    if anomaly_maps is not None:
        tensors["anomaly_maps"] = anomaly_maps.float().contiguous()
    _write(output / FOLDER / EXAMPLES, tensors, {"categories": json.dumps(list(categories))})


def write_snapshot(output: Path, snapshot: Snapshot) -> None:
    """Write one snapshot of a run."""
    tensors = {name: values.cpu().contiguous() for name, values in snapshot.attention.items()}
    # A file of tensors does not keep their order.
    facts = {"moment": snapshot.moment, "stages": json.dumps(list(tensors))}
    _write(_file(output, snapshot.step), tensors, facts)


def read_examples(output: Path) -> Examples | None:
    """What a run has kept so far; None if there is nothing.

    Args:
        output: the run's folder.
    """
    file = output / FOLDER / EXAMPLES
    if not file.is_file():
        return None
    tensors, facts = _read(file)
    snapshots = []
    for step in _steps(output):
        attention, about = _read(_file(output, step))
        place = _file(output, step)
        _need(place, about, attention, "moment", "stages")
        stages = parse_json(about["stages"], f"{place}, metadata 'stages'")
        _need(place, {}, attention, *stages)
        snapshots.append(Snapshot(step, about["moment"], {name: attention[name] for name in stages}))
    _need(file, facts, tensors, "images", "categories")
    categories = parse_json(facts["categories"], f"{file}, metadata 'categories'")
    return Examples(tensors["images"].numpy(), tensors.get("anomaly_maps"), categories, snapshots)


def _need(file: Path, facts: dict[str, str], tensors: dict[str, Tensor], *names: str) -> None:
    missing = [name for name in names if name not in facts and name not in tensors]
    if missing:
        raise InputError(f"{file}: lacks {', '.join(missing)}; remove the folder it lies in, and nothing is drawn")


def _file(output: Path, step: int) -> Path:
    return output / FOLDER / f"step-{step:08d}.safetensors"


def _steps(output: Path) -> list[int]:
    return sorted(int(file.stem.removeprefix("step-")) for file in (output / FOLDER).glob("step-*.safetensors"))


def _write(file: Path, tensors: dict[str, Tensor], facts: dict[str, str]) -> None:
    """In one step: a reader sees the old file or the new one, never half of it."""
    with whole_file(file) as part:
        save_file(tensors, part, metadata=facts)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with open_tensors(file) as content:
        return {name: content.get_tensor(name) for name in content.keys()}, content.metadata() or {}  # noqa: SIM118
