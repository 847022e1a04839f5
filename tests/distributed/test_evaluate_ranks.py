"""What only the first process can see stops all of them."""

import sys
from pathlib import Path

import pytest
from warm_python import torchrun

sys.path.insert(0, str(Path(__file__).parents[1] / "commands"))
from detector_cases import make_images, save_detector

WORKER = Path(__file__).with_name("evaluate_worker.py")


@pytest.mark.slow
def test_foreign_output_folder_is_refused_on_every_rank(tmp_path):
    model, images = save_detector(tmp_path / "model"), make_images(tmp_path / "images")
    for name in ("output", "records"):
        (tmp_path / name).mkdir()
    (tmp_path / "output" / "thesis.txt").write_text("mine")
    torchrun(WORKER, model, images, tmp_path / "output", tmp_path / "records", check=False)
    said = {file.name: file.read_text() for file in (tmp_path / "records").iterdir()}
    assert set(said) == {"0", "1"}
    assert said["0"] == said["1"]
    assert "thesis.txt" in said["0"]
