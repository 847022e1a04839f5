import json
import logging

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pil

from agssp.data.fingerprint import dataset_fingerprint
from agssp.data.readers import find_format, read_dataset
from agssp.errors import InputError


def picture(path, size=(40, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pil.new("L", size, 90).save(path)


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no images found"):
        read_dataset(tmp_path)


def test_missing_path_shows_near_names(tmp_path):
    (tmp_path / "plates").mkdir()
    with pytest.raises(InputError, match="near it are plates"):
        read_dataset(tmp_path / "plate")


def test_image_folder(tmp_path):
    for name in ("steel/normal/1.png", "steel/unlabelled/1.png", "steel/unlabelled/1.jpg", "pipe/bad/2.png"):
        picture(tmp_path / name)
    picture(tmp_path / "steel/masks/1.png")
    (tmp_path / "steel/notes.txt").write_text("not an image")
    data = read_dataset(tmp_path)
    assert data["image_id"] == [
        "pipe/bad/2.png",
        "steel/normal/1.png",
        "steel/unlabelled/1.jpg",
        "steel/unlabelled/1.png",
    ]
    assert [data.features["category"].names[index] for index in data["category"]] == ["pipe", *["steel"] * 3]
    assert data["is_normal"] == [False, True, None, None]
    fingerprint = dataset_fingerprint(data)
    moved = tmp_path.rename(tmp_path.parent / "moved")
    assert dataset_fingerprint(read_dataset(moved)) == fingerprint
    moved.rename(tmp_path)


def test_flat_folder_takes_its_name_or_the_one_given(tmp_path):
    picture(tmp_path / "bolts/1.png")
    assert read_dataset(tmp_path / "bolts").features["category"].names == ["bolts"]
    assert read_dataset(tmp_path / "bolts", category="screw").features["category"].names == ["screw"]


def test_boxes_outside_are_clipped_and_empty_ones_dropped_and_both_are_named(tmp_path, caplog):
    picture(tmp_path / "a.png", (40, 20))
    objects = {"bbox": [[30, 10, 50, 50], [5, 5, 0, 3], [60, 60, 5, 5], [1, 1, 2, 2]], "category": ["pit"] * 4}
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects}))
    with caplog.at_level(logging.WARNING):
        data = read_dataset(tmp_path)
    assert data[0]["objects"]["bbox"] == [[30, 10, 10, 10], [1, 1, 2, 2]]
    assert "1 boxes reached beyond their image and were clipped" in caplog.text
    assert "2 boxes have no area inside their image and were dropped" in caplog.text
    assert "metadata.jsonl:1 box 1" in caplog.text


def yolo(tmp_path, labels):
    picture(tmp_path / "images/train/a.png", (100, 50))
    picture(tmp_path / "images/train/b.png")
    picture(tmp_path / "images/val/c.png")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text(labels)
    (tmp_path / "labels/train/b.txt").write_text("")
    (tmp_path / "data.yaml").write_text("names: {0: pit, 1: scratch}\ntrain: images/train\nval: images/val\n")
    return tmp_path


def test_yolo_with_empty_and_missing_label_files(tmp_path):
    root = yolo(tmp_path, "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n")
    data = read_dataset(root)
    assert find_format(root) == "yolo"
    np.testing.assert_allclose(data[0]["objects"]["bbox"], [[40, 15, 20, 20], [10, 5, 20, 10]], atol=1e-4)
    assert data[0]["objects"]["category"] == [1, 0]
    assert [row["bbox"] for row in data["objects"]][1:] == [[]]
    assert read_dataset(root, split="val")["image_id"] == ["images/val/c.png"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", r"a.txt:1: class id 2 is beyond the list of 2 classes \(pit, scratch\)"),
        ("0 0.5 0.5 0.1", "a.txt:1: expected `class cx cy w h`"),
        ("0 0.5 x 0.1 0.1", "a.txt:1: expected `class cx cy w h`"),
    ],
)
def test_bad_yolo_labels(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        read_dataset(yolo(tmp_path, labels))


VOC = "<annotation><object><name>pit</name><bndbox>{}</bndbox></object></annotation>"
CORNERS = "<xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>9</ymax>"


def voc(tmp_path, content):
    picture(tmp_path / "IMAGES/a.png")
    picture(tmp_path / "IMAGES/b.png")
    picture(tmp_path / "MASKS/a.png")
    (tmp_path / "ANNOTATIONS").mkdir()
    (tmp_path / "ANNOTATIONS/a.xml").write_text(content)
    return tmp_path


def test_voc(tmp_path):
    data = read_dataset(voc(tmp_path, VOC.format(CORNERS)))
    assert data["image_id"] == ["IMAGES/a.png", "IMAGES/b.png"]
    assert data[0]["objects"]["bbox"] == [[2, 3, 10, 6]]
    assert data[0]["mask"]["path"].endswith("MASKS/a.png")
    assert data[1]["objects"]["bbox"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [("<annotation>", "a.xml: not valid XML"), (VOC.format("<xmin>1</xmin>"), "object 0: expected bndbox")],
)
def test_bad_voc(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_dataset(voc(tmp_path, content))


def test_parquet_saved_and_streamed_are_the_same_rows(tmp_path):
    for index in range(3):
        picture(tmp_path / f"images/{'normal' if index else 'unlabelled'}/{index}.png")
    source = read_dataset(tmp_path / "images", category="plate")
    embedded = source.map(lambda row: {"image": {"bytes": open(row["image"]["path"], "rb").read(), "path": None}})  # noqa: SIM115, PTH123
    (tmp_path / "parquet").mkdir()
    embedded.to_parquet(tmp_path / "parquet/train-00000-of-00001.parquet")
    source.save_to_disk(tmp_path / "saved")
    for format in ("parquet", "saved"):
        data = read_dataset(tmp_path / format)
        assert data["image_id"] == source["image_id"]
        assert data["is_normal"] == [True, True, None]
        assert dataset_fingerprint(data) == dataset_fingerprint(source)
    rows = list(read_dataset(tmp_path / "parquet", streaming=True))
    assert [row["image_id"] for row in rows] == list(source["image_id"])
    assert rows[0]["image"]["bytes"]


def test_table_without_ids_or_categories_gets_them(tmp_path):
    picture(tmp_path / "a.png")
    table = Dataset.from_dict({"image": [str(tmp_path / "a.png")]}, features=Features({"image": Image()}))
    table.save_to_disk(tmp_path / "saved")
    data = read_dataset(tmp_path / "saved", category="plate")
    assert data["image_id"][0].endswith("-a.png")
    assert data["image_id"] == read_dataset(tmp_path / "saved", category="plate")["image_id"]
    assert data.features["category"].names == ["plate"]
    assert data[0]["is_normal"] is None


def test_table_without_images(tmp_path):
    Dataset.from_dict({"text": ["a"]}, features=Features({"text": Value("string")})).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="lacks the column image; it has text"):
        read_dataset(tmp_path / "saved")
