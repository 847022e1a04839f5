"""The files of boxes hold what plain JSON and a plain loop over all rows give."""

import json
import os
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from agssp.boxes import store as box_store
from agssp.boxes.cutting import summary
from agssp.boxes.store import BoxRows, check_yolo_names, pseudo_objects, write_boxes, write_coco, write_yolo
from agssp.data import coco_file
from agssp.data.coco_file import write_coco_file
from agssp.errors import InputError


def make_files(folder, sizes=(7, 1, 12)):
    generator = np.random.default_rng(1)
    files, number = [], 0
    for shard, size in enumerate(sizes):
        rows = []
        for _ in range(size):
            boxes = generator.uniform(1, 20, (number % 4, 4)).astype(np.float32)
            rows.append({"image_id": f"plâte/{number % 3}/{number}.png", "category": number % 2,
                         "is_normal": (None, True, False)[number % 3], "width": 60, "height": 40, "anomaly_score": 0.5,
                         "objects": pseudo_objects(boxes, generator.uniform(0, 1, len(boxes)))})  # fmt: skip
            number += 1
        files.append(folder / f"boxes-{shard}.parquet")
        write_boxes(files[-1], ["plate", "strip"], rows)
    return files


def test_no_rows(tmp_path):
    rows = BoxRows([])
    assert list(rows) == []
    assert set(summary(rows).values()) == {0}
    write_coco(tmp_path / "coco.json", rows)
    content = json.loads((tmp_path / "coco.json").read_text())
    assert content == {"categories": [{"id": 1, "name": "defect"}], "images": [], "annotations": []}
    write_yolo(tmp_path / "yolo", rows)
    assert sorted(path.name for path in (tmp_path / "yolo").rglob("*")) == ["data.yaml", "labels"]


def test_rows_are_those_of_the_files_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(box_store, "_BATCH", 5)
    files = make_files(tmp_path)
    rows, expected = BoxRows(files), [row for file in files for row in pq.read_table(file).to_pylist()]
    assert list(rows) == expected
    assert list(rows) == expected
    boxes = [len(row["objects"]["bbox"]) for row in expected]
    normal = [count for row, count in zip(expected, boxes, strict=True) if row["is_normal"]]
    assert summary(rows) == {
        "images": 20, "images_with_boxes": sum(count > 0 for count in boxes), "boxes": sum(boxes),
        "normal_images": len(normal), "normal_images_with_boxes": sum(count > 0 for count in normal),
    }  # fmt: skip


def test_coco_is_what_the_whole_list_gives(tmp_path):
    rows = BoxRows(make_files(tmp_path))
    images, annotations = [], []
    for row in rows:
        images.append({"id": len(images) + 1, "file_name": row["image_id"], "width": 60, "height": 40})
        for bbox, score in zip(row["objects"]["bbox"], row["objects"]["score"], strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), "category_id": 1, "bbox": bbox,
                                "area": bbox[2] * bbox[3], "iscrowd": 0, "score": score})  # fmt: skip
    write_coco(tmp_path / "coco.json", rows)
    content = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    assert content == {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "defect"}]}
    assert list(content["annotations"][0]) == list(annotations[0])


def test_a_coco_file_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "coco.json"
    path.write_text("old")
    with pytest.raises(KeyError, match="gone"):
        write_coco_file(path, {}, [{"id": 1}], ({"bbox": {}[name]} for name in ["gone"]))
    assert (path.read_text(), len(list(tmp_path.iterdir()))) == ("old", 1)


@pytest.mark.parametrize("facts", [{}, {"categories": []}, {"info": {"a": 1}, "categories": []}])
def test_a_coco_file_is_json_whatever_stands_first(tmp_path, facts):
    write_coco_file(tmp_path / "coco.json", facts, [], [{"image_id": 3}])
    content = json.loads((tmp_path / "coco.json").read_text())
    assert content == {**facts, "images": [], "annotations": [{"id": coco_file.FIRST_COCO_ID, "image_id": 3}]}


def test_yolo_is_what_a_file_an_image_gives_and_takes_few_durable_steps(tmp_path, monkeypatch):
    rows = BoxRows(make_files(tmp_path))
    (tmp_path / "yolo/labels/old").mkdir(parents=True)
    (tmp_path / "yolo/labels/old/stale.txt").touch()
    (tmp_path / "yolo/images").mkdir()
    steps, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append(handle), fsync(handle)))
    write_yolo(tmp_path / "yolo", rows)
    expected = {}
    for row in rows:
        lines = [
            f"0 {(x + w / 2) / 60:.6f} {(y + h / 2) / 40:.6f} {w / 60:.6f} {h / 40:.6f}\n"
            for x, y, w, h in row["objects"]["bbox"]
        ]
        expected[row["image_id"].replace(".png", ".txt")] = "".join(lines)
    labels = tmp_path / "yolo/labels"
    found = {path.relative_to(labels).as_posix(): path.read_text() for path in labels.rglob("*.txt")}
    assert found == expected
    assert sorted(entry.name for entry in (tmp_path / "yolo").iterdir()) == ["data.yaml", "images", "labels"]
    # The folder's name, data.yaml and its name; where the system cannot do all at once, each file.
    assert len(steps) <= (4 if sys.platform == "linux" else 4 + 20)


def test_yolo_names_that_would_be_one_file_are_refused_both_times(tmp_path):
    names = ["a/x.png", "b/x.png", "a/./x.bmp"]
    with pytest.raises(InputError, match=r"'a/x.png' and 'a/./x.bmp' would share the YOLO file x.txt"):
        check_yolo_names(names, "yolo")
    rows = [{"image_id": name, "width": 1, "height": 1, "objects": {"bbox": []}} for name in names]
    with pytest.raises(InputError, match=r"'a/./x.bmp' would share the YOLO file x.txt"):
        write_yolo(tmp_path / "yolo", rows)
    assert not (tmp_path / "yolo/labels").exists()
    for outside in ("..", ".", "/x.png", "a/../../x.png"):
        with pytest.raises(InputError, match="points outside of yolo"):
            check_yolo_names([outside], "yolo")
