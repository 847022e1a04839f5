"""A data set that brings its maps and boxes along, as published ones do, trains like one beside a map store."""

from pathlib import Path

import numpy as np
import pytest
import torch
from chain_cases import backbone_arguments, detector_arguments
from datasets import Array2D, Dataset, Features, Value
from safetensors.torch import load_file

from agssp.boxes.store import boxes_of, pseudo_objects, read_boxes
from agssp.commands import pretrain_backbone, pretrain_detector
from agssp.data.readers import read_dataset
from agssp.data.schema import objects_feature
from agssp.errors import InputError
from agssp.maps.store import MapStore


@pytest.fixture
def table(root):
    """The images of `root` with their boxes and maps as one Parquet file; the last image has no map."""
    rows = read_dataset(root / "images")
    store, boxes = MapStore.open(root / "maps"), read_boxes(root / "boxes")
    last = rows["image_id"][-1]

    def columns(row):
        name = row["image_id"]
        found, scores = boxes[name]
        objects = pseudo_objects(found, scores)
        return {
            "image": {"bytes": Path(row["image"]["path"]).read_bytes(), "path": None},
            "anomaly_map": None if name == last else store[name],
            "objects": objects,
        }

    added = {"anomaly_map": Array2D((8, 8), "float16"), "objects": objects_feature(["defect"])}
    (root / "table").mkdir()
    rows.map(columns, features=Features(rows.features | added)).to_parquet(root / "table/train-00000-of-00001.parquet")
    return str(root / "table")


def fewer_maps(root):
    """A store of all maps but the last image's."""
    store = MapStore.open(root / "maps")
    facts = store.table().to_pylist()
    ids = read_dataset(root / "images")["image_id"][:-1]
    facts = [row for row in facts if row["image_id"] in ids]
    other = MapStore.create(root / "fewer maps", store.manifest)
    other.write_shard(other.shard_path(0, 1), facts, np.stack([store[row["image_id"]] for row in facts]), [])
    return str(root / "fewer maps")


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_maps_of_the_data_set_are_those_of_a_store(root, table, capsys):
    once = {"num_train_epochs": 1}
    pretrain_backbone.main(*backbone_arguments(root, "column", dataset=table, maps=None, **once))
    assert "1 of 12 images have no map" in capsys.readouterr().out
    pretrain_backbone.main(*backbone_arguments(root, "store", dataset=table, maps=fewer_maps(root), **once))
    assert_same(weights(root / "column"), weights(root / "store"))


@pytest.mark.slow
def test_boxes_of_the_data_set_are_those_of_a_folder(root, table):
    there, given = boxes_of(read_dataset(table)), read_boxes(root / "boxes")
    assert {name: [part.tolist() for part in found] for name, found in there.items()} == {
        name: [part.tolist() for part in found] for name, found in given.items()
    }
    once = {"num_train_epochs": 1, "dataset": table}
    pretrain_detector.main(*detector_arguments(root, "column", boxes=None, **once))
    pretrain_detector.main(*detector_arguments(root, "folder", **once))
    assert_same(weights(root / "column"), weights(root / "folder"))


def test_rows_of_which_nothing_is_known_have_no_boxes():
    columns = Features({"image_id": Value("string"), "objects": objects_feature(["defect"])})
    known = {"bbox": [], "category": [], "score": [], "iscrowd": []}
    rows = Dataset.from_list([{"image_id": "a", "objects": None}, {"image_id": "b", "objects": known}], columns)
    assert {name: len(found) for name, (found, _) in boxes_of(rows).items()} == {"b": 0}


def test_what_is_missing_is_named(root):
    with pytest.raises(InputError, match="images has no column `anomaly_map`; make a store"):
        pretrain_backbone.main(*backbone_arguments(root, "a", maps=None))
    with pytest.raises(InputError, match=r"--boxes: .*images brings no pseudo boxes along; cut boxes"):
        pretrain_detector.main(*detector_arguments(root, "b", boxes=None))
    # Labels are no pseudo boxes: whoever forgets --boxes must not train on them, test images among them.
    with pytest.raises(
        InputError, match=r"labelled brings .* but labels \(pit, scratch\): those are for `agssp finetune`"
    ):
        pretrain_detector.main(*detector_arguments(root, "c", dataset=str(root / "labelled"), boxes=None))
