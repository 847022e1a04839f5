"""Read a study file: a table of YAML becomes a study, with all its faults listed at once."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agssp.arguments import find_config
from agssp.errors import InputError
from agssp.parsing import read_yaml

from .definition import METRICS, STAGES, DataSet, Group, Row, Study, merged
from .tables import checked, load_table, near

SUBSETS = ("per_class", "count", "fraction", "all")
NUMBER = (int, float)
STUDY_KEYS = {"extends": str, "title": str, "kind": str, "about": str, "starts": dict, "groups": dict, "rows": list,
              "varies": list, "flags": dict, "pretraining_seed": int, "x_label": str, "scales": dict}  # fmt: skip
GROUP_KEYS = {"backbone": str, "detector": str, "flags": dict}
ROW_KEYS = {"label": str, "group": str, "start": str, "x": NUMBER, "series": str, "paper": dict, "against": list,
            **dict.fromkeys(STAGES, dict)}  # fmt: skip
SCALE_KEYS = {"warning": str, "seeds": list, "corpus": dict, "data": dict, "weights": dict, "flags": dict,
              "groups": dict, "rows": list, "synthetic": dict}  # fmt: skip
CORPUS_KEYS = dict.fromkeys(("dataset", "split", "category", "maps", "boxes"), str)
DATA_KEYS = {"dataset": str, "test": str, "holdout": NUMBER, "subset": dict, "split": str}
SYNTHETIC_KEYS = dict.fromkeys(("unlabelled", "labelled", "normal", "seed", "size"), int)


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
    name = Path(source).stem
    table = checked(load_table(source), "study", STUDY_KEYS, faults, required=("title", "scales"))
    scales = table.get("scales", {})
    if scale not in scales:
        raise InputError(f"--scale {scale!r}: {name} has {', '.join(map(repr, scales)) or 'no scales'}")
    at = f"scales.{scale}"
    chosen = checked(scales[scale], at, SCALE_KEYS, faults)
    kind = table.get("kind", "detectors")
    if kind not in METRICS:
        faults.append(f"kind {kind!r}: expected one of {', '.join(METRICS)}")
        kind = "detectors"
    starts = {str(start): str(of) for start, of in table.get("starts", {"imagenet": "backbone"}).items()}
    for start, of in starts.items():
        if of not in ("backbone", "detector"):
            faults.append(f"starts.{start} {of!r}: expected 'backbone' or 'detector', what its weights are of")
    varies = tuple(map(str, table.get("varies", ())))
    groups = _groups(table.get("groups", {}), chosen.get("groups", {}), at, faults)
    if kind == "maps":
        groups = {"": Group("")}
    corpus = checked(chosen.get("corpus", {}), f"{at}.corpus", CORPUS_KEYS, faults)
    sets = _data(chosen.get("data", {}), f"{at}.data", dict(data or {}), corpus, faults)
    lines = chosen.get("rows", table.get("rows", []))
    return Study(
        name=name,
        title=table.get("title", name),
        scale=scale,
        kind=kind,
        about=table.get("about", ""),
        warning=chosen.get("warning", ""),
        starts=starts,
        groups=groups,
        rows=_rows(lines, kind, groups, starts, varies, faults),
        varies=varies,
        flags=merged(
            _stage_flags(table.get("flags", {}), "flags", faults),
            _stage_flags(chosen.get("flags", {}), f"{at}.flags", faults),
        ),
        seeds=_seeds(chosen.get("seeds", [0]) if seeds is None else list(seeds), at, faults),
        pretraining_seed=table.get("pretraining_seed", 0),
        x_label=table.get("x_label", ""),
        corpus=corpus,
        data=sets,
        weights=_weights(chosen.get("weights", {}), weights or {}, starts, groups, at, faults),
        synthetic=checked(chosen.get("synthetic", {}), f"{at}.synthetic", SYNTHETIC_KEYS, faults),
    )


def _stage_flags(table: Any, where: str, faults: list[str]) -> dict[str, dict[str, Any]]:
    stages = checked(table, where, dict.fromkeys(STAGES, dict), faults)
    return {stage: _flags(stage, flags, where, faults) for stage, flags in stages.items()}


def _flags(stage: str, flags: dict, where: str, faults: list[str]) -> dict[str, Any]:
    """Flags of a stage, a `config` among them replaced by what is in it, so that the study shows all values."""
    named = {str(name).replace("-", "_"): value for name, value in flags.items()}
    config = named.pop("config", None)
    if config is None:
        return named
    try:
        values = read_yaml(find_config(str(config), stage.replace("_", "-"))) or {}
        if not isinstance(values, dict):
            raise InputError(f"{config}: expected a table of flags and values, got {type(values).__name__}")
    except InputError as error:
        faults.append(f"{where}.{stage}: {error}")
        return named
    # Which networks and weights there are is the study's own to say.
    own = ("backbone", "detector", "start")
    return {str(name).replace("-", "_"): value for name, value in values.items() if name not in own} | named


def _groups(table: dict, of_scale: dict, at: str, faults: list[str]) -> dict[str, Group]:
    faults += [f"{at}.groups: no group {name!r}; {near(str(name), table)}" for name in of_scale if name not in table]
    groups = {}
    for name, value in table.items():
        own = checked(value, f"groups.{name}", GROUP_KEYS, faults)
        scaled = checked(of_scale.get(name) or {}, f"{at}.groups.{name}", GROUP_KEYS, faults)
        flags = merged(
            _stage_flags(own.get("flags", {}), f"groups.{name}.flags", faults),
            _stage_flags(scaled.get("flags", {}), f"{at}.groups.{name}.flags", faults),
        )
        both = own | scaled
        faults += [f"groups.{name}: lacks {key!r}" for key in ("backbone", "detector") if key not in both]
        groups[str(name)] = Group(str(name), both.get("backbone", ""), both.get("detector", ""), flags)
    return groups


def _rows(
    lines: list, kind: str, groups: dict[str, Group], starts: dict[str, str], varies: tuple[str, ...], faults: list[str]
) -> tuple[Row, ...]:
    rows: list[Row] = []
    required = ("label",) if kind == "maps" else ("label", "group", "start")
    for number, value in enumerate(lines, 1):
        label = value.get("label", "") if isinstance(value, dict) else ""
        where = f"row {number}" + (f" ({label})" if label else "")
        row = checked(value, where, ROW_KEYS, faults, required)
        group, start = row.get("group", ""), row.get("start", "")
        stages = {stage: _flags(stage, row[stage], where, faults) for stage in STAGES if stage in row}
        found = []
        if "group" in row and group not in groups:
            found.append(f"no group {group!r}; {near(group, groups)}")
        if "start" in row and start not in ("scratch", *starts):
            found.append(f"no start {start!r}; {near(start, ['scratch', *starts])}")
        found += [
            f"sets finetune.{flag}; rows are finetuned alike except for what `varies` lists "
            f"({', '.join(varies) or 'nothing'})"
            for flag in stages.get("finetune", {})
            if f"finetune.{flag}" not in varies
        ]
        if starts.get(start) == "detector" and "pretrain_backbone" in stages and "pretrain_detector" not in stages:
            found.append(
                f"pretrains the backbone of the detector {start!r} alone, and finetuning would lose its neck and head; "
                "add `pretrain_detector`"
            )
        if any((other.group, other.label) == (group, label) for other in rows):
            found.append("another row of this group has the same label")
        count = len(METRICS[kind])
        for name, numbers in row.get("paper", {}).items():
            if not isinstance(numbers, list) or not 0 < len(numbers) <= count:
                found.append(f"paper.{name} {numbers!r}: expected up to {count} numbers in percent")
        faults += [f"{where}: {fault}" for fault in found]
        if not found and row.keys() >= set(required):
            paper = row.get("paper", {})
            against = tuple(map(str, row.get("against", [])))
            rows.append(Row(label, group, start, stages, row.get("x"), row.get("series", ""), paper, against))
    for one in rows:
        labels = [other.label for other in rows if other.group == one.group and other is not one]
        faults += [
            f"row {one.label}: against {name!r}: no other row of its group has this label; {near(name, labels)}"
            for name in one.against
            if name not in labels
        ]
    return tuple(rows)


def _seeds(found: list, at: str, faults: list[str]) -> tuple[int, ...]:
    if not found or not all(type(seed) is int for seed in found):
        faults.append(f"{at}.seeds {found!r}: expected one whole number or more")
        return ()
    if len(set(found)) < len(found):
        faults.append(f"{at}.seeds {found!r}: one comes twice, which would count it twice")
    return tuple(found)


def _data(
    table: dict, where: str, given: dict[str, str], corpus: dict[str, str], faults: list[str]
) -> tuple[DataSet, ...]:
    for name, key in (("corpus", "dataset"), ("maps", "maps"), ("boxes", "boxes")):
        if name in given:
            corpus[key] = given.pop(name)
    sets = []
    for name, value in table.items():
        at = f"{where}.{name}"
        entry = checked(value or {}, at, DATA_KEYS, faults)
        if f"{name}/test" in given:
            # A test set of one's own takes the place of images put aside.
            entry = {key: kept for key, kept in entry.items() if key != "holdout"} | {"test": given.pop(f"{name}/test")}
        dataset, test, holdout = given.pop(name, entry.get("dataset", "")), entry.get("test"), entry.get("holdout")
        if test is not None and holdout is not None:
            faults.append(f"{at}: has a test set of its own and a holdout; give one of both")
        if holdout is not None and not 0 < holdout < 1:
            faults.append(f"{at}.holdout {holdout}: expected a share between 0 and 1")
        how, amount = _subset(entry.get("subset", {"all": True}), at, faults)
        sets.append(DataSet(str(name), dataset, test, holdout, how, amount, entry.get("split")))
    known = ["corpus", "maps", "boxes", *table, *(f"{name}/test" for name in table)]
    faults += [f"--data {name}=...: no data set of this name; {near(name, known)}" for name in given]
    return tuple(sets)


def _subset(subset: dict, at: str, faults: list[str]) -> tuple[str, float]:
    """Which way training images are chosen, and how many."""
    how: str = next(iter(subset), "")
    amount: Any = subset.get(how)
    if len(subset) != 1 or how not in SUBSETS:
        faults.append(f"{at}.subset {subset!r}: expected one of {', '.join(SUBSETS)} with its number")
        return "all", 0
    if how == "all":
        fits = amount is True
    elif how == "fraction":
        fits = isinstance(amount, float) and 0 < amount < 1
    else:
        fits = type(amount) is int and amount > 0
    if not fits:
        expected = {"all": "true", "fraction": "a share between 0 and 1"}.get(how, "a whole number above 0")
        faults.append(f"{at}.subset.{how} {amount!r}: expected {expected}")
        return "all", 0
    return how, 0 if how == "all" else amount


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
