"""What a study is: groups of rows, labelled data sets, starts, and flags for every stage of the chain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STAGES = ("anomaly_maps", "evaluate_maps", "pseudo_boxes", "pretrain_backbone", "pretrain_detector", "finetune")
"""Stages whose flags a study sets, in the order of the chain."""
PRETRAINING = ("pretrain_backbone", "pretrain_detector")
"""Stages that a row has only if it names them."""
WITHOUT_EFFECT = (
    "checkpoint_every", "dataloader_num_workers", "disable_tqdm", "report_to", "save_total_limit", "workers",
)  # fmt: skip
"""Flags that say how a stage is run and change nothing of what comes of it."""
SYNTHETIC = "synthetic:"
"""Prefix of a data set that the study makes itself: `synthetic:unlabelled`, `synthetic:labelled`."""
STAND_IN = "stand_in"
"""Source of random weights that take the place of published ones, in scales that only show that a study runs."""
METRICS = {
    "detectors": {"map_50": "mAP@.5", "map_50_95": "mAP@.5:.95"},
    "maps": {
        "image_auroc": "image AUROC",
        "pixel_auroc": "pixel AUROC",
        "adaptive_iou": "IoU adaptive",
        "best_fixed_iou": "IoU best fixed",
    },
}
"""What is measured (0..1) in a study of finetuned detectors, and in one of anomaly maps against masks."""


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
    backbone: str = ""
    detector: str = ""
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        label: its name.
        group: name of its group.
        start: `scratch` or one of the study's starts; empty in a study of maps.
        stages: stage -> flags; one of `PRETRAINING` that is not here is not run for this row.
        x: place on the axis of a line plot, where the study has one.
        series: its line in that plot.
        paper: data set -> published numbers in percent, in the order of `METRICS`.
        against: labels of rows of its group that it is compared with, seed by seed.
    """

    label: str
    group: str = ""
    start: str = ""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    x: float | None = None
    series: str = ""
    paper: dict[str, list[float]] = field(default_factory=dict)
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """A labelled data set and which of its images are for training.

    Attributes:
        name: heading in the table.
        dataset: path or Hub id; empty if none was given yet.
        test: test set of its own; without one the images that are not for training.
        holdout: share of the images that is put aside for testing before the training images are drawn.
        how: `per_class`, `count`, `fraction` or `all`.
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
        scale: name of the scale.
        kind: `detectors` or `maps`, see `METRICS`.
        about: a sentence or two for the results.
        warning: what must be said above numbers of this scale.
        starts: start -> `backbone` or `detector`: what its weights are of.
        groups: name -> group.
        rows: the rows, in order.
        varies: flags of finetuning in which rows may differ, as `finetune.frozen_stages`.
        flags: stage -> flags of all groups.
        seeds: of splits and finetuning, or of the references of maps.
        pretraining_seed: of all that comes before finetuning.
        x_label: what the rows' `x` is.
        corpus: `dataset`, `split`, `category`, and `maps` and `boxes` where they exist already.
        data: labelled data sets, in order.
        weights: (start, backbone) -> source.
        synthetic: what `make_surfaces` makes for `synthetic:` data sets.
    """

    name: str
    title: str
    scale: str
    kind: str = "detectors"
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

    @property
    def metrics(self) -> dict[str, str]:
        """Key -> heading of what is measured."""
        return METRICS[self.kind]


def merged(*tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Flags of several tables, stage by stage; later ones win."""
    result: dict[str, dict[str, Any]] = {}
    for table in tables:
        for stage, flags in table.items():
            result[stage] = result.get(stage, {}) | dict(flags)
    return result
