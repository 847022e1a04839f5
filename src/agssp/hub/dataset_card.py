"""Writes a data set's card from what is recorded about it: a field that is not known is left out."""

from typing import Any

from datasets import DatasetInfo, Features
from datasets.info import DatasetInfosDict

from agssp.data.schema import PSEUDO_CLASS

from .templates import render

HUB_LICENCES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0", "cdla-permissive-2.0", "odbl", "odc-by", "pddl", "unlicense",
)  # fmt: skip
"""Licences of data that the Hub has a name of its own for; others go under `other`."""
COLUMNS = {
    "image": "the file as it came{metadata}, decoded by `datasets` to a PIL image",
    "image_id": "unique and stable{ids}",
    "category": "kind of product",
    "is_normal": "whether it is known to be without defect; null where that is not known",
    "mask": "pixels of defects, of the image's size ({masks}); null where there is none",
    "objects": "`bbox` (left, top, width, height in px), `category`, `score`, `iscrowd`",
    "anomaly_map": "raw values on the teacher's patch grid, {grid} x {grid} float16; stretch it over the image",
    "anomaly_score": "one number for the image, higher where it is more unusual",
    "map_max": "highest value of the map",
}
IDS = {
    "path": ": the name that it has among its publisher's files",
    "hash": ": a digest of the name that it has among its publisher's files (first 32 hexadecimal digits of SHA-256)",
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(facts: dict[str, Any], repo_id: str, published: Features, *, picture: str | None = None) -> str:
    """The text of README.md.

    Args:
        facts: what `dataset.json` of the repository holds.
        repo_id: OWNER/NAME, for the title and the code that loads it.
        published: columns of the rows.
        picture: file name of a picture beside the card.

    Returns:
        YAML metadata and Markdown, accepted by `huggingface_hub.DatasetCard`.
    """
    splits, maps = facts["splits"], facts.get("maps") or {}
    total = {name: sum(split[name] for split in splits.values()) for name in next(iter(splits.values()))}
    defect_types = facts.get("defect_types") or []
    licences = _licences(facts)
    values = {
        "metadata": _metadata(facts, published, licences),
        "repo_id": repo_id,
        "title": facts["title"],
        **{name: total[name] for name in ("images", "boxes", "crowds", "masks", "maps")},
        "unknown": total["images"] - total["normal"] - total["defective"],
        "pseudo": defect_types == [PSEUDO_CLASS] and "boxes" in facts,
        "box_rule": _box_rule(facts.get("boxes")),
        "labelled": bool(defect_types),
        "defect_types": defect_types,
        "synthetic": facts.get("synthetic", False),
        "picture": picture,
        "about_picture": " and ".join(
            ["An image", *(["its anomaly map"] if total["maps"] else []), *(["boxes"] if total["boxes"] else [])]
        ),
        "splits": splits,
        "counted": [name for name, count in total.items() if count],
        "first_split": next(iter(splits)),
        "categories": facts["categories"],
        "left_out": facts["left_out"],
        "columns": {
            name: COLUMNS[name].format(
                grid=facts.get("grid_size"),
                masks=facts.get("mask_values") or "0 is sound, 255 a defect",
                ids=IDS.get(facts.get("ids", ""), ""),
                metadata=_metadata_words(facts.get("metadata")),
            )
            for name in published
        },
        "teacher": _teacher(maps, facts),
        "teacher_licence": maps.get("licence"),
        "sources": facts["sources"],
        "licence": licences[0] if licences else None,
        "licence_text": facts.get("licence"),
    }
    return render("dataset.md.jinja", values)


def _metadata(facts: dict[str, Any], published: Features, licences: list[str]) -> str:
    from huggingface_hub import DatasetCardData

    images = sum(split["images"] for split in facts["splits"].values())
    tasks = ["object-detection"] if facts.get("defect_types") else []
    tasks += ["image-segmentation"] if "mask" in published else []
    data: Any = DatasetCardData(
        license=(licences if len(licences) > 1 else licences[0]) if licences else None,
        pretty_name=facts["title"],
        task_categories=tasks or None,
        size_categories=next((name for limit, name in SIZES if images < limit), "n>1M"),
        tags=["agssp", "anomaly-detection", "industrial-inspection", *(["anomaly-maps"] if facts.get("maps") else [])],
    )
    if licences == ["other"] and facts.get("licence"):
        data.license_name = facts["licence"]
    files = [{"split": name, "path": f"data/{name}-*"} for name in facts["splits"]]
    data.configs = [{"config_name": "default", "data_files": files}]
    DatasetInfosDict({"default": DatasetInfo(features=published)}).to_dataset_card_data(data)
    return data.to_yaml(line_break="\n").strip()


def _metadata_words(metadata: Any) -> str:
    """What has become of the files' metadata, as a part of a sentence."""
    if metadata == "kept":
        return " with its metadata"
    dropped = metadata.get("dropped") if isinstance(metadata, dict) else None
    kinds = [name for name in dropped or {} if name not in ("images", "masks")]
    return f" but for its metadata ({', '.join(kinds)}), of which the orientation stays" if kinds else ""


def _licences(facts: dict[str, Any]) -> list[str]:
    """Names of the Hub, each once; empty where none is known."""
    named = [source.get("licence") for source in facts["sources"]] or [facts.get("licence")]
    known = [str(name).lower() for name in named if name and name != "unknown"]
    return list(dict.fromkeys(name if name in HUB_LICENCES else "other" for name in known))


def _teacher(maps: dict[str, Any], facts: dict[str, Any]) -> dict[str, str]:
    """What is recorded of how the maps were made, in words."""
    chosen = ((maps.get("references") or {}).get("chosen") or {}).values()
    modes = {entry["mode"] for entry in chosen if entry.get("mode")}
    compared = {"normal": "normal images of the category", "mutual": "other images of the category"}
    grid = facts.get("grid_size")
    texts = {
        "teacher": maps.get("teacher") and f"`{maps['teacher']}`",
        "weights": maps.get("pretrained") and f"`{maps['pretrained']}`",
        "licence of the weights": maps.get("licence"),
        "input": maps.get("image_size") and f"{maps['image_size']} px",
        "grid": f"{grid} x {grid}" if maps and grid else None,
        "compared with": " or ".join(sorted(compared.get(mode, mode) for mode in modes)) or None,
        "drawn by": maps.get("version") and f"agssp {maps['version']}",
    }
    return {name: str(text) for name, text in texts.items() if text}


def _box_rule(boxes: dict[str, Any] | None) -> str | None:
    if not boxes or not boxes.get("rule"):
        return None
    return f"rule {boxes['rule']}" + (f", delta {boxes['delta']:g}" if boxes.get("delta") is not None else "")
