"""Reads what a model's folder records about itself: the only source of its card."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.data.origin import describe_source
from agssp.errors import InputError
from agssp.maps.saving import MODEL_TYPE
from agssp.models.backbone import AgsspBackboneConfig
from agssp.models.detection.catalogue import FAMILIES
from agssp.models.pretraining import AgsspPreTrainingConfig
from agssp.models.yolo_graphs import VARIANTS
from agssp.parsing import read_json, read_lines
from agssp.training.run import LOG_FILE, RUN_FILE, kept_of_origin

from .licences import COPYLEFT, UNKNOWN, licences_of_images, licences_of_start, strictest
from .paths import without_paths

KINDS = {AgsspBackboneConfig.model_type: "backbone", MODEL_TYPE: "kead"} | dict.fromkeys(FAMILIES, "detector")
"""model_type of config.json -> the template of its card."""


@dataclass(frozen=True)
class ModelFacts:
    """What is recorded about a model, without paths of the machine.

    Attributes:
        kind: `backbone`, `detector` or `kead`.
        config: its config.json.
        run: its run.json; empty where no training command wrote one.
        history: what training logged, one mapping an entry.
        evaluations: metrics.json of each `agssp evaluate` that measured it.
    """

    kind: str
    config: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def licence(self) -> str | None:
        """Its licence as the Hub writes it; None where that of what it started from is not known.

        AGPL-3.0 for all that is made of ultralytics' modules, otherwise the strictest of what it was made from.
        """
        architecture = self.config.get("architecture") or self.config.get("backbone_config", {}).get("architecture")
        family = FAMILIES.get(self.config["model_type"])
        if (family is not None and family.agpl) or architecture in VARIANTS:
            return COPYLEFT
        return None if None in self._start_licences else strictest(self.made_under)

    @property
    def made_under(self) -> list[str]:
        """Known licences of the weights that it started from (KeAD: of its teacher's), and of all images."""
        images = [licence for stage in self.stages for licence in licences_of_images(stage.get("dataset"))]
        known = [licence for licence in self._start_licences if licence is not None]
        return sorted({licence.lower() for licence in known + images})

    @property
    def _start_licences(self) -> list[str | None]:
        if self.kind == "kead":
            return [None if self.config.get("licence") in UNKNOWN else self.config["licence"]]
        return licences_of_start(self.run)

    @property
    def command(self) -> str | None:
        """The training command that made it, such as `finetune`; None where none is recorded."""
        words = str(self.run.get("command", "")).split()
        return words[1] if len(words) > 1 else None

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Records of all runs that led to it, the earliest first, its own last."""
        return [*_earlier(self.run), self.run] if self.command else []


def read_facts(folder: str | Path, evaluations: Sequence[str | Path] = ()) -> ModelFacts:
    """Read the facts of a saved model.

    Args:
        folder: of a backbone, a detector or KeAD.
        evaluations: outputs of `agssp evaluate` on this folder.

    Raises:
        InputError: it holds no such model, or an evaluation is of another model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a saved backbone, detector or KeAD")
    config = _object(folder / "config.json")
    if config is None:
        raise InputError(f"{folder}: holds no readable config.json; is its training finished?")
    kind = KINDS.get(config.get("model_type", ""))
    if config.get("model_type") == AgsspPreTrainingConfig.model_type:
        raise InputError(
            f"{folder}: a backbone with the head of its pretraining; push the folder beside it, which holds the "
            "backbone alone"
        )
    if kind is None:
        raise InputError(
            f"{folder}: a model of type {config.get('model_type')!r}; expected one of {', '.join(KINDS)}, as the "
            "training commands and `save_pretrained` write them"
        )
    run = _complete(_object(folder / RUN_FILE) or {}, folder)
    measured = [_evaluation(Path(each), folder) for each in evaluations]
    return ModelFacts(kind, without_paths(config), without_paths(run), _log(folder / LOG_FILE), without_paths(measured))


def _earlier(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for origin in record.get("origins") or []:
        yield from _earlier(origin)
        yield origin


def _complete(run: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs of earlier versions name folders alone; what these can still tell is read from them."""
    if not run:
        return run
    arguments = run.get("arguments") or {}
    dataset = dict(run.get("dataset") or {})
    if "name" not in dataset and dataset.get("source"):
        dataset |= describe_source(dataset["source"], arguments.get("split"))
    known: dict[str, Any] = {"dataset": dataset}
    if "seed" not in run:
        known["seed"] = (_object(folder / "settings.json") or {}).get("settings", {}).get("seed")
    if "origins" not in run:
        places = [Path(arguments[name]) for name in ("model", "backbone", "start") if arguments.get(name)]
        records = [(place, _object(place / RUN_FILE)) for place in places]
        known["origins"] = [kept_of_origin(_complete(record, place)) for place, record in records if record]
    if "distill_loss" not in run and arguments.get("distillation"):
        known["distill_loss"] = arguments["distill_loss"]
    if "test_dataset" not in run and arguments.get("test"):
        known["test_dataset"] = describe_source(arguments["test"])
    return run | known


def _evaluation(folder: Path, model: Path) -> dict[str, Any]:
    metrics = _object(folder / "metrics.json")
    if metrics is None or "map_50_95" not in metrics:
        raise InputError(f"--evaluation {folder}: holds no metrics.json of `agssp evaluate`")
    if Path(str(metrics.get("model"))).resolve() != model.resolve():
        raise InputError(f"--evaluation {folder}: measured {metrics.get('model')}, not {model}")
    if "measured_on" not in metrics:
        metrics["measured_on"] = describe_source(metrics["dataset"], metrics.get("split"))
    return metrics


def _object(file: Path) -> dict[str, Any] | None:
    return read_json(file) if file.is_file() else None


def _log(file: Path) -> list[dict[str, Any]]:
    return list(read_lines(file))
