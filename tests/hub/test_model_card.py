"""Cards from no facts at all up to all of them: nothing empty, nothing invented, accepted by huggingface_hub."""

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from model_cases import backbone_folder, backbone_record, detector_folder, finetune_record

from agssp import InputError, KeAD
from agssp.hub.facts import ModelFacts, read_facts
from agssp.hub.model_card import model_card
from agssp.hub.publishing import collect
from agssp.hub.results import eval_result_files
from agssp.models.detection import catalogue
from agssp.training.run import start_licences

ROOT = Path("/home/ann/work")
YOLO = {"model_type": "agssp_yolo", "variant": "yolov8n", "backbone_config": {"architecture": "yolov8n"}}
BACKBONE = {"model_type": "agssp_backbone", "architecture": "resnet50"}
KEAD = {"model_type": "agssp_kead", "teacher": "ViT-B-16-plus-240"}
MINIMAL = {
    "backbone": BACKBONE,
    "detector": YOLO | {"id2label": {"0": "pit"}},
    "kead": KEAD,
}


def check_whole(text):
    """The card parses, and no field, heading, cell or list item of it is empty."""
    card = ModelCard(text)
    assert card.data.license in ("apache-2.0", "agpl-3.0", "other", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", None)
    prose = re.sub(r"^```.*?^```$", "code", text, flags=re.M | re.S)
    for word in (r"\bNone\b", "[Uu]ndefined", r"\bnan\b", "unknown", r"\{\{", r"\{%", r"\[\]", r"\(\)", "``"):
        assert not re.search(word, prose), word
    assert not re.search(r"^(#+) .*\n+(\1 |\Z)", prose, re.M), "a heading without text"
    assert not re.search(r"\|\s*\|[^\n|]*\w[^\n|]*\|$", prose, re.M), "an empty cell"
    assert not re.search(r"^-\s*$", card.text, re.M)
    assert "\n\n\n" not in text
    return card


@pytest.mark.parametrize("kind", MINIMAL)
def test_without_any_record_a_card_says_what_the_model_is_and_no_more(kind):
    card = check_whole(model_card(ModelFacts(kind, MINIMAL[kind]), "me/x"))
    assert card.data.eval_results is None
    for word in ("epochs", "seed", "lambda", "Results", "How it was trained", "pretrained on"):
        assert word not in card.text
    assert 'from_pretrained("me/x"' in card.text


def test_every_recorded_fact_of_a_backbone_is_on_its_card():
    facts = ModelFacts("backbone", BACKBONE, backbone_record(ROOT))
    card = check_whole(model_card(facts, "me/x"))
    for fact in ("ViT-B-16-plus-240", "laion400m_e32", "licence MIT", "1,234 images", "plate, strip", "loss l2",
                 "lambda 4.25", "| epochs | 3 |", "| seed | 7 |", "classification", "0.7500",
                 "0.25 with the starting weights"):  # fmt: skip
        assert fact in card.text, fact
    assert [(result.metric_type, result.metric_value) for result in card.data.eval_results] == [("alignment", 0.75)]
    assert card.data.library_name == "timm"
    assert 'timm.create_model("hf-hub:me/x"' in card.text


@pytest.mark.slow
@pytest.mark.parametrize("left_out", [*backbone_record(ROOT)])
def test_any_fact_may_be_missing(left_out):
    record = {name: value for name, value in backbone_record(ROOT).items() if name != left_out}
    check_whole(model_card(ModelFacts("backbone", BACKBONE, record), "me/x"))
    record = backbone_record(ROOT) | {left_out: None}
    check_whole(model_card(ModelFacts("backbone", BACKBONE, record), "me/x"))


@pytest.mark.parametrize("left_out", [*finetune_record(ROOT)])
def test_any_fact_of_a_detector_may_be_missing(left_out):
    record = {name: value for name, value in finetune_record(ROOT).items() if name != left_out}
    config = MINIMAL["detector"]
    check_whole(model_card(ModelFacts("detector", config, record), "me/x"))
    check_whole(model_card(ModelFacts("detector", config, record | {left_out: None}), "me/x"))


def test_a_local_teacher_is_given_as_it_is_loaded():
    card = check_whole(model_card(ModelFacts("kead", KEAD | {"teacher": "local-dir:clip"}), "me/x"))
    assert 'KeAD.from_pretrained("me/x", teacher="local-dir:' in card.text
    assert "weights=" not in card.text
    assert card.data.base_model is None


def test_a_detectors_card_tells_the_whole_way_to_it():
    card = check_whole(model_card(ModelFacts("detector", MINIMAL["detector"], finetune_record(ROOT)), "me/x"))
    order = [card.text.index(title) for title in ("### Backbone", "### Detector, on pseudo boxes", "### Finetuning")]
    assert order == sorted(order)
    assert {(r.metric_type, r.metric_value, r.dataset_type) for r in card.data.eval_results} == {
        ("map_50", 0.5, "me/defects"),
        ("map_50_95", 0.25, "me/defects"),
    }
    assert "1,500 in 900 images" in card.text
    assert "one training with one seed" in card.text
    assert card.data.license == "agpl-3.0"
    assert "AGPL-3.0" in card.text


def test_results_on_hub_data_sets_are_in_the_hubs_own_format_too():
    facts = ModelFacts("detector", MINIMAL["detector"], finetune_record(ROOT))
    files = eval_result_files(facts)
    assert list(files) == [".eval_results/me-defects.yaml"]
    entries = parse_eval_result_entries(yaml.safe_load(files[".eval_results/me-defects.yaml"]))
    assert {(entry.dataset_id, entry.task_id, entry.value) for entry in entries} == {
        ("me/defects", "map_50", 0.5),
        ("me/defects", "map_50_95", 0.25),
    }
    local = ModelFacts("detector", MINIMAL["detector"], finetune_record(ROOT, test="defects"))
    assert eval_result_files(local) == {}


def test_numbers_that_chose_the_model_or_are_of_pseudo_boxes_say_so():
    record = finetune_record(ROOT) | {"test_dataset": None}
    record["dataset"] = {"name": "me/few", "hub_id": "me/few", "images": 12, "selection_images": 3}
    record["results"] = {"best": {"metric": "map_50_95", "value": 0.4, "epoch": 3.0}}
    facts = ModelFacts("detector", MINIMAL["detector"], record)
    assert "optimistic" in model_card(facts, "me/x")
    assert eval_result_files(facts) == {}
    record = {"command": "agssp pretrain-detector", "dataset": {"name": "steel"},
              "results": {"last": {"eval_map_50": 0.2}}}  # fmt: skip
    card = check_whole(model_card(ModelFacts("detector", YOLO | {"id2label": {"0": "defect"}}, record), "me/x"))
    assert "counted as one class" in card.text
    assert card.data.eval_results is None


def test_a_note_that_the_metadata_cannot_show_keeps_a_number_out_of_it():
    plain = {"measured_on": {"name": "me/plates"}, "map_50": 0.7, "map_50_95": 0.6}
    agnostic = {"measured_on": {"name": "me/plates"}, "map_50": 0.9, "map_50_95": 0.8, "class_agnostic": True}
    record = finetune_record(ROOT) | {"results": {"best": {"metric": "map_50", "value": 0.95}}}
    facts = ModelFacts("detector", MINIMAL["detector"], record, evaluations=[plain, agnostic])
    card = check_whole(model_card(facts, "me/x"))
    assert [result.metric_value for result in card.data.eval_results] == [0.6, 0.7]
    assert "0.9000" in card.text
    assert "0.9500" in card.text


def test_a_detector_says_what_kind_of_boxes_it_learned_from():
    config = YOLO | {"id2label": {"0": "defect"}}
    record = {"command": "agssp pretrain-detector", "dataset": {"name": "steel"},
              "results": {"last": {"eval_map_50": 0.2}}}  # fmt: skip
    pseudo, unmarked, labelled = (
        check_whole(model_card(ModelFacts("detector", config, each), "me/x")).text
        for each in (record | {"boxes": {"boxes": 9}}, record, finetune_record(ROOT))
    )
    for words in (
        "without any label",
        "learned it from anomaly maps",
        "not with labels",
        "### Detector, on pseudo boxes",
    ):
        assert words in pseudo
        assert words not in unmarked
    assert "pretrained on the boxes of its data set" in unmarked
    assert "learned it from anomaly maps" not in labelled


def test_a_training_that_counts_steps_shows_no_epochs():
    card = check_whole(model_card(ModelFacts("backbone", BACKBONE, backbone_record(ROOT) | {"epochs": None}), "me/x"))
    assert "| steps | 30 |" in card.text
    assert "epochs" not in card.text


@pytest.mark.parametrize(
    ("changes", "licence"),
    [
        ({"start_licences": ["apache-2.0"]}, "apache-2.0"),
        ({"start_licences": ["bsd-3-clause"]}, "apache-2.0"),
        ({"start_licences": ["cc-by-nc-4.0"]}, "cc-by-nc-4.0"),
        ({"start_licences": ["dinov3-license"]}, "other"),
        ({"start_licences": [None]}, None),
        ({"start_licences": None}, None),
        ({"start_licences": None, "start": "random weights"}, "apache-2.0"),
        (
            {"start_licences": [], "origins": [{"command": "agssp x", "start_licences": ["cc-by-nc-4.0"]}]},
            "cc-by-nc-4.0",
        ),
        ({"start_licences": [], "origins": [{"command": "agssp x", "start_licences": [None]}]}, None),
        ({"dataset": {"name": "a", "sources": [{"name": "b", "licence": "cc-by-nc-sa-4.0"}]}}, "cc-by-nc-sa-4.0"),
        ({"dataset": {"name": "a", "licence": "cc-by-4.0"}}, "apache-2.0"),
    ],
)
def test_a_model_carries_the_strictest_licence_of_what_it_was_made_from(changes, licence):
    record = backbone_record(ROOT) | changes
    card = check_whole(model_card(ModelFacts("backbone", BACKBONE, record), "me/x"))
    assert card.data.license == licence
    assert ("Apache-2.0." in card.text) == (licence == "apache-2.0")
    assert ("before any commercial use" in card.text) == ("-nc-" in str(licence))
    if licence == "other":
        assert card.data.license_name == "dinov3-license"


def test_the_licence_of_a_start_is_recorded_where_it_is_known(tmp_path):
    backbone_folder(tmp_path / "backbone")
    sources = [
        "scratch",
        None,
        "scratch:dfine_s",
        "pypi",
        str(tmp_path / "start.safetensors"),
        str(tmp_path / "backbone"),
    ]
    assert start_licences(*sources) == ["apache-2.0"] * 3 + [None]
    assert start_licences("timm", architecture="convnextv2_tiny.fcmae") == ["cc-by-nc-4.0"]


@pytest.mark.parametrize(
    ("licence", "warned"),
    [("MIT", False), ("CC-BY-NC-4.0", True), ("cc-by-nc-4.0", True), ("research use only (Apple AMLR)", True)],
)
def test_a_teacher_that_forbids_commercial_use_is_a_limit(licence, warned):
    record = backbone_record(ROOT)
    record["teacher"]["licence"] = licence
    text = model_card(ModelFacts("backbone", BACKBONE, record), "me/x")
    assert ("before any commercial use" in text) == warned
    assert f"The teacher's weights are under {licence}" in text


def test_synthetic_images_are_named_so():
    record = backbone_record(ROOT)
    assert "synthetic" not in model_card(ModelFacts("backbone", BACKBONE, record), "me/x")
    record["dataset"]["synthetic"] = True
    assert "Every image it was trained on is synthetic" in model_card(ModelFacts("backbone", BACKBONE, record), "me/x")


@pytest.mark.parametrize("model_type", catalogue.FAMILIES)
def test_licence_of_every_family(model_type):
    config = {"model_type": model_type, "backbone_config": {"architecture": "resnet50"}, "id2label": {"0": "pit"}}
    scratch = {"command": "agssp finetune scratch:x", "start_licences": ["apache-2.0"]}
    card = check_whole(model_card(ModelFacts("detector", config, scratch), "me/x"))
    assert card.data.license == ("agpl-3.0" if model_type == "agssp_yolo" else "apache-2.0")
    config["backbone_config"]["architecture"] = "yolov8n"
    assert ModelCard(model_card(ModelFacts("detector", config), "me/x")).data.license == "agpl-3.0"


def test_a_yolos_backbone_is_no_timm_network():
    card = check_whole(model_card(ModelFacts("backbone", BACKBONE | {"architecture": "yolov8n"}), "me/x"))
    assert "timm" not in card.text
    assert card.data.license == "agpl-3.0"


def test_a_trainings_folder_gives_card_picture_and_a_record_without_paths(tmp_path):
    backbone_folder(tmp_path / "backbone")
    publication = collect(tmp_path / "backbone", "me/x")
    assert set(publication.files) == {"README.md", "config.json", "model.safetensors", "picture.png", "run.json"}
    for name, content in publication.files.items():
        if isinstance(content, bytes):
            assert str(tmp_path).encode() not in content, name
    assert publication.files["picture.png"].startswith(b"\x89PNG")
    assert "![" in publication.files["README.md"].decode()
    record = json.loads(publication.files["run.json"])
    assert record["arguments"]["dataset"] == "steel"
    assert record["skipped"] == {"bad.png": "cannot be read"}


def test_evaluations_of_this_model_alone_are_taken(tmp_path):
    detector_folder(tmp_path / "mine")
    metrics = {"model": str(tmp_path / "mine"), "dataset": "me/plates", "map_50": 0.7, "map_50_95": 0.6, "images": 9}
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/metrics.json").write_text(json.dumps(metrics))
    facts = read_facts(tmp_path / "mine", [tmp_path / "evaluation"])
    assert "| me/plates | test (9 images) | mAP@.5 | 0.7000 | 1 |" in model_card(facts, "me/x")
    for other in ({"model": "elsewhere"}, {"map_50_95": None}):
        (tmp_path / "evaluation/metrics.json").write_text(json.dumps({**metrics, **other}))
        if "model" in other:
            with pytest.raises(InputError, match="measured elsewhere"):
                read_facts(tmp_path / "mine", [tmp_path / "evaluation"])
    (tmp_path / "evaluation/metrics.json").unlink()
    with pytest.raises(InputError, match=r"no metrics\.json"):
        read_facts(tmp_path / "mine", [tmp_path / "evaluation"])


def test_records_of_earlier_versions_are_completed_from_the_folders_they_name(tmp_path):
    backbone_folder(tmp_path / "backbone")
    detector_folder(tmp_path / "mine")
    (tmp_path / "few/test").mkdir(parents=True)
    (tmp_path / "few/split.json").write_text(json.dumps({"dataset": "/data/NEU-DET", "seed": 3}))
    (tmp_path / "mine/settings.json").write_text(json.dumps({"settings": {"seed": 5}}))
    record = finetune_record(tmp_path)
    for name in ("seed", "origins", "test_dataset"):
        del record[name]
    record["dataset"] = {"source": f"{tmp_path}/few/train", "images": 12}
    record["arguments"] |= {"model": str(tmp_path / "backbone"), "test": f"{tmp_path}/few/test"}
    (tmp_path / "mine/run.json").write_text(json.dumps(record))
    facts = read_facts(tmp_path / "mine")
    assert facts.run["seed"] == 5
    assert facts.run["test_dataset"] == {"name": "NEU-DET", "split": "test", "split_seed": 3}
    assert [stage["command"].split()[1] for stage in facts.stages] == ["pretrain-backbone", "finetune"]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        collect(tmp_path / "nowhere", "me/x")
    with pytest.raises(InputError, match=r"no readable config\.json"):
        collect(tmp_path, "me/x")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="'bert'"):
        collect(tmp_path, "me/x")
    (tmp_path / "config.json").write_text(json.dumps(BACKBONE))
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        collect(tmp_path, "me/x")
    (tmp_path / "pytest_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="never published"):
        collect(tmp_path, "me/x")
    with pytest.raises(InputError, match="OWNER/NAME"):
        collect(tmp_path, "x")


def test_keads_folder_is_published_without_the_teachers_weights(tmp_path):
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "teacher.safetensors")
    kead = KeAD.from_teacher("timm:test_resnet", weights=tmp_path / "teacher.safetensors", image_size=64, device="cpu")
    kead.save_pretrained(tmp_path / "kead")
    publication = collect(tmp_path / "kead", "me/x")
    assert set(publication.files) == {"README.md", "config.json", "references.safetensors"}
    config = json.loads(publication.files["config.json"])
    assert config["weights"] == "teacher.safetensors"
    assert 'weights="TEACHER.safetensors"' in publication.files["README.md"].decode()
    check_whole(publication.files["README.md"].decode())
