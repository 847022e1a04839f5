import json

import pytest
from PIL import Image

from agssp.data.labels import with_known_boxes
from agssp.data.readers import read_dataset
from agssp.errors import InputError

BOX = {"bbox": [[1, 2, 10, 12]], "category": ["pit"]}
NONE = {"bbox": [], "category": []}


def labelled(root, **rows):
    """A folder with an image for each name, which metadata.jsonl says this of."""
    root.mkdir()
    for name in rows:
        Image.new("RGB", (40, 30)).save(root / f"{name}.png")
    lines = [json.dumps({"file_name": f"{name}.png", **facts}) for name, facts in rows.items()]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return read_dataset(root)


def test_no_labels_at_all(tmp_path):
    dataset = labelled(tmp_path / "images", a={"objects": BOX}).select([])
    assert len(with_known_boxes(dataset, "images")) == 0


def test_only_images_of_which_nothing_is_known(tmp_path):
    dataset = labelled(tmp_path / "images", a={"objects": BOX}, b={}, c={"is_normal": False})
    with pytest.raises(InputError, match="images: its 2 images have no labels"):
        with_known_boxes(dataset.select([1, 2]), "images")


def test_they_are_left_out_and_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = {"box": {"objects": BOX}, "none": {"objects": NONE}, "nothing": {}, "null": {"objects": None}}
    rows |= {"normal": {"is_normal": True}, "defective": {"is_normal": False}}
    dataset = with_known_boxes(labelled(tmp_path / "images", **rows), "images")
    found = {row["image_id"]: len(row["objects"]["bbox"]) for row in dataset}
    assert found == {"box.png": 1, "none.png": 0, "normal.png": 0}
    assert "images: 3 of 6 images have no labels and are left out" in caplog.text
    assert with_known_boxes(dataset, "images") is dataset
