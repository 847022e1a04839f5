"""Find what would make a planned study fail, before anything is trained: data, networks, weights and flags."""

import contextlib
import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path

from agssp.arguments import parse_arguments
from agssp.errors import InputError

from .plan import PYTHON_STAGES, Plan, Stage, command_module, near, without_output
from .study_file import STAGES, STAND_IN, SYNTHETIC, Study

DETECTOR_STRIDES = [8, 16, 32]


def fingerprints(faults: list[str]) -> Callable[[str], str]:
    """A function that gives a text for a path, which changes with what is there: images, labels, maps or weights.

    Args:
        faults: gets the data sets that cannot be read.
    """
    from agssp.data.fingerprint import dataset_fingerprint, label_fingerprint
    from agssp.data.readers import read_dataset
    from agssp.training.run import content_fingerprint

    @functools.cache
    def fingerprint(source: str) -> str:
        path = Path(source)
        # A Hub id or a word such as `timm` is what it says; the commands themselves look at the former's content.
        if not path.exists():
            return ""
        if path.is_file() or any(path.glob("*.safetensors")) or any((path / name).is_file() for name in _STORES):
            return content_fingerprint(source) or ""
        try:
            dataset = read_dataset(source)
        except InputError as error:
            faults.append(str(error))
            return ""
        labels = label_fingerprint(dataset) if "objects" in dataset.features else ""
        return f"{dataset_fingerprint(dataset, source)} {labels}"

    return fingerprint


_STORES = ("manifest.json", "thresholds.json")


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
            for source in (entry.dataset, entry.test):
                _check_data(f"data set {entry.name}", source, labelled=True, faults=faults, split=entry.split)
    if any(stage.command.startswith("pretrain") for stage in plan.stages.values()):
        _check_data("corpus", study.corpus.get("dataset"), labelled=False, faults=faults)
        for name in ("maps", "boxes"):
            if name in study.corpus and not Path(study.corpus[name]).is_dir():
                faults.append(f"corpus.{name} {study.corpus[name]}: no such folder")
    _check_networks(study, {cell.group for cell in plan.cells}, faults)
    _check_flag_names(study, faults)
    if not any("no flag" in fault for fault in faults):
        _check_flag_values(plan, faults)


def _check_data(name: str, source: str | None, *, labelled: bool, faults: list[str], split: str | None = None) -> None:
    from agssp.data.readers import read_dataset
    from agssp.data.schema import defect_names

    if source is None:
        return
    if source.startswith(SYNTHETIC):
        if source.removeprefix(SYNTHETIC) not in ("labelled", "unlabelled"):
            faults.append(f"{name}: {source!r}: expected {SYNTHETIC}labelled or {SYNTHETIC}unlabelled")
        return
    if not labelled and not Path(source).exists() and source.count("/") == 1:
        return  # a corpus on the Hub may be large; the stages that read it say what is wrong with it
    try:
        dataset = read_dataset(source, split=split)
        if labelled and not defect_names(dataset):
            faults.append(f"{name}: {source} has no labels (`objects`)")
    except (InputError, OSError, ValueError) as error:
        if not any(str(error) in fault for fault in faults):
            faults.append(f"{name}: {error}")


def _check_networks(study: Study, used: set[str], faults: list[str]) -> None:
    from agssp.models.backbone.networks import feature_layout, full_name, name_of_weights
    from agssp.models.detection import YoloConfig

    for group in study.groups.values():
        if group.name not in used:
            continue
        try:
            name_of_weights(group.backbone)
            strides = list(feature_layout(full_name(group.backbone), {}).strides)
            if not set(DETECTOR_STRIDES) <= set(strides):
                faults.append(
                    f"groups.{group.name}.backbone {group.backbone}: has features of strides {strides}; detectors take "
                    f"{DETECTOR_STRIDES}"
                )
        except InputError as error:
            faults.append(f"groups.{group.name}.backbone: {error}")
        try:
            YoloConfig(variant=group.detector)
        except InputError as error:
            faults.append(f"groups.{group.name}.detector: {error}")
    for (start, backbone), source in study.weights.items():
        if source.endswith(".safetensors") and not Path(source).is_file():
            faults.append(f"weights {start}/{backbone}: {source}: no such file")
        elif study.starts.get(start) == "detector" and source in ("timm", "pypi"):
            faults.append(
                f"weights {start}/{backbone}: {source!r} has no detectors; expected an ultralytics safetensors file, "
                f"a detector's folder or {STAND_IN}"
            )


def _check_flag_names(study: Study, faults: list[str]) -> None:
    """Flags that a stage's command does not have, wherever they are set, with near names."""
    places = [("flags", study.flags), *((f"groups.{name}.flags", group.flags) for name, group in study.groups.items())]
    places += [(f"row {row.group} / {row.label}", row.stages) for row in study.rows]
    own = {"dataset", "output", "config_file"}
    for stage in STAGES:
        module = command_module(stage)
        known = {item.name for cls in module.ARGUMENTS for item in dataclasses.fields(cls) if item.init} | {"config"}
        for where, table in places:
            for name in table.get(stage, {}):
                if name not in known:
                    faults.append(f"{where}: `{stage.replace('_', '-')}` has no flag {name!r}; {near(name, known)}")
                elif name in own:
                    faults.append(f"{where}: {stage}.{name} is set by the study itself")


def _check_flag_values(plan: Plan, faults: list[str]) -> None:
    """Values that a command's own parser refuses, once for each different set of flags."""
    seen = set()
    for stage in plan.stages.values():
        kind = without_output(stage)
        told = repr([(name, value) for name, value in kind.flags if name not in ("dataset", "test", "model", "seed")])
        if stage.command in PYTHON_STAGES or (stage.command, told) in seen:
            continue
        seen.add((stage.command, told))
        fault = _parse_fault(stage)
        if fault is not None:
            faults.append(f"{stage.title}: {fault}")


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
