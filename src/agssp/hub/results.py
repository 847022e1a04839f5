"""What was measured of a model, as rows of its card, as model-index metadata, and as the Hub's `.eval_results`."""

import re
from dataclasses import dataclass
from typing import Any

from .facts import ModelFacts

DETECTION = {"map_50_95": "mAP@.5:.95", "map_50": "mAP@.5"}
BACKBONE = {
    "alignment": "alignment with the anomaly maps",
    "accuracy": "accuracy of the categories",
    "task_loss": "task loss",
    "feature_rank": "effective rank of the features",
}
TASKS = {"detector": "object-detection", "backbone": "image-feature-extraction"}


@dataclass(frozen=True)
class Result:
    """One number.

    Attributes:
        dataset: facts of the data set, from `describe_source`, with `images` where known.
        split: what part of it, in a word or two.
        metric: key, such as `map_50`.
        title: the metric in words.
        value: the number.
        seed: of the training; None where it is not recorded.
        note: what a reader must know to judge it; may be empty.
        of_labels: whether it was measured against labels that people made.
    """

    dataset: dict[str, Any]
    split: str
    metric: str
    title: str
    value: float
    seed: int | None
    note: str = ""
    of_labels: bool = True


def results(facts: ModelFacts) -> list[Result]:
    """All that is recorded, the most telling first."""
    found = [result for metrics in facts.evaluations for result in _evaluated(facts, metrics)]
    own, seed = facts.run.get("results") or {}, facts.run.get("seed")
    dataset = facts.run.get("dataset") or {}
    if facts.command == "finetune":
        test = facts.run.get("test_dataset") or {}
        found += _rows(DETECTION, own.get("test"), test, test.get("split", "test"), seed)
        best = own.get("best") or {}
        if best.get("metric") in DETECTION:
            note = "the images that chose the epoch, so the number is optimistic"
            chosen = {"name": dataset.get("name")} | {key: dataset[key] for key in ("hub_id",) if key in dataset}
            chosen |= {"images": dataset["selection_images"]} if dataset.get("selection_images") else {}
            found += _rows(DETECTION, {best["metric"]: best["value"]}, chosen, "selection", seed, note=note)
    elif facts.command == "pretrain-detector":
        pseudo = bool(facts.run.get("boxes"))
        note = (
            "agreement with pseudo boxes, not with labels"
            if pseudo
            else "all boxes of the data set counted as one class"
        )
        last = _last(own)
        found += _rows(DETECTION, last, _bare(dataset), "held out", seed, note=note, of_labels=False)
    elif facts.command == "pretrain-backbone":
        held_out = _bare(dataset) | ({"images": own["held_out"]} if own.get("held_out") else {})
        start = own.get("starting_weights") or {}
        for row in _rows(BACKBONE, _last(own), held_out, "held out", seed, of_labels=False):
            before = start.get(row.metric)
            note = "" if before is None else f"{before:.4g} with the starting weights"
            found.append(Result(row.dataset, row.split, row.metric, row.title, row.value, seed, note, False))
    return [result for result in found if result.dataset.get("name")]


def eval_results(facts: ModelFacts) -> list[Any]:
    """The rows as huggingface_hub's `EvalResult`s for the card's metadata."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASKS[facts.kind],
            # What is not on the Hub is called by its layout, as transformers' own cards do.
            dataset_type=result.dataset.get("hub_id", "imagefolder"),
            dataset_name=result.dataset["name"],
            dataset_split=result.split,
            dataset_args=_dataset_args(result) or None,
            metric_type=result.metric,
            metric_name=result.title,
            metric_value=round(result.value, 4),
            metric_args=None if result.seed is None else {"training_seed": result.seed},
        )
        for result in results(facts)
        # A mAP with a note would be taken there for a plain one: of labels, of each class, on images not seen before.
        if (result.of_labels and not result.note) or facts.kind == "backbone"
    ]


def eval_result_files(facts: ModelFacts) -> dict[str, str]:
    """`.eval_results/NAME.yaml` -> its text: the Hub's own format, for data sets that are on the Hub.

    Only what was measured on labels that did not choose the model counts there.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries: dict[str, list[Any]] = {}
    for result in results(facts):
        hub_id = result.dataset.get("hub_id")
        if hub_id is None or not result.of_labels or result.note:
            continue
        seed = "" if result.seed is None else f"one training, seed {result.seed}"
        notes = ", ".join(filter(None, (result.title, f"split {result.split}", seed)))
        entry = EvalResultEntry(hub_id, task_id=result.metric, value=round(result.value, 4), notes=notes)
        entries.setdefault(re.sub(r"[^\w.-]+", "-", hub_id), []).append(entry)
    return {
        f".eval_results/{name}.yaml": yaml.safe_dump(eval_result_entries_to_yaml(some), sort_keys=False)
        for name, some in entries.items()
    }


def _evaluated(facts: ModelFacts, metrics: dict[str, Any]) -> list[Result]:
    dataset = metrics["measured_on"] | ({"images": metrics["images"]} if metrics.get("images") else {})
    note = "all classes counted as one" if metrics.get("class_agnostic") else ""
    return _rows(DETECTION, metrics, dataset, dataset.get("split", "test"), facts.run.get("seed"), note=note)


def _rows(
    titles: dict[str, str],
    numbers: dict[str, Any] | None,
    dataset: dict[str, Any],
    split: str,
    seed: int | None,
    note: str = "",
    of_labels: bool = True,
) -> list[Result]:
    return [
        Result(dataset, split, metric, title, float(numbers[metric]), seed, note, of_labels)
        for metric, title in titles.items()
        if numbers and numbers.get(metric) is not None
    ]


def _last(own: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("eval_"): value for name, value in (own.get("last") or {}).items()}


def _bare(dataset: dict[str, Any]) -> dict[str, Any]:
    """Without the number of training images, which is not that of the held-out ones."""
    return {name: dataset[name] for name in ("name", "hub_id", "synthetic") if name in dataset}


def _dataset_args(result: Result) -> dict[str, Any]:
    return {name: result.dataset[name] for name in ("images", "split_seed") if result.dataset.get(name) is not None}
