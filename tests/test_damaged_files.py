"""Files that others may have made, or a crash has cut: whatever is in them, only an InputError that names the file."""

import contextlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from agssp.arguments import read_config
from agssp.boxes.store import box_facts, read_boxes
from agssp.commands import split
from agssp.data.origin import describe_source
from agssp.data.readers import read_dataset
from agssp.errors import InputError
from agssp.hub.export import OnnxDetector
from agssp.hub.facts import read_facts
from agssp.maps.knowledge_base import KnowledgeBase
from agssp.maps.references import ReferenceBank, load_banks, save_banks
from agssp.maps.saving import open_kead
from agssp.maps.store import MapStore
from agssp.maps.teacher_weights import load_weights
from agssp.models.backbone.saved_detectors import saved_input_settings
from agssp.models.backbone.start_weights import read_safetensors
from agssp.models.detection import catalogue
from agssp.models.detection.yolo.weights import read_weights
from agssp.output_folder import claim_output
from agssp.report.pretraining import read_health
from agssp.sources.manifest import read_manifest
from agssp.sources.table import read_source
from agssp.study.study_file import read_study
from agssp.training.attention_snapshots import read_examples, write_examples
from agssp.training.ema import ExponentialMovingAverage

DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "a number": lambda content: b"7\n",
    "a list": lambda content: b'["a"]\n',
    "no text": lambda content: b"\x89PNG\r\n\x1a\n\xff\xfe\x00" + bytes(range(256)),
    "deep": lambda content: b"[" * 100_000,
    "as deep as Python allows": lambda content: b"[" * 300 + b"]" * 300,
}


def write(file: Path, content: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content) if file.suffix in (".json", ".jsonl") else yaml.safe_dump(content))
    return file


def image(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(folder / "a.png")


def coco(root):
    image(root)
    rows = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    images = [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}]
    content = {"images": images, "annotations": [rows], "categories": [{"id": 1, "name": "pit"}]}
    file = write(root / "labels.json", content)
    return file, lambda: read_dataset(file, format="coco")


def table_of_images(root):
    image(root)
    file = write(root / "metadata.jsonl", {"file_name": "a.png"})
    return file, lambda: read_dataset(root)


def yolo(root):
    image(root / "images")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    file = write(root / "data.yaml", {"names": ["pit"], "train": "images"})
    return file, lambda: read_dataset(file)


def cvat(root):
    image(root)
    file = root / "annotations.xml"
    box = '<box label="pit" xtl="1" ytl="1" xbr="5" ybr="5"/>'
    file.write_text(f'<annotations><image name="a.png" width="20" height="10">{box}</image></annotations>')
    return file, lambda: read_dataset(file, format="cvat")


def parquet(root):
    file = root / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"image": [{"bytes": b"1", "path": "a.png"}]}), file)
    return file, lambda: read_dataset(file)


def built(root):
    facts = dict.fromkeys(("name", "sources", "counts", "columns", "splits"))
    file = write(root / "dataset.json", facts)
    return file, lambda: read_manifest(root)


def origin(root):
    image(root / "images")
    file = write(root / "dataset.json", {"name": "mine", "sources": [{"name": "a", "licence": "mit"}]})
    return file, lambda: describe_source(root / "images")


def source(root):
    file = write(root / "mine.yaml", {"name": "mine", "title": "Mine"})
    return file, lambda: read_source(file)


def store(root):
    file = write(root / "manifest.json", {"grid_size": 2, "categories": ["plate"]})
    return file, lambda: MapStore.open(root)


def boxes(root):
    file = root / "data" / "boxes-00000-of-00001.parquet"
    file.parent.mkdir()
    write(root / "thresholds.json", {})
    pq.write_table(pa.table({"image_id": ["a"], "objects": [{"bbox": [[1.0, 1, 2, 2]], "score": [0.5]}]}), file)
    return file, lambda: read_boxes(root)


def thresholds(root):
    file = write(root / "thresholds.json", {"rule": "sigma"})
    return file, lambda: box_facts(root)


def split_record(root):
    file = write(root / "out" / "split.json", {"seed": 1})
    return file, lambda: split.claim(root / "out", {"seed": 1}, {})


def part_of_split(root):
    file = write(root / "split.json", {"seed": 1, "dataset": "owner"})
    image(root / "train")
    return file, lambda: describe_source(root / "train")


def settings(root):
    file = write(root / "settings.json", {"command": "finetune", "settings": {}})
    return file, lambda: claim_output(root, "finetune", {})


def health(root):
    content = {"results": {"starting_weights": {}}, "arguments": {"streaming": False}}
    file = write(root / "run.json", content)
    return file, lambda: read_health(root)


def published(name):
    def make(root):
        write(root / "config.json", {"model_type": "agssp_yolo"})
        file = write(root / name, {"model_type": "agssp_yolo"})
        return file, lambda: read_facts(root)

    return make


def measured(root):
    write(root / "model" / "config.json", {"model_type": "agssp_yolo"})
    content = {"map_50_95": 0.5, "model": str(root / "model"), "measured_on": {"name": "mine"}}
    file = write(root / "measured" / "metrics.json", content)
    return file, lambda: read_facts(root / "model", [root / "measured"])


def prepared(root):
    write(root / "config.json", {"model_type": "rt_detr_resnet"})
    file = write(root / "preprocessor_config.json", {"do_normalize": False})
    return file, lambda: saved_input_settings(root)


def detector(root):
    file = write(root / "config.json", {"model_type": "agssp_yolo"})
    return file, lambda: catalogue.open_folder(root)


def kead(root):
    file = write(root / "config.json", {"model_type": "agssp_kead"})
    return file, lambda: open_kead(None, root)


def knowledge(root):
    file = write(root / "mine.yaml", {"plate": {"object": "steel plate", "defects": {"pit": "dark dot"}}})
    return file, lambda: KnowledgeBase.load(file)


def flags(root):
    file = write(root / "flags.yaml", {"epochs": 3})
    return file, lambda: read_config(file, {"epochs"})


def study(root):
    file = write(root / "mine.yaml", {"title": "Mine", "extends": ""})
    return file, lambda: read_study(str(file), "small", [])


def description(root):
    (root / "model.onnx").write_bytes(b"")
    file = write(root / "model.onnx.json", {"labels": {"0": "pit"}})
    return file, lambda: OnnxDetector(root / "model.onnx")


def onnx(root):
    file, facts = root / "model.onnx", {"mean": [0, 0, 0], "std": [1, 1, 1]}
    file.write_bytes(b"no graph")
    shape = {"shape": ["batch", 3, 64, 64]}
    suppression = {"iou_threshold": 0.7}
    content = {"labels": {"0": "pit"}, "input": shape, "normalisation": facts, "suppression": suppression}
    write(root / "model.onnx.json", content)
    return file, lambda: OnnxDetector(file)


def tensors(open_file):
    def make(root):
        file = root / "weights.safetensors"
        save_file({"weight": torch.ones(40, 30)}, file)
        return file, lambda: open_file(file)

    return make


def index(root):
    file = write(root / "model.safetensors.index.json", {"weight_map": {"weight": "model-1.safetensors"}})
    return file, lambda: read_safetensors(root)


def references(root):
    file = root / "references.safetensors"
    save_banks({"plate": ReferenceBank(torch.ones(1, 2, 4, 3), ["a", "b"])}, {}, file)
    return file, lambda: load_banks(file)


def examples(root):
    write_examples(root, torch.zeros(1, 3, 8, 8), None, ["plate"])
    (file,) = root.rglob("*.safetensors")
    return file, lambda: read_examples(root)


KINDS = {
    "COCO": coco,
    "metadata.jsonl": table_of_images,
    "data.yaml": yolo,
    "CVAT": cvat,
    "a table": parquet,
    "dataset.json of a build": built,
    "dataset.json beside images": origin,
    "a source": source,
    "manifest.json": store,
    "box Parquet": boxes,
    "thresholds.json": thresholds,
    "split.json": split_record,
    "split.json of a part": part_of_split,
    "settings.json": settings,
    "run.json of a report": health,
    "run.json of a model": published("run.json"),
    "config.json of a model": published("config.json"),
    "metrics.json": measured,
    "preprocessor_config.json": prepared,
    "config.json of a detector": detector,
    "config.json of a KeAD": kead,
    "knowledge": knowledge,
    "--config": flags,
    "a study": study,
    "an ONNX file's description": description,
    "an ONNX file": onnx,
    "weights to start from": tensors(read_safetensors),
    "weights of YOLO": tensors(read_weights),
    "weights of a detector": tensors(catalogue.open_file),
    "weights of a teacher": tensors(lambda file: load_weights(nn.Linear(30, 40), file)),
    "averages": tensors(lambda file: ExponentialMovingAverage(nn.Linear(30, 40)).load(file)),
    "the index of weights": index,
    "references": references,
    "examples of attention": examples,
}
# Nothing is wrong with these: a file of that name may be another's, a table may be empty or end early.
HARMLESS = {("metadata.jsonl", "empty"), ("data.yaml", "half"), ("--config", "empty"), ("a study", "half")}
HARMLESS |= {(kind, damage) for kind in ("dataset.json beside images", "split.json of a part") for damage in DAMAGES}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named(tmp_path, kind, damage):
    file, open_it = KINDS[kind](tmp_path)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    if (kind, damage) in HARMLESS:
        with contextlib.suppress(InputError):
            open_it()
        return
    with pytest.raises(InputError) as caught:
        open_it()
    said = str(caught.value)
    assert (
        file.name in said
        or (kind in ("a study", "config.json of a KeAD") and file.stem in said)
        or str(tmp_path) in said
    )
    assert len(said) > len(str(file)) + 15
