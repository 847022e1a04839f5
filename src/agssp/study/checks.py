"""Find what would make a planned study fail, before anything is trained: data, networks, weights and flags."""

import contextlib
import dataclasses
import functools
import io
from collections.abc import Callable, Iterable
from pathlib import Path

from agssp.arguments import parse_arguments
from agssp.errors import InputError
from agssp.faults import raise_storage_fault
from agssp.hub_client.names import is_hub_id, near_hint

from .definition import STAGES, STAND_IN, SYNTHETIC, DataSet, Group, Study
from .stage import PYTHON_STAGES, Plan, Stage, command_module, without_output
from .tables import near

SET_BY_STUDY = ("dataset", "output", "maps", "boxes", "model", "test", "backbone", "start", "detector", "seed")
"""Flags that follow from rows, groups, data sets and seeds."""
STORES = ("manifest.json", "thresholds.json")


def fingerprints(faults: list[str]) -> Callable[[str, str | None], str]:
    """A function that gives a text for a path, which changes with what is there: images, labels, maps or weights.

    Args:
        faults: gets the data sets that cannot be read.

    Returns:
        A function of a path and a split; for what is not on this machine (a Hub id, `timm`) its text is empty.
    """
    from agssp.data.fingerprint import dataset_fingerprint, label_fingerprint, mask_fingerprint
    from agssp.data.readers import read_dataset
    from agssp.training.run import content_fingerprint

    @functools.cache
    def fingerprint(source: str, split: str | None) -> str:
        path = Path(source)
        if not path.exists():
            return ""
        if path.suffix == ".safetensors" or any((path / name).is_file() for name in (*STORES, "model.safetensors")):
            return content_fingerprint(source) or ""
        try:
            dataset = read_dataset(source, split=split)
        except (InputError, OSError, ValueError) as error:
            raise_storage_fault(error, source)
            faults.append(str(error))
            return ""
        labels = label_fingerprint(dataset) if "objects" in dataset.features else ""
        return f"{dataset_fingerprint(dataset, source)} {labels} {mask_fingerprint(dataset)}"

    return fingerprint


def check_study(study: Study, plan: Plan, faults: list[str]) -> None:
    """Check all that a plan needs of this machine.

    Args:
        study: as read.
        plan: what is to be run.
        faults: gets a sentence for each fault.
    """
    used = {cell.data for cell in plan.cells}
    for entry in study.data:
        if entry.name in used:
            _check_data(study, entry, faults)
    corpus = study.corpus
    if any(stage.command.startswith("pretrain") for stage in plan.stages.values()):
        # A corpus on the Hub may be large; the stages that read it say what is wrong with it.
        if Path(corpus["dataset"]).exists() or not is_hub_id(corpus["dataset"]):
            _check_source("corpus", corpus["dataset"], corpus.get("split"), False, faults)
        for name in ("maps", "boxes"):
            if name in corpus and not Path(corpus[name]).is_dir():
                faults.append(f"corpus.{name} {corpus[name]}: no such folder")
    _check_networks([study.groups[name] for name in dict.fromkeys(cell.group for cell in plan.cells) if name], faults)
    _check_weights(study, plan, faults)
    before = len(faults)
    _check_flag_names(study, faults)
    if len(faults) == before:
        _check_flag_values(plan, faults)


def _check_data(study: Study, entry: DataSet, faults: list[str]) -> None:
    name = f"data set {entry.name}"
    labelled = study.kind == "detectors"
    _check_source(name, entry.dataset, entry.split, labelled, faults)
    if entry.test is not None:
        _check_source(f"{name}, test", entry.test, None, labelled, faults)


def _check_source(name: str, source: str, split: str | None, labelled: bool, faults: list[str]) -> None:
    from agssp.data.readers import read_dataset
    from agssp.data.schema import defect_names

    if source.startswith(SYNTHETIC):
        if source.removeprefix(SYNTHETIC) not in ("labelled", "unlabelled"):
            faults.append(f"{name}: {source!r}: expected {SYNTHETIC}labelled or {SYNTHETIC}unlabelled")
        return
    try:
        dataset = read_dataset(source, split=split)
        if labelled and not defect_names(dataset):
            faults.append(f"{name}: {source} has no labels (`objects`)")
    except (InputError, OSError, ValueError) as error:
        raise_storage_fault(error, source)
        # The fingerprint may have met the same already, without knowing the data set's name.
        faults[:] = [fault for fault in faults if fault != str(error)]
        faults.append(f"{name}: {error}")


def _check_networks(groups: Iterable[Group], faults: list[str]) -> None:
    from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
    from agssp.models.backbone.networks import name_of_weights
    from agssp.models.detection import catalogue

    for group in groups:
        known = False
        try:
            catalogue.family_named(group.detector)
            known = True
        except InputError as error:
            faults.append(f"groups.{group.name}.detector: {error}")
        try:
            name_of_weights(group.backbone)
            backbone = AgsspBackboneConfig(architecture=group.backbone)
            if known:
                catalogue.taken_features(group.detector, backbone)
        except InputError as error:
            faults.append(f"groups.{group.name}.backbone: {error}")


def _check_weights(study: Study, plan: Plan, faults: list[str]) -> None:
    from agssp.models.yolo_graphs import VARIANTS

    planned = {(cell.group, cell.row) for cell in plan.cells}
    rows = [row for row in study.rows if (row.group, row.label) in planned]
    groups = ((row.start, study.groups[row.group]) for row in rows)
    used = dict.fromkeys((start, group.backbone, group.detector) for start, group in groups)
    for start, backbone, detector in used:
        source = study.weights.get((start, backbone), "")
        path = Path(source)
        on_hub = is_hub_id(source) and path.suffix != ".safetensors"
        if source not in ("", "timm", "pypi", STAND_IN) and not path.exists() and not on_hub:
            faults.append(f"weights {start}/{backbone}: {source}: no such file{near_hint(source)}")
        elif study.starts.get(start) == "detector" and source in ("timm", "pypi"):
            faults.append(
                f"weights {start}/{backbone}: {source!r} has no detectors; expected an ultralytics safetensors file, "
                f"a detector's folder or {STAND_IN}"
            )
        elif study.starts.get(start) == "detector" and source == STAND_IN and detector not in VARIANTS:
            faults.append(
                f"weights {start}/{backbone}: nothing stands in for the weights of {detector}; give a safetensors file "
                "or a detector's folder"
            )


def _check_flag_names(study: Study, faults: list[str]) -> None:
    """Flags that a stage's command does not have, wherever they are set, with near names."""
    places = [("flags", study.flags), *((f"groups.{name}.flags", group.flags) for name, group in study.groups.items())]
    places += [(f"row {row.group} / {row.label}", row.stages) for row in study.rows]
    for stage in STAGES:
        names = {name for _, table in places for name in table.get(stage, {})}
        if not names:
            continue
        arguments = command_module(stage).ARGUMENTS
        known = {item.name for kind in arguments for item in dataclasses.fields(kind) if item.init}
        for where, table in places:
            for name in table.get(stage, {}):
                if name in SET_BY_STUDY:
                    faults.append(
                        f"{where}: {stage}.{name} follows from rows, groups, data sets and seeds; leave it out"
                    )
                elif name not in known:
                    command = stage.replace("_", "-")
                    faults.append(f"{where}: `{command}` has no flag {name!r}; {near(name, known - {*SET_BY_STUDY})}")


def _check_flag_values(plan: Plan, faults: list[str]) -> None:
    """Values that a command's own parser refuses, once for each different set of flags."""
    seen = set()
    for stage in plan.stages.values():
        kind = without_output(stage)
        told = (stage.command, repr([(name, value) for name, value in kind.flags if name not in SET_BY_STUDY]))
        if stage.command not in PYTHON_STAGES and told not in seen:
            seen.add(told)
            fault = _parse_fault(stage)
            faults += [] if fault is None else [f"{stage.title}: {fault}"]


def _parse_fault(stage: Stage) -> str | None:
    """What the command's parser says against a stage's flags; None if it takes them."""
    module, said = command_module(stage.command), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parse_arguments(stage.command, module.ARGUMENTS, stage.words(Path("x")), positional=module.POSITIONAL)
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
    except (InputError, ValueError) as error:
        return str(error)
    return None
