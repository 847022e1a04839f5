"""The door to ultralytics leaves no trace."""

import subprocess
import sys

import pytest
from warm_python import python


@pytest.mark.slow
def test_import_writes_nothing_at_home_and_is_silent(tmp_path):
    code = (
        "import os, sys\n"
        "from agssp.models.ultralytics import import_ultralytics\n"
        "assert 'ultralytics' not in sys.modules\n"
        "assert import_ultralytics().__name__ == 'ultralytics'\n"
        "print(os.environ.get('OMP_NUM_THREADS'), os.environ['YOLO_CONFIG_DIR'])"
    )
    env = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), "PATH": ""}
    (tmp_path / "home").mkdir()
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    threads, settings = result.stdout.split()
    assert threads == "None"
    assert settings.startswith(str(tmp_path / ".agssp-ultralytics."))
    assert not (tmp_path / "home" / ".config" / "Ultralytics").exists()
    assert [path.name for path in tmp_path.glob("*agssp-*")] == []


def test_first_import_while_a_model_is_planned_on_the_meta_device():
    code = (
        "import torch\n"
        "from agssp.models.ultralytics import import_ultralytics\n"
        "with torch.device('meta'):\n"
        "    import_ultralytics()\n"
        "from ultralytics.nn.modules import Detect\n"
        "print(Detect.anchors.device, Detect.strides.device)"
    )
    result = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["cpu", "cpu"]


def test_missing_package_says_how_to_install_it(monkeypatch):
    import pytest

    from agssp.errors import InputError
    from agssp.models.ultralytics import import_ultralytics

    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(InputError, match="pip install ultralytics"):
        import_ultralytics()
