"""What the libraries tell the Hub of whoever uses them: versions, and nothing that ties requests together."""

import ast
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from model_cases import backbone_folder

import agssp
from agssp.errors import InputError
from agssp.hub.export import OnnxDetector
from agssp.telemetry import forget_session

DEFAULTS = ("HF_HUB_DISABLE_TELEMETRY", "HF_UPDATE_DOWNLOAD_COUNTS", "YOLO_OFFLINE", "DO_NOT_TRACK")
CLIENTS = {"python-httpx", "python-httpx2", "python-requests"}
DESCRIPTION = {
    "labels": {"0": "dent"},
    "input": {"shape": [None, 3, 64, 64]},
    "normalisation": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    "suppression": {"iou_threshold": None},
}
CLEARED = f"import os\nfor name in {DEFAULTS!r}:\n    os.environ.pop(name, None)\n"


def fresh(code, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in DEFAULTS} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


SHOW = f"\nprint(json.dumps({{name: os.environ[name] for name in {DEFAULTS!r} if name in os.environ}}))"


@pytest.mark.slow
def test_importing_the_package_alone_sets_nothing():
    assert fresh("import json, os, agssp" + SHOW) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "door",
    ["from agssp import InputError", "import agssp.data.schema", "import agssp.hub.names", "import agssp.models"],
)
def test_the_doors_to_the_libraries_switch_telemetry_off(door):
    found = fresh(f"import json, os\n{door}" + SHOW)
    assert found == {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}


@pytest.mark.slow
def test_what_the_user_has_set_stays():
    found = fresh("import json, os\nimport agssp.hub.names" + SHOW, HF_HUB_DISABLE_TELEMETRY="0")
    assert found == {"HF_HUB_DISABLE_TELEMETRY": "0", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}


def test_without_transformers_there_is_no_session_to_forget(monkeypatch):
    monkeypatch.delitem(sys.modules, "transformers.utils.hub", raising=False)
    forget_session()


def test_onnxruntime_is_told_to_report_nothing_before_it_opens_a_file(monkeypatch, tmp_path):
    import onnxruntime

    called, switch = [], onnxruntime.disable_telemetry_events
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: called.append("off") or switch())
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: called.append("open") or session(*a, **k))
    with pytest.raises(InputError, match="onnxruntime cannot open it"):
        OnnxDetector(tmp_path / "none.onnx", description=DESCRIPTION)
    assert called == ["off", "open"]


def test_onnxruntime_is_imported_in_one_place_alone():
    """Where it is imported, it is told so."""
    source = Path(agssp.__file__).parent
    importing = [
        file.relative_to(source).as_posix()
        for file in sorted(source.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(each.name.split(".")[0] == "onnxruntime" for each in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "onnxruntime")
    ]
    assert importing == ["telemetry.py"]


@pytest.mark.slow
def test_requests_tell_versions_alone(hub, tmp_path):
    backbone_folder(tmp_path / "backbone")
    hub.publish("agssp/rows", {"metadata.csv": "file_name\n", "a.csv": "x\n1\n"}, repo_type="dataset")
    code = """
        from agssp.cli import main
        main(["push", sys.argv[1], "agssp/x"])
        from agssp import AgsspBackbone
        AgsspBackbone.from_pretrained("agssp/x")
        from transformers import AutoConfig
        AutoConfig.from_pretrained("agssp/x", force_download=True)
        from datasets import load_dataset
        load_dataset("agssp/rows", data_files="a.csv")
        """
    hub.run(CLEARED + "import sys\n" + textwrap.dedent(code), tmp_path / "backbone")
    agents = {request.agent for request in hub.requests}
    assert any(agent.startswith("transformers/") for agent in agents)
    assert any(agent.startswith("datasets/") for agent in agents)
    allowed = {"transformers", "datasets", "python", "hf_hub", "pyarrow", "torch", "unknown", "telemetry", "session_id"}
    parts = {part.strip() for agent in agents for part in agent.split(";") if "/" in part}
    assert {part.split("/")[0] for part in parts} <= allowed | CLIENTS
    assert {part for part in parts if part.startswith(("session_id", "telemetry"))} <= {
        "session_id/none",
        "telemetry/off",
    }
    assert not hub.requested("*", r"telemetry")
