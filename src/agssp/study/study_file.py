"""Read a study file: data sets, starts, backbones and rows of one comparison, with all its faults listed at once."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from agssp.arguments import find_config
from agssp.errors import InputError

STAGES = ("anomaly_maps", "pseudo_boxes", "pretrain_backbone", "pretrain_detector", "finetune")
"""Stages whose flags a study sets, in the order of the chain."""
SYNTHETIC = "synthetic:"
"""Prefix of a data set that the study makes itself: `synthetic:unlabelled`, `synthetic:labelled`."""
STAND_IN = "stand_in"
"""Source of random weights that take the place of published ones, in scales that only show that a study runs."""
SUBSETS = ("per_class", "count", "fraction", "all")
KINDS = ("cells", "thresholds")

_STUDY_KEYS = {"title": str, "kind": str, "about": str, "starts": dict, "groups": dict, "rows": list, "varies": list,
               "flags": dict, "pretraining_seed": int, "x_label": str, "scales": dict}  # fmt: skip
_GROUP_KEYS = {"backbone": str, "detector": str, "flags": dict}
_ROW_KEYS = {"label": str, "group": str, "start": str, "x": (int, float), "series": str, "paper": dict,
             **dict.fromkeys(STAGES, dict)}  # fmt: skip
_SCALE_KEYS = {"warning": str, "seeds": list, "corpus": dict, "data": dict, "weights": dict, "flags": dict,
               "groups": dict, "synthetic": dict}  # fmt: skip
_CORPUS_KEYS = {"dataset": str, "split": str, "category": str, "maps": str, "boxes": str}
_DATA_KEYS = {"dataset": str, "test": str, "holdout": float, "subset": dict, "split": str}
_SYNTHETIC_KEYS = dict.fromkeys(("unlabelled", "labelled", "normal", "seed", "size"), int)


@dataclass(frozen=True)
class Group:
    """Rows with the same networks.

    Attributes:
        name: heading in the table.
        backbone: as `agssp pretrain-backbone --backbone` takes it.
        detector: as `agssp pretrain-detector --detector` takes it.
        flags: stage -> flags of this group alone.
    """

    name: str
    backbone: str
    detector: str
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        label: its name.
        group: name of its group; empty in a study without groups.
        start: `scratch` or one of the study's starts.
        stages: stage -> flags; a pretraining stage that is not here is not run for this row.
        x: place on the axis of a line plot, where the study has one.
        series: its line in that plot.
        paper: data set -> published mAP@.5 and mAP@.5:.95 in percent.
    """

    label: str
    group: str
    start: str
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    x: float | None = None
    series: str = ""
    paper: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """A labelled data set and which of its images are for training.

    Attributes:
        name: heading in the table.
        dataset: path or Hub id; empty if none was given yet.
        test: own test set; without one the images that are not for training.
        holdout: share of the images that is put aside for testing before the training images are drawn.
        how: one of `SUBSETS`.
        amount: images a class, images, or share; 0 for `all`.
        split: split of `dataset` to read.
    """

    name: str
    dataset: str
    test: str | None = None
    holdout: float | None = None
    how: str = "all"
    amount: float = 0
    split: str | None = None


@dataclass(frozen=True)
class Study:
    """A study at one scale, as the file and the command line together say.

    Attributes:
        name: of the file.
        title: heading of the results.
        kind: `cells` (finetuned detectors are compared) or `thresholds` (maps against masks).
        about: a sentence or two for the results.
        scale: its name.
        warning: what must be said above numbers of this scale.
        starts: start -> `backbone` or `detector`: what its weights are of.
        groups: name -> group.
        rows: the rows, in order.
        varies: flags of finetuning in which rows may differ, as `finetune.frozen_stages`.
        flags: stage -> flags of all groups.
        seeds: of splits and finetuning.
        pretraining_seed: of all that comes before.
        x_label: what the rows' `x` is.
        corpus: `dataset`, `split`, `category`, and `maps` and `boxes` where they exist already.
        data: labelled data sets, in order.
        weights: (start, backbone) -> source.
        synthetic: what `make_surfaces` makes for `synthetic:` data sets.
    """

    name: str
    title: str
    scale: str
    kind: str = "cells"
    about: str = ""
    warning: str = ""
    starts: dict[str, str] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    varies: tuple[str, ...] = ()
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    pretraining_seed: int = 0
    x_label: str = ""
    corpus: dict[str, str] = field(default_factory=dict)
    data: tuple[DataSet, ...] = ()
    weights: dict[tuple[str, str], str] = field(default_factory=dict)
    synthetic: dict[str, int] = field(default_factory=dict)


def packaged_studies() -> list[str]:
    """Names of the studies that come with the package."""
    names = (Path(item.name) for item in files("agssp.study").joinpath("studies").iterdir())
    return sorted(name.stem for name in names if name.suffix == ".yaml")


def read_study(
    source: str,
    scale: str,
    faults: list[str],
    *,
    data: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
    seeds: Iterable[int] | None = None,
) -> Study:
    """Read a study at one of its scales.

    Args:
        source: name of a packaged study, or a YAML file.
        scale: one of the file's `scales`.
        faults: gets a sentence for everything that cannot be used; what is sound is returned all the same.
        data: `NAME`, `NAME/test`, `corpus`, `maps` or `boxes` -> path or Hub id, in place of the file's.
        weights: `start/backbone` -> source, in place of the file's.
        seeds: in place of the file's.

    Returns:
        The study. Paths in it are as written: relative to the working directory, like those of every command.

    Raises:
        InputError: there is no such study or scale, or the file is not a table.
    """
    name, table = _load(source)
    table = _checked(table, "study", _STUDY_KEYS, faults, required=("title", "scales"))
    scales = table.get("scales", {})
    if scale not in scales:
        raise InputError(f"--scale {scale!r}: {name} has {', '.join(map(repr, scales)) or 'no scales'}")
    at = f"scales.{scale}"
    chosen = _checked(scales[scale], at, _SCALE_KEYS, faults)
    kind = table.get("kind", "cells")
    if kind not in KINDS:
        faults.append(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    starts = {str(start): str(kind) for start, kind in table.get("starts", {"imagenet": "backbone"}).items()}
    for start, of in starts.items():
        if of not in ("backbone", "detector"):
            faults.append(f"starts.{start} {of!r}: expected 'backbone' or 'detector', what its weights are of")
    varies = tuple(map(str, table.get("varies", ())))
    groups = _groups(table.get("groups", {}), chosen.get("groups", {}), at, faults)
    found_seeds = tuple(chosen.get("seeds", (0,)) if seeds is None else seeds)
    if not found_seeds or not all(type(seed) is int for seed in found_seeds):
        faults.append(f"{at}.seeds {list(found_seeds)!r}: expected one whole number or more")
        found_seeds = ()
    if len(set(found_seeds)) < len(found_seeds):
        faults.append(f"seeds {list(found_seeds)}: one comes twice, which would count it twice")
    corpus = _checked(chosen.get("corpus", {}), f"{at}.corpus", _CORPUS_KEYS, faults)
    sets = _data(chosen.get("data", {}), f"{at}.data", dict(data or {}), corpus, faults)
    rows = _rows(table.get("rows", []), groups, starts, varies, [entry.name for entry in sets], faults)
    return Study(
        name=name,
        title=table.get("title", name),
        scale=scale,
        kind=kind,
        about=table.get("about", ""),
        warning=chosen.get("warning", ""),
        starts=starts,
        groups=groups,
        rows=rows,
        varies=varies,
        flags=merged(
            _stage_flags(table.get("flags", {}), "flags", faults),
            _stage_flags(chosen.get("flags", {}), f"{at}.flags", faults),
        ),
        seeds=found_seeds,
        pretraining_seed=table.get("pretraining_seed", 0),
        x_label=table.get("x_label", ""),
        corpus=corpus,
        data=sets,
        weights=_weights(chosen.get("weights", {}), weights or {}, starts, groups, at, faults),
        synthetic=_checked(chosen.get("synthetic", {}), f"{at}.synthetic", _SYNTHETIC_KEYS, faults),
    )


def merged(*tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Flags of several tables, stage by stage; later ones win."""
    result: dict[str, dict[str, Any]] = {}
    for table in tables:
        for stage, flags in table.items():
            result[stage] = result.get(stage, {}) | dict(flags)
    return result


def near(word: str, known: Iterable[str]) -> str:
    """A hint at names like this one, or a list of all."""
    names = [str(name) for name in known]
    found = difflib.get_close_matches(word, names, n=3)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else f"known are {', '.join(names) or 'none'}"


def _load(source: str) -> tuple[str, Any]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise InputError(f"study {source}: no such file; packaged are {', '.join(packaged_studies())}")
        text = path.read_text(encoding="utf-8")
    elif source in packaged_studies():
        text = files("agssp.study").joinpath("studies", f"{source}.yaml").read_text(encoding="utf-8")
    else:
        raise InputError(f"study {source!r}: not packaged and no .yaml file; {near(source, packaged_studies())}")
    try:
        return path.stem, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"study {source}: not valid YAML: {error}") from error


def _checked(
    table: Any, where: str, expected: Mapping[str, Any], faults: list[str], required: Iterable[str] = ()
) -> dict[str, Any]:
    """The entries of a table that are known and of the right kind; a fault for each other one."""
    if not isinstance(table, dict):
        faults.append(f"{where}: expected a table of {', '.join(expected)}, got {table!r}")
        return {}
    result = {}
    for key, value in table.items():
        if key not in expected:
            faults.append(f"{where}: no key {key!r}; {near(str(key), expected)}")
        elif value is None:
            continue
        elif expected[key] is float and isinstance(value, int) and not isinstance(value, bool):
            result[key] = float(value)
        elif not isinstance(value, expected[key]) or isinstance(value, bool):
            kinds = expected[key] if isinstance(expected[key], tuple) else (expected[key],)
            faults.append(f"{where}.{key}: expected {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")
        else:
            result[key] = value
    faults += [f"{where}: lacks {key!r}" for key in required if key not in table]
    return result


def _stage_flags(table: Any, where: str, faults: list[str]) -> dict[str, dict[str, Any]]:
    stages = _checked(table, where, dict.fromkeys(STAGES, dict), faults)
    return {stage: _flags(stage, flags, where, faults) for stage, flags in stages.items()}


def _flags(stage: str, flags: dict, where: str, faults: list[str]) -> dict[str, Any]:
    """Flags of a stage, a `config` among them replaced by what is in it, so that the study shows all values."""
    named = {str(name).replace("-", "_"): value for name, value in flags.items()}
    config = named.pop("config", None)
    if config is None:
        return named
    try:
        values = yaml.safe_load(find_config(str(config), stage.replace("_", "-")).read_text(encoding="utf-8")) or {}
    except (InputError, yaml.YAMLError) as error:
        faults.append(f"{where}.{stage}: {error}")
        return named
    # Which networks and weights there are is the study's own to say.
    own = ("backbone", "detector", "start")
    return {str(name).replace("-", "_"): value for name, value in values.items() if name not in own} | named


def _groups(table: dict, of_scale: dict, at: str, faults: list[str]) -> dict[str, Group]:
    faults += [f"{at}.groups: no group {name!r}; {near(str(name), table)}" for name in of_scale if name not in table]
    groups = {}
    for name, value in table.items():
        own = _checked(value, f"groups.{name}", _GROUP_KEYS, faults)
        scaled = _checked(of_scale.get(name) or {}, f"{at}.groups.{name}", _GROUP_KEYS, faults)
        flags = merged(
            _stage_flags(own.get("flags", {}), f"groups.{name}.flags", faults),
            _stage_flags(scaled.get("flags", {}), f"{at}.groups.{name}.flags", faults),
        )
        both = own | scaled
        missing = [key for key in ("backbone", "detector") if key not in both]
        faults += [f"groups.{name}: lacks {key!r}" for key in missing]
        groups[str(name)] = Group(str(name), both.get("backbone", ""), both.get("detector", ""), flags)
    return groups


def _rows(
    lines: list, groups: dict[str, Group], starts: dict[str, str], varies: tuple[str, ...], sets: list[str],
    faults: list[str],
) -> tuple[Row, ...]:  # fmt: skip
    rows: list[Row] = []
    for number, value in enumerate(lines, 1):
        label = value.get("label", "") if isinstance(value, dict) else ""
        where = f"row {number}" + (f" ({label})" if label else "")
        row = _checked(value, where, _ROW_KEYS, faults, required=("label", "group", "start"))
        before = len(faults)
        group, start = row.get("group", ""), row.get("start", "")
        if "group" in row and group not in groups:
            faults.append(f"{where}: no group {group!r}; {near(group, groups)}")
        if "start" in row and start not in ("scratch", *starts):
            faults.append(f"{where}: no start {start!r}; {near(start, ['scratch', *starts])}")
        stages = {stage: _flags(stage, row[stage], where, faults) for stage in STAGES if stage in row}
        for flag in stages.get("finetune", {}):
            if f"finetune.{flag}" not in varies:
                faults.append(
                    f"{where}: sets finetune.{flag}, which the other rows do not; rows are finetuned alike except for "
                    f"what `varies` lists ({', '.join(varies) or 'nothing'})"
                )
        if starts.get(start) == "detector" and "pretrain_backbone" in stages and "pretrain_detector" not in stages:
            faults.append(
                f"{where}: pretrains the backbone of the detector {start!r} alone; finetuning would lose its neck and "
                "head, so add `pretrain_detector`"
            )
        paper = row.get("paper", {})
        for name, numbers in paper.items():
            if not isinstance(numbers, list) or len(numbers) != 2:
                faults.append(f"{where}.paper.{name}: expected [mAP@.5, mAP@.5:.95] in percent, got {numbers!r}")
        if any((other.group, other.label) == (group, label) for other in rows):
            faults.append(f"{where}: a row of this label is in the group {group!r} already")
        if len(faults) == before and {"label", "group", "start"} <= row.keys():
            rows.append(Row(label, group, start, stages, row.get("x"), row.get("series", ""), paper))
    return tuple(rows)


def _data(
    table: dict, where: str, given: dict[str, str], corpus: dict[str, str], faults: list[str]
) -> tuple[DataSet, ...]:
    for name, key in (("corpus", "dataset"), ("maps", "maps"), ("boxes", "boxes")):
        if name in given:
            corpus[key] = given.pop(name)
    sets = []
    for name, value in table.items():
        at = f"{where}.{name}"
        entry = _checked(value or {}, at, _DATA_KEYS, faults)
        for key, word in (("dataset", name), ("test", f"{name}/test")):
            if word in given:
                entry[key] = given.pop(word)
        subset = entry.get("subset", {"all": True})
        how: str = next(iter(subset), "")
        amount: Any = subset.get(how)
        if len(subset) != 1 or how not in SUBSETS:
            faults.append(f"{at}.subset {subset!r}: expected one of {', '.join(SUBSETS)} with its number")
            continue
        fits = amount is True if how == "all" else isinstance(amount, int | float) and not isinstance(amount, bool)
        if not fits or (how != "all" and amount <= 0) or (how == "fraction" and amount >= 1):
            faults.append(f"{at}.subset.{how} {amount!r}: expected " + {
                "all": "true", "fraction": "a share between 0 and 1"}.get(how, "a whole number above 0"))  # fmt: skip
            continue
        test, holdout = entry.get("test"), entry.get("holdout")
        if test is not None and holdout is not None:
            faults.append(f"{at}: has a test set of its own and a holdout; give one of both")
        if holdout is not None and not 0 < holdout < 1:
            faults.append(f"{at}.holdout {holdout}: expected a share between 0 and 1")
        if how == "all" and test is None and holdout is None:
            faults.append(f"{at}: all images are for training and none for testing; give `test`, `holdout` or `subset`")
        sets.append(DataSet(str(name), entry.get("dataset", ""), test, holdout, how, 0 if how == "all" else amount,
                            entry.get("split")))  # fmt: skip
    known = ["corpus", "maps", "boxes", *table, *(f"{name}/test" for name in table)]
    faults += [f"--data {name}=...: no data set of this name; {near(name, known)}" for name in given]
    return tuple(sets)


def _weights(
    table: dict, given: Mapping[str, str], starts: dict[str, str], groups: dict[str, Group], at: str, faults: list[str]
) -> dict[tuple[str, str], str]:
    backbones = sorted({group.backbone for group in groups.values()})
    found: dict[tuple[str, str], str] = {}
    for start, sources in table.items():
        if start not in starts:
            faults.append(f"{at}.weights: no start {start!r}; {near(str(start), starts)}")
        elif isinstance(sources, str):
            found |= {(start, backbone): sources for backbone in backbones}
        elif isinstance(sources, dict):
            found |= {(start, str(backbone)): str(source) for backbone, source in sources.items()}
        else:
            faults.append(f"{at}.weights.{start}: expected a source or a table of backbones and sources")
    for name, source in given.items():
        start, _, backbone = name.partition("/")
        if start not in starts or not backbone:
            known = [f"{start}/{backbone}" for start in starts for backbone in backbones]
            faults.append(f"--weights {name}=...: no start and backbone of this name; {near(name, known)}")
        else:
            found[start, backbone] = source
    for start, backbone in found:
        if backbone not in backbones:
            faults.append(f"weights {start}/{backbone}: no group has this backbone; {near(backbone, backbones)}")
    return found


def readable(text: str) -> str:
    """A text as part of a folder's name: lower case, words joined by `_`."""
    return re.sub(r"[^a-z0-9.+]+", "_", text.lower()).strip("_.") or "x"
