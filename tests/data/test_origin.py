import json

import pytest

from agssp.data.origin import describe_source, recorded_about
from agssp.data.synthetic import make_surfaces


def test_what_is_not_there_is_a_hub_id_or_a_name():
    assert describe_source("me/steel") == {"name": "me/steel", "hub_id": "me/steel"}
    assert describe_source("me/steel", "test") == {"name": "me/steel", "hub_id": "me/steel", "split": "test"}
    assert describe_source("/nowhere/on/this/disk") == {"name": "disk"}


def test_a_folder_or_file_is_called_by_its_own_name_alone(tmp_path):
    (tmp_path / "steel").mkdir()
    (tmp_path / "plates.json").write_text("{}")
    assert describe_source(tmp_path / "steel") == {"name": "steel"}
    assert describe_source(tmp_path / "plates.json") == {"name": "plates"}


def test_dataset_json_tells_title_sources_and_licences(tmp_path):
    told = {"name": "corpus", "title": "A corpus", "sources": [{"name": "A", "licence": "MIT", "images": 3}, {}]}
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    (tmp_path / "images").mkdir()
    facts = {"name": "A corpus", "sources": [{"name": "A", "licence": "MIT"}]}
    assert describe_source(tmp_path) == describe_source(tmp_path / "images") == facts


def test_the_record_beside_the_images_is_found_from_a_part_of_them_too(tmp_path):
    assert recorded_about(tmp_path) == recorded_about("/nowhere/on/this/disk") == recorded_about("me/steel") == {}
    told = {"licence": "cc-by-4.0", "maps": {"teacher": "a"}, "boxes": {"rule": "relative"}}
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    (tmp_path / "images").mkdir()
    assert recorded_about(tmp_path) == recorded_about(tmp_path / "images") == told
    assert describe_source(tmp_path)["licence"] == "cc-by-4.0"
    (tmp_path / "few/train").mkdir(parents=True)
    (tmp_path / "few/split.json").write_text(json.dumps({"dataset": str(tmp_path), "seed": 3}))
    assert recorded_about(tmp_path / "few/train") == told


@pytest.mark.parametrize("content", ["", "[]", "{", "3"])
def test_a_file_of_that_name_that_is_another_changes_nothing(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    assert describe_source(tmp_path) == {"name": tmp_path.name}


def test_drawn_images_are_known_as_such_also_in_a_split(tmp_path):
    make_surfaces(tmp_path / "made", unlabelled=0, labelled=0, normal=0, size=32)
    synthetic = {"name": "Synthetic metal surfaces", "synthetic": True}
    assert describe_source(tmp_path / "made" / "labelled") == synthetic
    (tmp_path / "few" / "test").mkdir(parents=True)
    record = {"dataset": str(tmp_path / "made" / "labelled"), "seed": 3}
    (tmp_path / "few" / "split.json").write_text(json.dumps(record))
    assert describe_source(tmp_path / "few" / "test") == synthetic | {"split": "test", "split_seed": 3}
