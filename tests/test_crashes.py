"""Commands that are killed in the middle of what they write, or meet a full disk, go on to the undisturbed result.

`scripts/crashes.py` does it for more commands, at more moments and on a real disk; here are a few cheap ones.
"""

import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import python

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).with_name("commands")))

from crashes import contents, leftovers
from detector_cases import make_images, save_detector

from agssp.cli import TRY_AGAIN

MOMENTS = 3
CODE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "scripts")!r})
from crashes import run_watched
print(run_watched(sys.argv[3:], [sys.argv[1]], int(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    root = tmp_path_factory.mktemp("crashes")
    labelled, model = make_images(root / "labelled"), save_detector(root / "model")
    return {
        "split": ("split", "--dataset", labelled, "--count", "2"),
        "predict": ("predict", model, labelled, "--threshold", "0.05", "--batch-size", "2"),
    }


def start(output: Path, *words: str, kill_at: int = 0, largest_file: int | None = None) -> subprocess.CompletedProcess:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))

    return subprocess.run(
        [python(), "-c", CODE, str(output), str(kill_at), *words, "--output", str(output)],
        capture_output=True, text=True, preexec_fn=limit, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["split", "predict"])
def test_a_killed_command_goes_on_to_the_undisturbed_result(commands, tmp_path, name):
    output = tmp_path / "out"
    done = start(output, *commands[name])
    assert done.returncode == 0, done.stderr
    count, expected = int(done.stdout.split()[-1]), contents(output)
    assert leftovers(output) == []
    generator = random.Random(name)
    for number in range(MOMENTS):
        output.rename(tmp_path / f"before-{number}")
        assert start(output, *commands[name], kill_at=generator.randint(1, count)).returncode == -signal.SIGKILL
        assert start(output, *commands[name]).returncode == 0
        assert contents(output) == expected
        assert leftovers(output) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["split", "predict"])
def test_a_full_disk_is_said_and_the_same_command_goes_on_once_there_is_room(commands, tmp_path, name):
    output = tmp_path / "out"
    full = start(output, *commands[name], largest_file=2000)
    assert full.returncode == TRY_AGAIN, full.stderr
    assert "make room there. Finished work is kept; run the same command to go on" in full.stderr
    assert "Traceback" not in full.stderr
    assert leftovers(output) == []
    assert start(output, *commands[name]).returncode == 0
    output.rename(tmp_path / "gone-on")
    assert start(output, *commands[name]).returncode == 0
    assert contents(tmp_path / "gone-on") == contents(output)
