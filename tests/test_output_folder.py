"""A folder belongs to one command with one set of settings, also where earlier builds had fewer flags."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agssp.errors import InputError, StorageError
from agssp.files import write_json
from agssp.output_folder import SETTINGS_FILE, claim_output, hold_output, keeps_outputs
from agssp.processes import on_main_process


def test_a_run_of_a_build_without_the_flag_goes_on_with_its_default_alone(tmp_path):
    assert claim_output(tmp_path / "a", "evaluate", {"seed": 1}) is False
    assert claim_output(tmp_path / "a", "evaluate", {"seed": 1, "crowds": "auto"}) is True
    with pytest.raises(InputError, match="crowds: there None, now 'objects'"):
        claim_output(tmp_path / "a", "evaluate", {"seed": 1, "crowds": "objects"})
    assert claim_output(tmp_path / "b", "evaluate", {"seed": 1, "crowds": "objects"}) is False
    with pytest.raises(InputError, match="crowds: there 'objects', now 'auto'"):
        claim_output(tmp_path / "b", "evaluate", {"seed": 1, "crowds": "auto"})


def other(path, *, file=False):
    """What another process is told that claims the same output, of a command that does not wait."""
    code = """
import sys
from agssp.output_folder import hold_output, keeps_outputs
@keeps_outputs
def main(path, file):
    hold_output(path, "evaluate", file=file)
try:
    main(sys.argv[1], sys.argv[2] == "True")
    print("free")
except ValueError as error:
    print(error)
"""
    words = [sys.executable, "-c", code, str(path), str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_a_running_command_keeps_what_it_claims_and_gives_it_up_at_its_end(tmp_path):
    @keeps_outputs
    def inner():
        claim_output(tmp_path / "out" / "step", "predict", {})
        return other(tmp_path / "out" / "step")

    @keeps_outputs
    def main():
        claim_output(tmp_path / "out", "quickstart", {})
        claim_output(tmp_path / "out", "quickstart", {})
        return inner(), other(tmp_path / "out" / "step"), other(tmp_path / "out")

    for said in main()[::2]:
        assert re.search(rf"`agssp \w+` \(process {os.getpid()} on .* is writing there; wait", said)
    assert main()[1] == "free\n"
    assert other(tmp_path / "out") == "free\n"
    assert not list(tmp_path.rglob(".*"))


def test_an_error_gives_up_what_was_kept(tmp_path):
    @keeps_outputs
    def main():
        hold_output(tmp_path / "a.onnx", "export", file=True)
        raise InputError(other(tmp_path / "a.onnx", file=True))

    with pytest.raises(InputError, match=r"--output .*a\.onnx: `agssp export` \(process"):
        main()
    assert other(tmp_path / "a.onnx", file=True) == "free\n"
    assert list(tmp_path.iterdir()) == []


def test_outside_of_a_command_nothing_is_kept(tmp_path):
    hold_output(tmp_path, "evaluate")
    assert other(tmp_path) == "free\n"


def test_a_folder_that_another_process_of_the_same_study_claims_at_this_moment(tmp_path, monkeypatch):
    written = []

    def iterdir(self, iterdir=Path.iterdir):
        if not written:
            written.append(write_json(self / SETTINGS_FILE, {"command": "study", "settings": {"processes": 1}}))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert claim_output(tmp_path, "study", {"processes": 1}) is True


def test_a_full_disk_on_the_main_process_is_told_as_such():
    def work():
        raise OSError(errno.ENOSPC, "full", "/out/settings.json")

    with pytest.raises(StorageError, match=r"/out/settings\.json: No space left on device; make room"):
        on_main_process(work)
    with pytest.raises(IsADirectoryError, match="a folder"):
        on_main_process(lambda: (_ for _ in ()).throw(IsADirectoryError("a folder")))
