import re
import shlex
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

import pytest
from study_cases import tiny, tiny_plan, write_study

from agssp.arguments import parse_arguments
from agssp.commands import study
from agssp.study.plan import make_plan, wanted
from agssp.study.stage import Output
from agssp.study.study_file import read_study
from agssp.study.tables import load_table, packaged_studies


def commands(plan, cell):
    return [plan.stages[key].command for key in cell.stages]


def flags(plan, key):
    return dict(plan.stages[key].flags)


def packaged(name, scale="smoke", only=None, **options):
    faults = []
    study = read_study(name, scale, faults, **options)
    plan = make_plan(study, faults, only=only)
    return study, plan, faults


def test_empty_study_has_no_stage(tmp_path):
    plan = tiny_plan(tmp_path, {"title": "nothing", "scales": {"full": {}}})
    assert (plan.stages, plan.cells) == ({}, ())


def test_every_start_takes_its_way(tmp_path):
    plan = tiny_plan(tmp_path, tiny(tmp_path))
    ways = {cell.name: commands(plan, cell) for cell in plan.cells}
    assert ways == {
        "ResNet / scratch / squares": ["save-backbone", "split", "finetune"],
        "ResNet / +AGBP / squares": ["save-backbone", "pretrain-backbone", "split", "finetune"],
        "ResNet / +AGSSP / squares": ["save-backbone", "pretrain-backbone", "pretrain-detector", "split", "finetune"],
        "CSPDarknet / COCO / squares": ["stand-in-detector", "split", "finetune"],
    }


def test_a_stage_that_rows_have_in_common_is_one(tmp_path):
    plan = tiny_plan(tmp_path, tiny(tmp_path), seeds=[0, 1, 2])
    assert len(plan.cells) == 12
    # Pretraining is shared by seeds and rows, splits by rows; scratch is another start for each seed.
    assert Counter(stage.command for stage in plan.stages.values()) == {
        "split": 3, "save-backbone": 4, "stand-in-detector": 1, "pretrain-backbone": 1, "pretrain-detector": 1,
        "finetune": 12,
    }  # fmt: skip


def test_stages_come_after_what_they_need(tmp_path):
    _, plan, _ = packaged("table2")
    seen = set()
    for key, stage in plan.stages.items():
        assert set(stage.needs) <= seen
        seen.add(key)
    for cell in plan.cells:
        assert all(set(plan.stages[key].needs) <= set(cell.stages) for key in cell.stages)


def test_the_same_study_has_the_same_plan(tmp_path):
    table = tiny(tmp_path)
    first = tiny_plan(tmp_path, table)
    assert tiny_plan(tmp_path, table) == first
    table["title"] = "another name"
    assert tiny_plan(tmp_path, table) == first
    table["scales"]["full"]["flags"]["finetune"]["dataloader_num_workers"] = 4
    assert list(tiny_plan(tmp_path, table).stages) == list(first.stages)
    table["scales"]["full"]["flags"]["finetune"]["mosaic"] = 0.5
    assert sum(key not in first.stages for key in tiny_plan(tmp_path, table).stages) == 4
    # Keys are the folders of finished work: they must not change from version to version without need.
    table["rows"] = [{"label": "scratch", "group": "CSPDarknet", "start": "scratch"}]
    table["scales"] = {"full": {"data": {"d": {"dataset": "a/b", "subset": {"count": 2}}}}}
    plan = tiny_plan(tmp_path, table)
    assert list(plan.stages) == ["split-d_0-6e20e4e7", "finetune-cspdarknet_scratch_d_0-8a02920f"]


def test_other_content_under_the_same_path_is_another_stage(tmp_path):
    faults = []
    study = read_study(write_study(tmp_path, tiny(tmp_path)), "full", faults)
    plans = [make_plan(study, faults, fingerprint=lambda source, split, text=text: text) for text in "ab"]
    assert faults == []
    kept = set(plans[0].stages) & set(plans[1].stages)
    # Random weights alone are made of nothing on disk.
    assert {plans[0].stages[key].command for key in kept} == {"stand-in-detector"}


@pytest.mark.parametrize("name", packaged_studies())
def test_all_rows_are_finetuned_alike(name):
    """Rows of a group differ in what finetuning starts from, and in nothing else."""
    for scale in load_table(name)["scales"]:
        found = read_study(name, scale, [])
        missing = [(row.start, found.groups[row.group].backbone) for row in found.rows if row.start in found.starts]
        given = {"corpus": "o/corpus"} if found.kind == "detectors" else {}
        given |= {entry.name: "o/d" for entry in found.data} | {f"{entry.name}/test": "o/t" for entry in found.data}
        study, plan, faults = packaged(name, scale, data=given, weights=dict.fromkeys(map("/".join, missing), "f"))
        assert faults == []
        varying = {name.partition(".")[2] for name in study.varies} | {"model"}
        groups = defaultdict(set)
        for cell in plan.cells if study.kind == "detectors" else []:
            shared = sorted(
                (key, repr(value)) for key, value in flags(plan, cell.stages[-1]).items() if key not in varying
            )
            groups[cell.group, cell.data, cell.seed].add(tuple(shared))
        assert all(len(entries) == 1 for entries in groups.values())
        assert len(groups) > 0 or study.kind == "maps"


@pytest.mark.parametrize("name", packaged_studies())
def test_the_command_that_a_study_names_runs_all_of_it(name):
    """What the comment at its top says gives every path and weight that the study needs."""
    text = files("agssp.study").joinpath("studies", f"{name}.yaml").read_text(encoding="utf-8")
    comment = "".join(line.removeprefix("#") for line in text.splitlines(keepends=True) if line.startswith("#"))
    commands = re.findall(r"^   agssp study (.*)$", comment.replace("\\\n", " "), re.MULTILINE)
    assert commands
    for command in commands:
        words = shlex.split(command)
        (given,) = parse_arguments("study", study.ARGUMENTS, words, positional=study.POSITIONAL)
        assert given.study == name
        faults = []
        tables = {flag: study.pairs(getattr(given, flag), flag, faults) for flag in ("data", "weights")}
        found = read_study(name, given.scale, faults, **tables)
        plan = make_plan(found, faults, only=given.only)
        assert faults == []
        assert len(plan.cells) == len(found.rows) * len(found.seeds) * (len(found.data) if given.only is None else 1)


def test_table2_has_the_papers_rows():
    table2, plan, _ = packaged("table2")
    assert len(table2.rows) == 23
    assert all(len(row.paper) == 4 for row in table2.rows)
    assert len({(cell.group, cell.row) for cell in plan.cells}) == 23
    one_seed = [cell for cell in plan.cells if cell.seed == 0]
    ways = Counter("+".join(command for command in commands(plan, cell) if "pretrain" in command) for cell in one_seed)
    assert ways == {"": 9, "pretrain-backbone": 10, "pretrain-backbone+pretrain-detector": 4}
    # AGBP is run once for the rows +AGBP and +AGSSP of a start.
    assert Counter(stage.command for stage in plan.stages.values())["pretrain-backbone"] == 10
    without_maps = [stage for stage in plan.stages.values() if dict(stage.flags).get("distillation") is False]
    assert len(without_maps) == 5
    assert all("maps" not in dict(stage.flags) for stage in without_maps)


def test_a_detectors_backbone_goes_on_with_its_neck_and_head(tmp_path):
    table = tiny(tmp_path)
    table["rows"] = [{"label": "COCO +AGSSP", "group": "CSPDarknet", "start": "coco", "pretrain_backbone": {},
                      "pretrain_detector": {}}]  # fmt: skip
    plan = tiny_plan(tmp_path, table)
    (cell,) = plan.cells
    finetune = flags(plan, cell.stages[-1])
    backbone = next(stage for stage in plan.stages.values() if stage.command == "pretrain-backbone")
    start = dict(backbone.flags)["start"]
    assert start.part == "model.safetensors"
    pretrained = flags(plan, finetune["model"].stage)
    assert (pretrained["start"], pretrained["backbone"]) == (start, Output(backbone.key))


def test_detectors_on_the_same_backbone_share_its_pretraining(tmp_path):
    table = tiny(tmp_path)
    row = {"start": "imagenet", "pretrain_backbone": {}, "pretrain_detector": {}}
    table["groups"] = {name: {"backbone": "test_resnet", "detector": name} for name in ("faster_rcnn", "dfine_s")}
    table["rows"] = [{"label": "+AGSSP", "group": name, **row} for name in table["groups"]]
    commands = Counter(stage.command for stage in tiny_plan(tmp_path, table).stages.values())
    assert (commands["pretrain-backbone"], commands["pretrain-detector"]) == (1, 2)


def test_weights_of_a_file_are_saved_as_a_folder_only_for_finetuning(tmp_path):
    table = tiny(tmp_path)
    table["scales"]["full"]["weights"] = {"imagenet": "timm", "coco": "coco.safetensors"}
    table["rows"].append({"label": "ImageNet", "group": "ResNet", "start": "imagenet"})
    plan = tiny_plan(tmp_path, table)
    by_name = {cell.row: flags(plan, cell.stages[-1])["model"] for cell in plan.cells}
    assert by_name["COCO"] == "coco.safetensors"
    assert flags(plan, by_name["ImageNet"].stage) == {"backbone": "test_resnet", "start": "timm", "seed": 0}
    assert flags(plan, by_name["+AGBP"].stage)["start"] == "timm"


def test_maps_and_boxes_are_made_where_none_are_given(tmp_path):
    table = tiny(tmp_path)
    table["scales"]["full"]["corpus"] = {"dataset": "o/corpus"}
    plan = tiny_plan(tmp_path, table)
    found = {stage.command: stage for stage in plan.stages.values()}
    assert found["anomaly-maps"].needs == ()
    assert found["pseudo-boxes"].needs == (found["anomaly-maps"].key,)
    assert found["anomaly-maps"].key in found["pretrain-backbone"].needs
    assert found["pseudo-boxes"].key in found["pretrain-detector"].needs


@pytest.mark.parametrize(
    ("entry", "split"),
    [
        ({"subset": {"count": 3}}, {"count": 3}),
        ({"subset": {"per_class": 3}, "split": "train"}, {"per_class": 3, "split": "train"}),
        ({"subset": {"fraction": 0.5}, "test": "t/est"}, {"fraction": 0.5, "test": "t/est"}),
        ({"subset": {"count": 3}, "holdout": 0.25}, {"count": 3, "holdout": 0.25}),
        ({"holdout": 0.25}, {"holdout": 0.25}),
        ({"test": "t/est", "split": "train"}, None),
    ],
)
def test_ways_to_choose_training_images(tmp_path, entry, split):
    table = tiny(tmp_path)
    table["rows"] = table["rows"][:1]
    table["scales"]["full"]["data"] = {"d": {"dataset": "o/d", **entry}}
    plan = tiny_plan(tmp_path, table)
    last = flags(plan, plan.cells[0].stages[-1])
    if split is None:
        assert (last["dataset"], last["test"], last["split"]) == ("o/d", "t/est", "train")
    else:
        assert flags(plan, last["dataset"].stage) == {"dataset": "o/d", "seed": 0} | split
        assert last["dataset"].part == "train"
        assert last["test"] == entry.get("test", Output(last["dataset"].stage, "test"))


def test_only_some_cells(tmp_path):
    _, whole, _ = packaged("table2")
    _, part, faults = packaged("table2", only=["resnet50 / cls*synthetic"])
    assert faults == []
    assert {cell.row for cell in part.cells} == {"Cls ImageNet", "Cls industrial", "Cls +AGBP", "Cls +AGSSP"}
    assert part.stages.items() <= whole.stages.items()
    _, _, faults = packaged("table2", only=["RedNet", "Swin"])
    assert len(faults) == 1
    assert "--only 'RedNet': is in no cell's name" in faults[0]


def test_only_what_is_asked_for_must_be_there():
    _, plan, faults = packaged("table2", "full", only=["ResNet50 / scratch / steel"], data={"steel_pipe": "o/pipe"})
    assert faults == []
    assert len(plan.cells) == 3
    _, _, faults = packaged("table2", "full")
    assert len(faults) == 4  # four data sets; nothing is said of weights and corpus before there are any
    sets = dict.fromkeys(("casting_billet", "steel_pipe", "gc10_mini", "gc10_det"), "o/d")
    _, _, faults = packaged("table2", "full", data=sets)
    assert [fault.split(":")[0] for fault in faults] == [
        "weights coco/yolov8s", "weights imagenet/yolov8s", "corpus", "weights mocov3/resnet50",
        "weights simmim/swin_base",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("scratch", True),
        ("SCRATCH / gc10", True),
        ("a*gc10", True),
        ("gc10*a", False),
        ("s.ratch", False),
        ("b", False),
    ],
)
def test_words_of_only(word, found):
    assert wanted("A / scratch / gc10", [word]) is found
    assert wanted("A / scratch / gc10", None)


def test_maps_are_measured_for_every_data_set_and_seed():
    study, plan, _ = packaged("fig7", "full", data={"casting_billet": "o/a", "steel_pipe": "o/b"})
    assert study.kind == "maps"
    assert [commands(plan, cell) for cell in plan.cells] == [["anomaly-maps", "evaluate-maps"]] * 6
    last = plan.stages[plan.cells[0].stages[-1]]
    assert last.words(Path("out"))[0] == f"out/{plan.cells[0].stages[0]}"
