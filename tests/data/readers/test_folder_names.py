"""Folders whose names hold what patterns, addresses and shells read otherwise are read like any other."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from agssp.boxes.store import THRESHOLDS, read_boxes, write_boxes
from agssp.commands.split import SplitArguments, main
from agssp.data.readers import find_splits, read_dataset
from agssp.data.schema import features
from agssp.errors import InputError
from agssp.maps.store import MapStore

# A name, and one beside it that it would mean as a pattern.
NAMES = [("line [3]", "line 3"), ("a*b", "axxb"), ("a?b", "axb"), ("[!x]", "y"), ("x**y", "xy"), ("{a,b}", "a")]
WAYS = ("file", "folder", "stream", "saved")


def table(name):
    rows = [{"image": {"bytes": b"1", "path": None}, "image_id": name, "category": 0, "is_normal": None}]
    return pa.Table.from_pylist(rows, schema=features(["plate"]).arrow_schema)


def write(folder, way, name):
    if way == "saved":
        Dataset(table(name), fingerprint=name).save_to_disk(str(folder.absolute()))
        return folder
    folder.mkdir(parents=True)
    pq.write_table(table(name), folder.absolute() / "train-00000-of-00001.parquet")
    return folder / "train-00000-of-00001.parquet" if way == "file" else folder


@pytest.mark.parametrize(
    ("way", "names"),
    [
        *(("folder", names) for names in [*NAMES, ("a#b@c", "a"), ("~x", "x"), ("100%20b", "100 b"), ("lot=7", "lot")]),
        *((way, names) for way in ("file", "stream", "saved") for names in NAMES[:1]),
        ("stream", ("a?b", "axb")),
        ("saved", ("~x", "x")),
    ],
)
def test_the_table_of_a_folder_is_never_that_of_another(tmp_path, way, names):
    name, other = names
    write(tmp_path / other / "few", way, "other")
    path = write(tmp_path / name / "few", way, "own")
    assert [row["image_id"] for row in read_dataset(path, streaming=way == "stream")] == ["own"]


@pytest.mark.parametrize(("way", "name"), [("folder", "hf:x"), ("folder", "~x"), ("saved", "~x"), ("stream", "[a]")])
def test_relative_paths_are_no_addresses_and_no_homes(tmp_path, monkeypatch, way, name):
    monkeypatch.chdir(tmp_path)
    path = write(Path(name), way, "own")
    assert [row["image_id"] for row in read_dataset(path, streaming=way == "stream")] == ["own"]


@pytest.mark.parametrize("way", WAYS)
def test_names_that_are_taken_for_addresses_are_refused(tmp_path, way):
    path = write(tmp_path / "a::b" / "few", "folder" if way == "saved" else way, "own")
    if way == "saved":
        (path / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match=r"a::b.*`datasets` takes the '::' in this name for a chain of addresses"):
        read_dataset(path, streaming=way == "stream")


def test_names_that_are_taken_for_variables_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LINE", "other")
    path = write(tmp_path / "$LINE" / "few", "folder", "own")
    with pytest.raises(InputError, match=r"\$LINE.*takes the '\$' in this name for a variable"):
        read_dataset(path)
    assert read_dataset(write(tmp_path / "$LINE" / "disk", "saved", "own"))["image_id"][:] == ["own"]
    # A dollar that begins no variable's name is nothing special.
    assert read_dataset(write(tmp_path / "5$" / "few", "folder", "own"))["image_id"][:] == ["own"]


@pytest.mark.parametrize("name", ["line [3]*?", "a::b", "hf:x", "lot=7"])
def test_files_of_every_layout_and_what_the_commands_write(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    root = Path(name)
    layouts = ("plain", "metadata", "yolo", "coco", "voc")
    for layout in layouts:
        for index in range(3):
            image = root / layout / ("images" if layout == "yolo" else "JPEGImages" if layout == "voc" else ".")
            image.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 60), index, np.uint8)).save(image / f"{index}.png")
    rows = [
        {"file_name": f"{index}.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": ["pit"]}} for index in range(3)
    ]
    (root / "metadata/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "yolo/labels").mkdir()
    (root / "voc/Annotations").mkdir()
    for index in range(3):
        (root / f"yolo/labels/{index}.txt").write_text("0 0.5 0.5 0.1 0.1")
        box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax></bndbox>"
        text = f"<annotation><object><name>pit</name>{box}</object></annotation>"
        (root / f"voc/Annotations/{index}.xml").write_text(text)
    (root / "yolo/data.yaml").write_text("train: images\nnames: [pit]\n")
    content = {
        "images": [{"id": index, "file_name": f"{index}.png"} for index in range(3)],
        "categories": [{"id": 1, "name": "pit"}],
        "annotations": [{"id": index, "image_id": index, "category_id": 1, "bbox": [1, 2, 3, 4]} for index in range(3)],
    }
    (root / "coco/labels.json").write_text(json.dumps(content))
    for layout in layouts:
        data = read_dataset(root / layout)
        assert len(data) == 3
        assert layout == "plain" or [len(row["bbox"]) for row in data["objects"]] == [1, 1, 1]

    main(SplitArguments(dataset=str(root / "yolo"), output=str(root / "few"), count=2))
    assert len(list((root / "few").rglob("*.parquet"))) == len(find_splits(root / "few")) == 2
    assert pq.read_metadata(next((root / "few/train").iterdir()).absolute()).num_rows == 2

    store = MapStore.create(root / "maps", {"categories": ["plate"], "grid_size": 2, "teacher": "timm:test"})
    row = {"image_id": "a", "category": 0, "is_normal": None, "width": 6, "height": 4, "anomaly_score": 1.0,
           "map_max": 1.0}  # fmt: skip
    store.write_shard(store.shard_path(0, 1), [row], np.ones((1, 2, 2), np.float16), [])
    assert MapStore.open(root / "maps")["a"].tolist() == [[1, 1], [1, 1]]
    objects = {"bbox": [[1.0, 1.0, 2.0, 2.0]], "category": [0], "score": [0.5]}
    boxes = [{key: value for key, value in row.items() if key != "map_max"} | {"objects": objects}]
    write_boxes(root / "boxes/data/boxes-00000-of-00001.parquet", ["plate"], boxes)
    (root / "boxes" / THRESHOLDS).write_text("{}")
    assert list(read_boxes(root / "boxes")) == ["a"]
