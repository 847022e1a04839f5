import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from study_cases import quick_plan

from agssp.study.definition import DataSet, Group, Row, Study
from agssp.study.page import write_study_page
from agssp.study.results import CellResult, best_row, csv_table, difference, provenance, results, row_estimate
from agssp.study.runner import State
from agssp.study.stage import Cell, Plan, Stage
from agssp.study.table import curve_tables, described, difference_rows, markdown, table_rows

VALUES = {"scratch": [0.40, 0.42, 0.41], "AGSSP": [0.60, 0.62, 0.61], "AGBP": [0.40, 0.66, 0.50]}


def study(**changes):
    rows = [
        Row("scratch", "ResNet50", "scratch", paper={"billet": [56.7, 27.0]}),
        Row("AGSSP", "ResNet50", "imagenet", {"pretrain_backbone": {"objective": "none"}, "pretrain_detector": {}}),
        Row("AGBP", "ResNet50", "imagenet", {"pretrain_backbone": {"distillation": False, "image_size": 64}}),
    ]
    groups = {"ResNet50": Group("ResNet50", "resnet50", "yolov8s", {"finetune": {"mosaic": 0.5}})}
    options = {"groups": groups, "rows": tuple(rows), "data": (DataSet("billet", "b", None, None, "count", 50),),
               "seeds": (0, 1, 2), "flags": {"finetune": {"num_train_epochs": 500}}}  # fmt: skip
    return Study("name", "title", "full", **options | changes)


def cell(row, seed, group="ResNet50", data="billet"):
    return Cell(row, group, data, seed, ("split-x", f"finetune-{row}-{seed}"))


def found(rows=("scratch", "AGSSP"), state="done"):
    return [
        CellResult(cell(row, seed), state, {"map_50": value, "map_50_95": value / 2})
        for row in rows
        for seed, value in enumerate(VALUES[row])
    ]


def test_nothing(tmp_path):
    empty = Study("name", "title", "full")
    assert csv_table(empty, []) == "group,row,data,seed,state,map_50,map_50_95,stages,error\n"
    assert "Of 0 cells: none" in markdown(empty, [], {})
    write_study_page(tmp_path / "page.html", empty, [], {}, [])
    assert table_rows(study(), [], study().groups["ResNet50"]) == (["ResNet50"], [])


def test_csv_has_a_line_a_cell():
    entries = [*found(("scratch",)), CellResult(cell("AGSSP", 0), "failed", error='a, "b"'),
               CellResult(cell("AGSSP", 1), "missing")]  # fmt: skip
    lines = list(csv.DictReader(io.StringIO(csv_table(study(), entries))))
    assert [line["state"] for line in lines] == ["done"] * 3 + ["failed", "missing"]
    assert [float(line["map_50"]) for line in lines[:3]] == VALUES["scratch"]
    assert (lines[3]["map_50"], lines[3]["error"]) == ("", 'a, "b"')
    assert lines[0]["stages"] == "split-x finetune-scratch-0"


def test_means_and_intervals_are_of_the_finished_seeds():
    entries = found(("scratch",))
    entries[2] = CellResult(entries[2].cell, "missing")
    value = row_estimate(entries, "ResNet50", "scratch", "billet", "map_50")
    numbers = np.array([40.0, 42.0])
    low, high = stats.t.interval(0.95, 1, loc=numbers.mean(), scale=stats.sem(numbers))
    assert (value.count, value.low, value.high) == (2, pytest.approx(low), pytest.approx(high))
    heading, (line,) = table_rows(study(), entries, study().groups["ResNet50"])
    assert heading == ["ResNet50", "billet mAP@.5", "billet mAP@.5:.95", "seeds", "paper"]
    assert line == [
        "scratch",
        f"41.0 ± {(high - low) / 2:.1f}",
        f"20.5 ± {(high - low) / 4:.1f}",
        "2 of 3",
        "56.7 / 27.0",
    ]


def compared(label="AGBP", other="scratch"):
    rows = tuple(replace(row, against=(other,)) if row.label == label else row for row in study().rows)
    return study(rows=rows)


def test_no_difference_without_seeds_that_both_have():
    entries = [entry for entry in found(("scratch", "AGBP")) if (entry.cell.row == "AGBP") == (entry.cell.seed == 2)]
    assert difference(entries, "ResNet50", "AGBP", "scratch", "billet", "map_50").count == 0
    assert difference_rows(compared(), entries, study().groups["ResNet50"])[1] == []
    assert difference_rows(study(), found(), study().groups["ResNet50"])[1] == []


def test_difference_is_taken_seed_by_seed_and_bold_where_it_leaves_out_zero():
    reference = stats.ttest_rel(VALUES["AGBP"], VALUES["scratch"]).confidence_interval(0.95)
    value = difference(found(("scratch", "AGBP")), "ResNet50", "AGBP", "scratch", "billet", "map_50")
    assert (value.low, value.high) == (pytest.approx(100 * reference.low), pytest.approx(100 * reference.high))
    heading, (line,) = difference_rows(compared(), found(("scratch", "AGBP")), study().groups["ResNet50"])
    assert heading == ["ResNet50, difference seed by seed", "billet mAP@.5", "billet mAP@.5:.95"]
    assert line[:2] == ["AGBP - scratch", f"+11.0 ± {value.half_width:.1f}"]
    # The same spread of both rows cancels: 20 points at every seed, in which nothing is left to chance.
    _, (line,) = difference_rows(compared("AGSSP"), found(), study().groups["ResNet50"])
    assert line == ["AGSSP - scratch", "**+20.0 ± 0.0**", "**+10.0 ± 0.0**"]
    assert "seed by seed" in markdown(compared("AGSSP"), found(), {})
    assert "seed by seed" not in markdown(study(), found(), {})


def test_bold_only_where_the_best_separates_from_all_others():
    def bold(entries):
        return {line[0] for line in table_rows(study(), entries, study().groups["ResNet50"])[1] if "**" in line[1]}

    assert bold(found()) == {"AGSSP"}
    assert best_row(found(), "ResNet50", "billet", "map_50") == "AGSSP"
    assert bold(found(("scratch", "AGSSP", "AGBP"))) == set()  # AGBP's interval reaches over it
    assert bold(found(("AGSSP",))) == set()
    one_seed = [entry for entry in found() if entry.cell.seed == 0]
    assert bold(one_seed) == set()
    for state in ("failed", "missing"):
        assert bold([*found(), CellResult(cell("AGBP", 0), state)]) == set()


def test_markdown_says_what_is_shared_and_what_differs():
    entries = [*found(), CellResult(cell("AGBP", 0), "failed", error="split-x: no such file")]
    text = markdown(study(warning="Synthetic.", varies=("finetune.frozen_stages",)), entries, {"Hardware": "CPU"})
    for words in (
        "**Synthetic.**", "over the seeds 0, 1, 2", "num train epochs 500",
        "ResNet50: backbone resnet50, detector yolov8s; finetuned with mosaic 0.5",
        "billet: trained on 50 images, tested on all others", "Rows differ in finetune.frozen_stages",
        "Of 7 cells: 6 done, 1 failed", "- Hardware: CPU", "| AGBP | failed | failed | 0 of 1 |  |",
        "- ResNet50 / AGSSP: start imagenet; AGBP (objective none); AGDP",
        "- ResNet50 / AGBP / billet, seed 0: split-x: no such file",
    ):  # fmt: skip
        assert words in text, words


def test_rows_in_words():
    row = study().rows[2]
    assert described(row) == "start imagenet; pretrained on the corpus without maps (image size 64)"
    assert described(Row("maps")) == "as the study says"


def test_states_of_cells(tmp_path):
    plan = quick_plan(3)
    state = State(tmp_path, plan)
    for key in ("surfaces", "split-0"):
        (tmp_path / "stages" / key).mkdir(parents=True)
        (tmp_path / "records").mkdir(exist_ok=True)
        (tmp_path / f"records/{key}.json").write_text('{"seconds": 1}')
    tested = {"results": {"test": {"map_50": 0.5, "map_50_95": None}}}
    (tmp_path / "stages/split-0/run.json").write_text(json.dumps(tested))
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures/split-1.json").write_text('{"error": "no\\nimages", "time": 0}')
    done, failed, missing = results(study(), state)
    assert (done.state, done.metrics["map_50"]) == ("done", 0.5)
    assert math.isnan(done.metrics["map_50_95"])
    assert (failed.state, failed.error) == ("failed", "split-1: no images")
    assert missing.state == "missing"


def test_hardware_and_versions_are_those_of_the_stages(tmp_path):
    plan = quick_plan(3)
    state = State(tmp_path, plan)
    assert provenance(state) == {"hardware": []}
    (tmp_path / "records").mkdir()
    for key, hardware, torch in (("split-0", "A100", "2.1"), ("split-1", "CPU", "2.1"), ("split-2", "A100", "2.2")):
        (tmp_path / "stages" / key).mkdir(parents=True)
        (tmp_path / f"records/{key}.json").write_text('{"seconds": 1}')
        facts = {"hardware": hardware, "versions": {"torch": torch}}
        (tmp_path / "stages" / key / "run.json").write_text(json.dumps(facts))
    assert provenance(state) == {"hardware": ["A100", "CPU"], "torch": ["2.1", "2.2"]}


def maps_state(root):
    """Two seeds of a study of maps, the second's curve a quarter higher."""
    stages, cells = {}, []
    for seed in (0, 1):
        key = f"evaluate-maps-{seed}"
        stages[key] = Stage(key, "evaluate-maps", key, ())
        cells.append(Cell("KeAD", "", "billet", seed, (key,)))
        folder = root / "stages" / key
        folder.mkdir(parents=True)
        (root / "records").mkdir(exist_ok=True)
        (root / f"records/{key}.json").write_text('{"seconds": 1}')
        scale = 1 + seed / 4
        overlap = {"default": 0.4 * scale, "by_delta": [0.1 * scale, 0.4 * scale], "best_threshold_iou": 0.2 * scale,
                   "by_threshold": [0.2 * scale, None, 0.04 * scale]}  # fmt: skip
        facts = {"image_auroc": None, "pixel_auroc": 0.9, "mean_iou": overlap, "deltas": [0.0, 0.1],
                 "thresholds": [0.5, 1.0, 1.5]}  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(facts))
    return State(root, Plan(stages, tuple(cells)))


def test_study_of_maps(tmp_path):
    maps = study(kind="maps", groups={"": Group("")}, rows=(Row("KeAD"),), seeds=(0, 1), flags={})
    entries = results(maps, maps_state(tmp_path))
    heading, (line,) = table_rows(maps, entries, Group(""))
    assert heading[:3] == ["row", "billet image AUROC", "billet pixel AUROC"]
    half = stats.t.ppf(0.975, 1) * np.std([40, 50], ddof=1) / math.sqrt(2)
    assert line == ["KeAD", "-", "90.0 ± 0.0", f"45.0 ± {half:.1f}", f"22.5 ± {half / 2:.1f}", "2"]
    deltas, thresholds = curve_tables(maps, entries)
    assert deltas == ("Mask IoU by delta", ["delta", "KeAD / billet"], [["0", "11.2"], ["0.1", "**45.0**"]])
    assert thresholds[2] == [["0.5", "**22.5**"], ["1", "-"], ["1.5", "4.5"]]
    assert "which the adaptive rule never sees" in markdown(maps, entries, {})
    write_study_page(tmp_path / "study.html", maps, entries, {}, ["agssp evaluate-maps"])
    assert "Mask IoU by fixed threshold" in (tmp_path / "study.html").read_text()


def test_page_has_bars_or_lines(tmp_path):
    write_study_page(tmp_path / "bars.html", study(), found(), {"Hardware": "CPU"}, ["agssp finetune x"])
    text = (tmp_path / "bars.html").read_text()
    assert "<strong>61.0 ± 2.5</strong>" in text
    assert "agssp finetune x" in text
    rows = tuple(Row(row, "ResNet50", "scratch", x=x, series="s") for x, row in enumerate(VALUES))
    write_study_page(tmp_path / "lines.html", study(rows=rows, x_label="epochs"), found(tuple(VALUES)), {}, [])
    assert "epochs" in (tmp_path / "lines.html").read_text()
