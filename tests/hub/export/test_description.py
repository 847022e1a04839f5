"""What is recorded of how a model came about, from its folder or its repository on the Hub."""

import json

import pytest

from agssp.hub.export.description import run_facts

RUN = {"command": "agssp finetune /home/me/agdp", "seed": 3, "arguments": {"dataset": "/data/plates"}}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The Hub's cache on a machine without network; it holds `me/agdp` with its run.json and `me/bare` without."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("agdp", "bare"):
        repository = tmp_path / "cache" / f"models--me--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        snapshot = repository / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
    (tmp_path / "cache" / "models--me--agdp" / "snapshots" / ("0" * 40) / "run.json").write_text(json.dumps(RUN))


def test_nothing_is_recorded(tmp_path):
    assert run_facts(tmp_path) is None
    (tmp_path / "run.json").write_text("{")
    assert run_facts(tmp_path) is None
    (tmp_path / "run.json").write_text("[]")
    assert run_facts(tmp_path) is None


def test_of_a_folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    assert run_facts(tmp_path) == {"command": "agssp finetune agdp", "seed": 3}


@pytest.mark.usefixtures("cache")
def test_of_a_repository_on_the_hub():
    assert run_facts("me/agdp") == {"command": "agssp finetune agdp", "seed": 3}
    assert run_facts("me/bare") is None  # nobody can be asked
    assert run_facts("me/absent") is None
