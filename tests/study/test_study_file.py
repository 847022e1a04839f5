import copy

import pytest
from study_cases import tiny, write_study

from agssp.errors import InputError
from agssp.study.plan import make_plan
from agssp.study.study_file import read_study
from agssp.study.tables import load_table, packaged_studies


def read(root, table, scale="full", **options):
    faults = []
    study = read_study(write_study(root, table), scale, faults, **options)
    make_plan(study, faults)
    return study, faults


def test_empty_study(tmp_path):
    study, faults = read(tmp_path, {"title": "nothing", "scales": {"full": {}}})
    assert faults == []
    assert (study.rows, study.data, study.seeds) == ((), (), (0,))
    _, faults = read(tmp_path, {"scales": {"full": {}}})
    assert faults == ["study: lacks 'title'"]


def test_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match=r"'tabel2'.*did you mean 'table2'"):
        read_study("tabel2", "full", [])
    with pytest.raises(InputError, match=r"gone\.yaml: no such file"):
        read_study(str(tmp_path / "gone.yaml"), "full", [])
    (tmp_path / "broken.yaml").write_text("title: [")
    with pytest.raises(InputError, match="not valid YAML"):
        read_study(str(tmp_path / "broken.yaml"), "full", [])
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(InputError, match=r"list\.yaml: expected a table with a title and scales, got list"):
        read_study(str(tmp_path / "list.yaml"), "full", [])


def test_unknown_scale(tmp_path):
    with pytest.raises(InputError, match="--scale 'ful': tiny has 'full'"):
        read(tmp_path, tiny(tmp_path), "ful")


def change(path, value):
    """A change of a study: `path` leads through tables and lists to what becomes `value`."""

    def apply(table):
        *way, last = path
        for step in way:
            table = table[step]
        table[last] = value

    return apply


FULL = ("scales", "full")
BROKEN = [
    (change(("kind",), "tables"), "kind 'tables': expected one of detectors, maps"),
    (change(("titel",), "x"), "study: no key 'titel'; did you mean 'title'?"),
    (change(("starts", "coco"), "both"), "starts.coco 'both': expected 'backbone' or 'detector'"),
    (change(("groups", "ResNet"), {"backbone": "test_resnet"}), "groups.ResNet: lacks 'detector'"),
    (change(("rows", 0, "group"), "ResNed"), "row 1 (scratch): no group 'ResNed'; did you mean 'ResNet'?"),
    (change(("rows", 0, "start"), "imagenett"), "row 1 (scratch): no start 'imagenett'; did you mean 'imagenet'?"),
    (change(("rows", 0, "finetune"), {"frozen_stages": 1}), "row 1 (scratch): sets finetune.frozen_stages"),
    (change(("rows", 0, "lable"), "x"), "row 1 (scratch): no key 'lable'; did you mean 'label'?"),
    (change(("rows", 0, "x"), "two"), "row 1 (scratch).x: expected int or float, got 'two'"),
    (change(("rows", 1, "label"), "+AGSSP"), "row 3 (+AGSSP): another row of this group has the same label"),
    (change(("rows", 3, "pretrain_backbone"), {}), "row 4 (COCO): pretrains the backbone of the detector 'coco' alone"),
    (change(("rows", 3, "paper"), {"squares": [1, 2, 3]}), "row 4 (COCO): paper.squares [1, 2, 3]: expected up to 2"),
    (change(("rows", 2), "row"), "row 3: expected a table of label"),
    (change((*FULL, "seeds"), []), "scales.full.seeds []: expected one whole number or more"),
    (change((*FULL, "seeds"), [0, 0]), "scales.full.seeds [0, 0]: one comes twice"),
    (change((*FULL, "seeds"), ["a"]), "scales.full.seeds ['a']: expected one whole number"),
    (change((*FULL, "data", "squares", "subset"), {"percent": 3}), "squares.subset {'percent': 3}: expected one of"),
    (change((*FULL, "data", "squares", "subset"), {"count": 0}), "squares.subset.count 0: expected a whole number"),
    (change((*FULL, "data", "squares", "subset"), {"fraction": 1.5}), "subset.fraction 1.5: expected a share"),
    (change((*FULL, "data", "squares", "subset"), {"all": True}), "squares: all its images are for training"),
    (change((*FULL, "data", "squares", "holdout"), 2), "squares.holdout 2: expected a share between 0 and 1"),
    (change((*FULL, "data", "squares", "dataset"), ""), "data set squares: no path; give --data squares=PATH"),
    (change((*FULL, "data", "squares"), {"test": "t", "holdout": 0.5}), "a test set of its own and a holdout"),
    (change((*FULL, "corpus"), {}), "corpus: no path of unlabelled images; give --data corpus=PATH"),
    (change((*FULL, "weights"), {"imagenet": "stand_in"}), "weights coco/yolov8n: none given; give --weights coco"),
    (change((*FULL, "weights", "imagnet"), "timm"), "scales.full.weights: no start 'imagnet'; did you mean 'imagenet'"),
    (change((*FULL, "weights", "coco"), {"yolov8x": "f"}), "weights coco/yolov8x: no group has this backbone"),
    (change((*FULL, "flags", "finetunes"), {}), "scales.full.flags: no key 'finetunes'; did you mean 'finetune'?"),
    (change((*FULL, "flags", "finetune", "config"), "finetune/resnet"), "did you mean finetune/resnet50"),
    (change((*FULL, "groups"), {"Resnet": {}}), "scales.full.groups: no group 'Resnet'; did you mean 'ResNet'?"),
    (change((*FULL, "synthetic"), {"number": 3}), "scales.full.synthetic: no key 'number'"),
]


@pytest.mark.parametrize(("apply", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_each_fault_is_named(tmp_path, apply, message):
    table = tiny(tmp_path)
    apply(table)
    _, faults = read(tmp_path, table)
    assert any(message in fault for fault in faults), faults


def test_all_faults_are_listed_at_once(tmp_path):
    table = tiny(tmp_path)
    chosen = [BROKEN[index] for index in (1, 2, 4, 5, 18, 24, 25, 27)]
    for apply, _ in chosen:
        apply(table)
    _, faults = read(tmp_path, table)
    for _, message in chosen:
        assert any(message in fault for fault in faults), message


def test_command_line_wins(tmp_path):
    table = tiny(tmp_path)
    table["scales"]["full"]["data"]["squares"]["holdout"] = 0.5
    given = {"squares": "a", "squares/test": "b", "corpus": "c", "maps": "d", "boxes": "e"}
    study, faults = read(
        tmp_path, table, data=dict(given), weights={"imagenet/test_resnet": "timm", "coco/yolov8n": "f"}, seeds=[5, 6]
    )
    assert faults == []
    assert (study.data[0].dataset, study.data[0].test, study.data[0].holdout) == ("a", "b", None)
    assert study.corpus == {"dataset": "c", "maps": "d", "boxes": "e"}
    assert study.weights["imagenet", "test_resnet"] == "timm"
    assert study.weights["coco", "yolov8n"] == "f"
    assert study.seeds == (5, 6)
    assert given == {"squares": "a", "squares/test": "b", "corpus": "c", "maps": "d", "boxes": "e"}


def test_command_line_that_names_nothing(tmp_path):
    _, faults = read(tmp_path, tiny(tmp_path), data={"square": "a"}, weights={"imagenet": "b", "coco/resnet": "c"})
    assert faults[0].startswith("--data square=...: no data set of this name; did you mean 'squares'")
    assert "--weights imagenet=...: no start and backbone of this name" in faults[1]
    assert "weights coco/resnet: no group has this backbone" in faults[2]


def test_flags_of_scale_and_group_lie_over_each_other(tmp_path):
    table = tiny(tmp_path)
    table["flags"] = {"finetune": {"mosaic": 0.5, "num-train-epochs": 9}}
    table["groups"]["ResNet"]["flags"] = {"finetune": {"scale": 0.1, "flip": 0.1}}
    table["scales"]["full"]["groups"] = {"ResNet": {"backbone": "resnet18", "flags": {"finetune": {"flip": 0.2}}}}
    study, _ = read(tmp_path, table)
    assert study.flags["finetune"]["mosaic"] == 0.5
    assert study.flags["finetune"]["num_train_epochs"] == 1
    assert study.groups["ResNet"].flags == {"finetune": {"scale": 0.1, "flip": 0.2}}
    assert (study.groups["ResNet"].backbone, study.groups["ResNet"].detector) == ("resnet18", "yolov8n")


def test_a_config_is_replaced_by_its_values(tmp_path):
    table = tiny(tmp_path)
    table["scales"]["full"]["flags"]["finetune"] = {"config": "finetune/swin-base", "image_size": 64}
    study, faults = read(tmp_path, table)
    assert faults == []
    flags = study.flags["finetune"]
    assert (flags["image_size"], flags["per_device_train_batch_size"], flags["learning_rate"]) == (64, 14, 0.0025)
    assert "config" not in flags
    assert "detector" not in flags


def test_a_study_lies_over_the_one_it_extends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    under = tiny(tmp_path)
    write_study(tmp_path, copy.deepcopy(under), "under")
    over = {"extends": "under.yaml", "title": "over", "rows": under["rows"][:1],
            "scales": {"full": {"seeds": [7], "weights": None, "flags": {"finetune": {"mosaic": 0}}}}}  # fmt: skip
    table = load_table(write_study(tmp_path, over, "over"))
    assert (table["title"], len(table["rows"]), table["scales"]["full"]["seeds"]) == ("over", 1, [7])
    assert "weights" not in table["scales"]["full"]
    assert table["scales"]["full"]["flags"]["finetune"] == {**under["scales"]["full"]["flags"]["finetune"], "mosaic": 0}
    write_study(tmp_path, {"extends": "b.yaml"}, "a")
    write_study(tmp_path, {"extends": "a.yaml"}, "b")
    with pytest.raises(InputError, match=r"extends itself, by way of a\.yaml and b\.yaml"):
        load_table("a.yaml")


def test_packaged_studies():
    expected = {"table2", "table3", "table5", "fig6a", "fig6b", "fig6c", "fig6d", "fig7", "offset"}
    assert expected <= set(packaged_studies())


def test_row_is_compared_with_rows_of_its_group(tmp_path):
    table = tiny(tmp_path)
    table["rows"][1]["against"] = ["scratch"]
    study, faults = read(tmp_path, table)
    assert (study.rows[1].against, faults) == (("scratch",), [])
    table["rows"][1]["against"] = ["scrach", "COCO"]  # the second is of another group
    _, faults = read(tmp_path, table)
    assert [fault.split(":")[1] for fault in faults] == [" against 'scrach'", " against 'COCO'"]
    assert "did you mean 'scratch'?" in faults[0]
