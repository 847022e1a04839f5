"""Writes a model's card from recorded facts: a field that is not known is left out."""

import re
from typing import Any

from agssp.models.backbone.csp_darknet import VARIANTS
from agssp.models.backbone.networks import channels_last_in_timm, is_of_timm
from agssp.models.detection.catalogue import FAMILIES

from .dataset_card import HUB_LICENCES
from .facts import ModelFacts
from .licences import COPYLEFT, UNKNOWN, forbids_commerce, strictest
from .results import TASKS, Result, eval_results, results
from .templates import render

STAGES = {
    "pretrain-backbone": "Backbone",
    "pretrain-detector": "Detector, on pseudo boxes",
    "finetune": "Finetuning, on labels",
}
OBJECTIVES = {
    "classification": "classification of the object categories",
    "mocov3": "MoCo v3",
    "simmim": "SimMIM",
    "none": "no task beside it",
}
LICENCES = {*HUB_LICENCES, COPYLEFT, "apple-amlr", "apple-ascl", "bsd-3-clause", "gemma"}
"""Licences that the Hub has a name of its own for; others go under `other`."""


def model_card(facts: ModelFacts, repo_id: str, *, picture: str | None = None, about_picture: str = "") -> str:
    """The text of README.md.

    Args:
        facts: of the model.
        repo_id: OWNER/NAME, for the title and the code that loads it.
        picture: file name of a picture beside the card.
        about_picture: what it shows.

    Returns:
        YAML metadata and Markdown, accepted by `huggingface_hub.ModelCard`.
    """
    found = results(facts)
    values = {
        "metadata": _metadata(facts, repo_id),
        "repo_id": repo_id,
        "title": repo_id.split("/")[-1],
        "config": facts.config,
        "agpl": facts.licence == COPYLEFT,
        "licence": facts.licence,
        "made_under": facts.made_under,
        "stages": [stage for stage in map(_stage, facts.stages) if stage["rows"]],
        "teacher_licence": _teacher_licence(facts),
        "synthetic": any((stage.get("dataset") or {}).get("synthetic") for stage in facts.stages),
        "results": [_row(result) for result in found],
        "picture": picture,
        "about_picture": about_picture,
        "version": (facts.run.get("versions") or {}).get("agssp"),
        "hardware": facts.run.get("hardware"),
        "run_file": bool(facts.run),
        "limits": _limits(facts, found),
    }
    details = {"backbone": _backbone, "detector": _detector, "kead": _kead}[facts.kind](facts)
    return render(f"{facts.kind}.md.jinja", values | details)


def _metadata(facts: ModelFacts, repo_id: str) -> str:
    from huggingface_hub import ModelCardData

    measured = eval_results(facts)
    timm = facts.kind == "backbone" and is_of_timm(facts.config["architecture"])
    tags = ["agssp", "anomaly-detection", "industrial-inspection"]
    bases = [origin["hub_id"] for origin in facts.run.get("origins") or [] if origin.get("hub_id")]
    if facts.kind == "kead" and str(facts.config.get("teacher", "")).startswith("hf-hub:"):
        bases = [facts.config["teacher"].removeprefix("hf-hub:")]
    datasets = [(stage.get("dataset") or {}).get("hub_id") for stage in facts.stages]
    data = ModelCardData(
        license=facts.licence if facts.licence in LICENCES or facts.licence is None else "other",
        library_name={"backbone": "timm" if timm else "agssp", "detector": "transformers", "kead": "agssp"}[facts.kind],
        pipeline_tag=TASKS.get(facts.kind),
        tags=tags + (["defect-detection"] if facts.kind == "detector" else []),
        base_model=bases or None,
        datasets=sorted({name for name in datasets if name}) or None,
        model_name=repo_id.split("/")[-1] if measured else None,
        eval_results=measured or None,
    )
    if data.license == "other":
        data.license_name = re.sub(r"[^\w.-]+", "-", str(facts.licence)).strip("-")
    return data.to_yaml()


def _stage(record: dict[str, Any]) -> dict[str, Any]:
    """Title and rows (what, value) of one run; a row without value is left out."""
    command = record["command"].split()[1]
    dataset, boxes = record.get("dataset") or {}, record.get("boxes") or {}
    of_backbone = command == "pretrain-backbone"
    rows = [
        ("teacher of the anomaly maps", _teacher(record.get("teacher") or {})),
        ("pseudo boxes", _boxes(boxes)),
        ("data set" if command == "finetune" else "corpus", _dataset(dataset)),
        ("object categories" if of_backbone else None, ", ".join(dataset.get("categories") or [])),
        ("classes", ", ".join(dataset.get("classes") or [])),
        ("task", OBJECTIVES.get(record.get("objective") or "")),
        ("distillation of the maps", _distillation(record)),
        ("epochs", _number(record.get("epochs"))),
        ("steps", _number(record.get("steps")) if record.get("epochs") is None else None),
        ("started from", _start(record)),
        ("optimizer", _optimizer(record.get("optimizer") or {})),
        ("seed", _number(record.get("seed"))),
    ]
    title = (
        "Detector, on boxes of its data set" if command == "pretrain-detector" and not boxes else STAGES.get(command)
    )
    return {"title": title or command, "rows": [(name, value) for name, value in rows if name and value]}


def _teacher(teacher: dict[str, Any]) -> str | None:
    if not teacher.get("teacher"):
        return None
    weights = f", weights {teacher['pretrained']}" if teacher.get("pretrained") else ""
    return f"`{teacher['teacher']}`{weights}" + (f", licence {teacher['licence']}" if _known(teacher) else "")


def _known(teacher: dict[str, Any]) -> bool:
    return teacher.get("licence") not in UNKNOWN


def _boxes(boxes: dict[str, Any]) -> str | None:
    if not boxes.get("boxes"):
        return None
    return f"{boxes['boxes']:,}" + (f" in {boxes['images']:,} images" if boxes.get("images") else "")


def _dataset(dataset: dict[str, Any]) -> str | None:
    if not dataset.get("name"):
        return None
    name = f"[{dataset['name']}](https://huggingface.co/datasets/{dataset['hub_id']})" if dataset.get("hub_id") else (
        dataset["name"]
    )  # fmt: skip
    parts = [f"{dataset['images']:,} images"] if dataset.get("images") else []
    parts += [f"split {dataset['split']}"] if dataset.get("split") else []
    parts += [f"chosen with seed {dataset['split_seed']}"] if dataset.get("split_seed") is not None else []
    parts += ["synthetic"] if dataset.get("synthetic") else []
    parts += [f"licence {dataset['licence']}"] if dataset.get("licence") else []
    licences = [f"{one['name']} ({one['licence']})" for one in dataset.get("sources", []) if len(one) == 2]
    return ", ".join([name, *parts]) + (f"; sources: {', '.join(licences)}" if licences else "")


def _distillation(record: dict[str, Any]) -> str | None:
    parts = [f"loss {record['distill_loss']}"] if record.get("distill_loss") else []
    parts += [f"lambda {record['lambda']:.4g}"] if record.get("lambda") is not None else []
    return ", ".join(parts) or None


def _start(record: dict[str, Any]) -> str | None:
    """The first line of a start's report; that of a backbone goes on to count tensors."""
    line = str(record.get("start") or "").partition("\n")[0]
    return line.partition(":")[0] if record["command"].split()[1] == "pretrain-backbone" else line


def _optimizer(optimizer: dict[str, Any]) -> str | None:
    if not optimizer.get("optimizer"):
        return None
    parts = [optimizer["optimizer"]]
    if optimizer.get("scaled_learning_rate"):
        parts.append(f"learning rate {optimizer['scaled_learning_rate']:.3g}")
    if optimizer.get("global_batch"):
        parts.append(f"{optimizer['global_batch']} images a step")
    if optimizer.get("schedule"):
        parts.append(f"{optimizer['schedule']} schedule")
    return ", ".join(parts)


def _number(value: Any) -> str | None:
    return None if value is None else f"{value:g}"


def _row(result: Result) -> dict[str, Any]:
    images = f" ({result.dataset['images']:,} images)" if result.dataset.get("images") else ""
    synthetic = " (synthetic)" if result.dataset.get("synthetic") else ""
    return {
        "dataset": f"{result.dataset['name']}{synthetic}",
        "split": f"{result.split}{images}",
        "metric": result.title,
        "value": f"{result.value:.4g}" if result.metric in ("task_loss", "feature_rank") else f"{result.value:.4f}",
        "seed": "" if result.seed is None else str(result.seed),
        "note": result.note,
    }


def _teacher_licence(facts: ModelFacts) -> str | None:
    teachers = [facts.config] if facts.kind == "kead" else [stage.get("teacher") or {} for stage in facts.stages]
    teachers += [stage.get("boxes") or {} for stage in facts.stages]
    return next((teacher["licence"] for teacher in teachers if _known(teacher)), None)


def _limits(facts: ModelFacts, found: list[Result]) -> list[str]:
    limits = []
    licence = _teacher_licence(facts)
    if forbids_commerce(licence):
        limits.append(
            f"The anomaly maps behind it come from weights under {licence}: ask a lawyer before any commercial use."
        )
    if facts.kind != "kead" and forbids_commerce(made_under := strictest(facts.made_under)):
        limits.append(
            f"Weights or images that it was made from are under {made_under}: ask a lawyer before any commercial use."
        )
    if any((stage.get("dataset") or {}).get("synthetic") for stage in facts.stages):
        limits.append("It was trained on synthetic images: it shows how the method works, not how well on a real line.")
    if facts.kind == "backbone":
        limits.append("It gives feature maps, no boxes: a detector on it has to be trained.")
    if facts.command == "pretrain-detector" and facts.run.get("boxes"):
        limits.append("It knows one class, `defect`, and learned it from anomaly maps: it marks what looks unusual.")
    if facts.kind == "kead":
        limits.append(
            "Its maps say where an image differs from the references or the words; not all of that is a defect."
        )
    elif not any(result.of_labels for result in found):
        limits.append("No result on labelled images is recorded: measure it on your own before relying on it.")
    elif len({result.seed for result in found}) == 1:
        limits.append("All numbers are of one training with one seed; other seeds give other numbers.")
    return limits


def _backbone(facts: ModelFacts) -> dict[str, Any]:
    config = facts.config
    return {
        "architecture": config["architecture"],
        "timm": is_of_timm(config["architecture"]),
        "timm_shape": "(B, H, W, C)" if channels_last_in_timm(config["architecture"]) else "(B, C, H, W)",
        "yolo": config["architecture"] in VARIANTS,
        "pretrained": facts.command == "pretrain-backbone",
        "distilled": bool(facts.run.get("distill_loss") or facts.run.get("lambda")),
        "features": config.get("out_features") or [],
        "image_size": (facts.run.get("arguments") or {}).get("image_size"),
        "mean": [round(value, 4) for value in config.get("image_mean") or []],
        "std": [round(value, 4) for value in config.get("image_std") or []],
    }


def _detector(facts: ModelFacts) -> dict[str, Any]:
    config = facts.config
    family = FAMILIES[config["model_type"]]
    return {
        "family": family.title,
        "variant": config.get("variant"),
        "model_class": family.model_class.__name__ if family.model_class.__module__.startswith("agssp") else None,
        "architecture": config["backbone_config"]["architecture"],
        "classes": [config["id2label"][key] for key in sorted(config.get("id2label", {}), key=int)],
        "image_size": config.get("image_size"),
        "pretrained": facts.command == "pretrain-detector",
        "pseudo": bool(facts.run.get("boxes")),
    }


def _kead(facts: ModelFacts) -> dict[str, Any]:
    config = facts.config
    return {
        "teacher": _teacher(config),
        "local_weights": bool(config.get("weights")),
        "local_teacher": str(config.get("teacher", "")).startswith("local-dir:"),
        "categories": config.get("categories") or {},
        "described": config.get("described") or [],
        "layers": config.get("layers") or [],
        "image_size": config.get("image_size"),
        "grid_size": config.get("grid_size"),
    }
