import pytest
import torch
from safetensors.torch import save_file
from study_cases import tiny, write_study

from agssp.study.checks import check_study, fingerprints
from agssp.study.plan import make_plan
from agssp.study.study_file import read_study
from agssp.study.tables import load_table, packaged_studies


def faults_of(source, scale="full", **options):
    faults = []
    study = read_study(source, scale, faults, **options)
    plan = make_plan(study, faults, fingerprint=fingerprints(faults))
    check_study(study, plan, faults)
    return faults


def test_a_sound_study_has_none(root):
    assert faults_of(write_study(root, tiny(root))) == []


def test_an_empty_study_has_none(root):
    assert faults_of(write_study(root, {"title": "nothing", "scales": {"full": {}}})) == []


def test_all_that_is_missing_is_listed_at_once(root):
    table = tiny(root)
    full = table["scales"]["full"]
    full["data"]["squares"]["dataset"] = str(root / "labeled")
    full["data"]["unlabelled"] = {"dataset": str(root / "images"), "subset": {"count": 2}}
    full["corpus"] |= {"maps": str(root / "no-maps"), "dataset": str(root / "imagez")}
    full["weights"]["coco"] = "gone.safetensors"
    full["flags"]["finetune"] |= {"image_sice": 64}
    table["groups"]["ResNet"] |= {"flags": {"pretrain_detector": {"boxes": "mine"}}}
    table["groups"]["CSPDarknet"] |= {"detector": "yolov9"}
    faults = faults_of(write_study(root, table))
    expected = [
        f"data set squares: {root}/labeled: no such file or folder",
        f"data set unlabelled: {root}/images has no labels",
        f"corpus: {root}/imagez: no such file or folder",
        f"corpus.maps {root}/no-maps: no such folder",
        "weights coco/yolov8n: gone.safetensors: no such file",
        "flags: `finetune` has no flag 'image_sice'; did you mean 'image_size'",
        "groups.ResNet.flags: pretrain_detector.boxes follows from rows, groups, data sets and seeds",
        "groups.CSPDarknet.detector: detector 'yolov9': expected one of yolov8n, yolov8s",
    ]
    for text in expected:
        assert sum(fault.startswith(text) for fault in faults) == 1, (text, faults)
    assert len(faults) == len(expected)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet5", "no network 'resnet5'"),
        ("test_vit", "strides=[8, 16, 32]: backbone test_vit has features at strides [16]"),
    ],
)
def test_networks(root, backbone, message):
    table = tiny(root)
    table["groups"]["ResNet"]["backbone"] = backbone
    (fault,) = faults_of(write_study(root, table))
    assert fault.startswith("groups.ResNet.backbone")
    assert message in fault


@pytest.mark.parametrize(
    ("stage", "given", "message"),
    [
        ("finetune", {"mosaic": "much"}, "argument --mosaic: invalid float value: 'much'"),
        ("finetune", {"optimizer": "lion"}, "--optimizer 'lion': expected one of"),
        ("pretrain_backbone", {"num_train_epochs": "x"}, "invalid float value: 'x'"),
        ("pretrain_detector", {"freeze_backbone": "maybe"}, "Truthy value expected: got maybe"),
    ],
)
def test_values_that_a_command_refuses(root, stage, given, message):
    table = tiny(root)
    table["scales"]["full"]["flags"][stage] |= given
    # Once, not once for each cell.
    (fault,) = faults_of(write_study(root, table))
    assert message in fault


@pytest.mark.parametrize("detector", ["faster_rcnn", "dino", "rtdetr_v2_s", "dfine_l", "yolo26n"])
def test_a_group_takes_every_detector(root, detector):
    table = tiny(root)
    table["groups"]["ResNet"]["detector"] = detector
    assert faults_of(write_study(root, table)) == []


def test_nothing_stands_in_for_a_detector_that_is_no_yolo(root):
    table = tiny(root)
    table["groups"]["ResNet"]["detector"] = "dino"
    table["rows"].append({"label": "COCO", "group": "ResNet", "start": "coco"})
    (fault,) = faults_of(write_study(root, table))
    assert fault.startswith("weights coco/test_resnet: nothing stands in for the weights of dino")


def test_weights_of_no_detector(root):
    table = tiny(root)
    table["scales"]["full"]["weights"]["coco"] = "timm"
    assert any("coco/yolov8n: 'timm' has no detectors" in fault for fault in faults_of(write_study(root, table)))


def test_fingerprints_tell_content(root):
    fingerprint = fingerprints(faults := [])
    labels, images, maps = (fingerprint(str(root / name), None) for name in ("labelled", "images", "maps"))
    assert len({labels, images, maps, ""}) == 4
    assert fingerprint("timm", None) == fingerprint("o/hub", None) == ""
    lines = (root / "labelled/metadata.jsonl").read_text()
    (root / "labelled/metadata.jsonl").write_text(lines.replace("pit", "hole"))
    assert fingerprints(faults)(str(root / "labelled"), None) != labels
    assert faults == []


@pytest.mark.parametrize("name", packaged_studies())
@pytest.mark.slow
def test_packaged_studies_are_sound(root, name):
    """Every flag of every stage is one that its command takes, at all scales."""
    file, folder = root / "weights.safetensors", str(root / "labelled")
    save_file({"x": torch.zeros(1)}, file)
    for scale in load_table(name)["scales"]:
        study = read_study(name, scale, [])
        weights = {
            f"{row.start}/{study.groups[row.group].backbone}": str(file)
            for row in study.rows
            if row.start in study.starts and (row.start, study.groups[row.group].backbone) not in study.weights
        }
        data = {entry.name: folder for entry in study.data if not entry.dataset}
        data |= {f"{entry.name}/test": folder for entry in study.data if entry.name == "fabric"}
        if study.kind == "detectors" and not study.corpus:
            data["corpus"] = str(root / "images")
        assert faults_of(name, scale, data=data, weights=weights) == [], scale
