"""What is recorded about images decides whether and under which licence they are passed on."""

import json

import pytest
from dataset_cases import FREE, images, labelled, maps, refused

from agssp.commands.dataset_push import DatasetPushArguments, main
from agssp.hub.dataset_facts import check_licence, recorded_facts

SOURCE = {"name": "aitex", "licence": "unknown", "redistribution": False, "reason": "its owner states no licence"}


@pytest.fixture
def root(tmp_path):
    """24 images with maps."""
    images(tmp_path / "images")
    maps(tmp_path / "images", tmp_path / "maps")
    return tmp_path


def test_nothing_recorded(tmp_path):
    assert recorded_facts(tmp_path) == {}
    assert check_licence({}, "mit", private=False) == check_licence({}, None, private=True) == []


@pytest.mark.parametrize("private", [False, True])
def test_images_that_may_not_be_passed_on_are_refused(root, private):
    record = root / "images/dataset.json"
    record.write_text(json.dumps({"name": "two", "title": "Two sources", "sources": [FREE, SOURCE]}))
    message = refused(root, maps=str(root / "maps"), private=private)
    assert "1 of its 2 sources" in message
    assert "aitex: its owner states no licence" in message
    assert "private repository" in message


def test_a_part_of_images_that_may_not_be_passed_on_is_refused_too(root):
    (root / "images/dataset.json").write_text(json.dumps({"name": "two", "sources": [SOURCE]}))
    images(root / "few/train", count=2)
    (root / "few/split.json").write_text(json.dumps({"dataset": str(root / "images"), "seed": 0}))
    assert "aitex" in refused(root, folder="few/train")


def test_files_and_outer_folders_of_images_that_may_not_be_passed_on_are_refused_too(root):
    labelled(root / "built/mt/data", splits=("train",))
    (root / "built/mt/dataset.json").write_text(json.dumps({"name": "two", "sources": [SOURCE]}))
    (root / "link").symlink_to(root / "built/mt/data/train")
    for folder in ("built/mt/data/train", "built/mt/data/train/metadata.jsonl", "built", "link"):
        assert "aitex" in refused(root, folder=folder, licence="mit"), folder


def test_an_unfinished_build_and_a_split_of_images_that_are_gone_are_refused(root):
    labelled(root / "built/half/data", splits=("train",))
    (root / "built/half/settings.json").write_text(json.dumps({"command": "dataset build", "settings": {}}))
    for folder in ("built/half", "built/half/data", "built"):
        assert "no finished data set" in refused(root, folder=folder, private=True), folder
    labelled(root / "few", splits=("train",))
    (root / "few/split.json").write_text(json.dumps({"dataset": str(root / "gone"), "seed": 0}))
    assert "nothing tells whether" in refused(root, folder="few/train", licence="mit")


@pytest.mark.slow
def test_what_somebody_published_is_passed_on_under_its_licence_alone(hub):
    published = {"agssp/own": {"sources": [FREE | {"name": "own-line"}]},
                 "agssp/told": {"name": "told", "sources": [], "licence": "cc-by-nc-sa-4.0"}}  # fmt: skip
    for name, recorded in published.items():
        hub.publish(name, {"dataset.json": json.dumps(recorded)}, repo_type="dataset")
    hub.publish("agssp/silent", {"notes.txt": ""}, repo_type="dataset")
    found = hub.run("""
        import json
        from agssp.errors import InputError
        from agssp.hub.dataset_facts import check_licence, recorded_facts

        def check(name, licence):
            try:
                return [source["licence"] for source in check_licence(recorded_facts(name), licence, private=False)]
            except InputError as error:
                return str(error)

        names = ("agssp/own", "agssp/told", "agssp/silent", "agssp/missing")
        print(json.dumps({name: [check(name, "mit"), check(name, None)] for name in names}))
    """).value
    for name, licence in (("agssp/own", "cc-by-sa-4.0"), ("agssp/told", "cc-by-nc-sa-4.0")):
        assert "contradict" in found[name][0]
        assert found[name][1] == [licence]
    assert found["agssp/silent"][0] == []
    assert "no licence is recorded" in found["agssp/silent"][1]
    assert "no such repository" in found["agssp/missing"][0]


def test_a_copy_of_what_somebody_published_keeps_its_licence(root):
    record = {"name": "told", "title": "Told", "sources": [], "licence": "cc-by-nc-sa-4.0"}
    (root / "images/dataset.json").write_text(json.dumps(record))
    push = {"folder": str(root / "images"), "repo_id": "agssp/x", "maps": str(root / "maps")}
    assert "contradict" in refused(root, licence="mit")
    main(DatasetPushArguments(**push, card_only=str(root / "card")))
    card = (root / "card/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-sa-4.0\n")
    assert "- Told: cc-by-nc-sa-4.0\n" in card


def test_a_licence_must_be_known_and_is_not_contradicted(root):
    assert "--licence" in refused(root, maps=str(root / "maps"))
    (root / "images/dataset.json").write_text(json.dumps({"name": "free", "title": "Free", "sources": [FREE]}))
    assert "contradict" in refused(root, maps=str(root / "maps"), licence="mit")
