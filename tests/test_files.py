"""What is written is whole or absent, whoever dies when; what is read back is right or named; one writer a folder."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from agssp import faults, files, locks, parsing
from agssp.cli import TRY_AGAIN
from agssp.errors import InputError, StorageError


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def start(code: str, *words: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)


# --- writing ---


@pytest.mark.parametrize("content", ["", "é\nline\r\nend"])
def test_a_file_has_the_text_and_nothing_is_beside_it(tmp_path, content):
    files.write_text(tmp_path / "new" / "a.txt", content)
    assert (tmp_path / "new" / "a.txt").read_bytes() == content.encode()
    files.write_bytes(tmp_path / "new" / "a.txt", b"\xff")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\xff"
    assert names(tmp_path / "new") == ["a.txt"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    files.write_text(file, "old")
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"), files.open_whole(file) as opened:
        opened.write("new\udc00")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_lines_are_json_one_by_one(tmp_path):
    files.write_lines(tmp_path / "a.jsonl", [])
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    files.write_lines(tmp_path / "a.jsonl", iter([{"a": "é"}, 2]))
    assert list(parsing.read_lines(tmp_path / "a.jsonl")) == [{"a": "é"}, 2]


def test_the_longest_name_that_a_file_may_have(tmp_path):
    name = "é" * 120 + ".json"
    files.write_json(tmp_path / name, {})
    assert names(tmp_path) == [name]


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file_and_a_leftover_that_goes(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    code = """
import sys, time
from agssp.files import open_whole
with open_whole(sys.argv[1]) as file:
    file.write("new"); file.flush(); print("writing", flush=True); sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a.txt")], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    assert files.remove_leftovers(tmp_path, alone=True) == []  # its writer lives
    process.kill()
    process.communicate()
    assert (tmp_path / "a.txt").read_text() == "old"
    (left,) = [name for name in names(tmp_path) if name != "a.txt"]
    assert files.remove_leftovers(tmp_path) == [left]
    assert names(tmp_path) == ["a.txt"]


def test_leftovers_of_a_run_that_had_this_ones_number_as_in_a_container(tmp_path):
    begun = files.beside(tmp_path / "a.txt")
    begun.write_text("half")
    earlier = begun.with_name(begun.name.replace(".a.txt.", ".b.txt."))
    earlier.write_text("half")
    assert files.remove_leftovers(tmp_path) == []
    assert files.remove_leftovers(tmp_path, alone=True) == [earlier.name]
    assert names(tmp_path) == [begun.name]


def test_leftovers_of_other_machines_go_only_where_nobody_else_writes(tmp_path):
    other = tmp_path / ".a.txt.elsewhere-1-0.partial"
    other.mkdir()
    (other / "part").write_bytes(b"")
    (tmp_path / ".hidden.partial").write_bytes(b"")
    assert files.remove_leftovers(tmp_path) == []
    assert files.remove_leftovers(tmp_path, alone=True) == [other.name]
    assert names(tmp_path) == [".hidden.partial"]


def test_others_may_read_what_a_library_writes_for_its_owner_alone(tmp_path):
    (tmp_path / "usual").touch()
    with files.whole_folder(tmp_path / "folder") as part:
        save_file({}, part / "a")
    with files.whole_file(tmp_path / "file") as part:
        save_file({}, part)
    assert files.write_once(tmp_path / "once", lambda part: save_file({}, part))
    modes = {path.stat().st_mode for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "usual").stat().st_mode}


def test_the_first_writer_wins(tmp_path):
    file = tmp_path / "new" / "references"
    assert files.write_once(file, lambda part: part.write_bytes(b""))
    assert not files.write_once(file, lambda part: part.write_bytes(b"second"))
    assert file.read_bytes() == b""
    assert list(file.parent.iterdir()) == [file]


def test_the_first_writer_wins_where_there_are_no_links(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError("no links on this file system")

    monkeypatch.setattr(os, "link", link)
    assert files.write_once(tmp_path / "file", lambda part: part.write_bytes(b"first"))
    assert not files.write_once(tmp_path / "file", lambda part: part.write_bytes(b"second"))
    assert (tmp_path / "file").read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def fail(part):
        part.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_once(tmp_path / "file", fail)
    assert names(tmp_path) == []


def test_names_beside_of_two_machines_processes_or_files_differ(tmp_path, monkeypatch):
    found = [files.beside(tmp_path / "file").name, files.beside(tmp_path / "file").name]
    for host, process in (("one", 7), ("two", 7), ("one", 8)):
        monkeypatch.setattr(files.socket, "gethostname", lambda host=host: host)
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        found.append(files.beside(tmp_path / "file").name)
    assert len(set(found)) == 5


# --- folders ---


def fill(folder: Path, *content: str) -> None:
    for name in content:
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text(name)


def test_a_folder_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path):
    with files.whole_folder(tmp_path / "deep" / "best") as part:
        assert not (tmp_path / "deep" / "best").exists()
    assert names(tmp_path / "deep" / "best") == []
    with files.whole_folder(tmp_path / "deep" / "best") as part:
        fill(part, "first")
    with pytest.raises(FileExistsError, match="first"), files.whole_folder(tmp_path / "deep" / "best") as part:
        fill(part, "first", "first")
    assert names(tmp_path / "deep" / "best") == ["first"]
    with files.whole_folder(tmp_path / "deep" / "best") as part:
        fill(part, "second")
    assert names(tmp_path / "deep" / "best") == ["second"]
    assert names(tmp_path / "deep") == ["best"]


DYING = """
import os, pathlib, signal, sys
from agssp import files
left = int(sys.argv[2])
move = getattr(pathlib.Path, sys.argv[3])
def counted(self, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return move(self, target)
setattr(pathlib.Path, sys.argv[3], counted)
"""
"""A program that is killed at the n-th call of one of Path's methods, before what a test has it do."""


@pytest.mark.parametrize("moves", [1, 2, 3])
def test_a_folder_survives_a_kill_between_any_two_of_the_moves(tmp_path, monkeypatch, moves):
    fill(tmp_path / "best", "first")
    code = """
with files.whole_folder(sys.argv[1]) as part:
    (part / "second").mkdir()
"""
    process = start(DYING + code, str(tmp_path / "best"), str(moves), "rename")
    process.communicate()
    assert process.returncode == (-signal.SIGKILL if moves < 3 else 0)
    files.restore_folder(tmp_path / "best")
    assert names(tmp_path / "best") == (["first"] if moves < 3 else ["second"])
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["best"]


def test_a_reader_that_brings_the_old_folder_back_between_the_moves_stops_nobody(tmp_path, monkeypatch):
    fill(tmp_path / "best", "first")
    rename, seen = Path.rename, []

    def watched(self, target):
        moved = rename(self, target)
        if not seen:
            seen.append(files.restore_folder(tmp_path / "best"))
            assert names(tmp_path / "best") == ["first"]
        return moved

    monkeypatch.setattr(Path, "rename", watched)
    with files.whole_folder(tmp_path / "best", parts=tmp_path) as part:
        fill(part, "second")
    assert names(tmp_path) == ["best"]
    assert names(tmp_path / "best") == ["second"]


def test_no_folder_is_restored_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (".", "/", "owner/name"):
        files.restore_folder(path)
    assert names(tmp_path) == []


def test_files_that_belong_together_take_their_places_with_the_last_one_last(tmp_path):
    with files.whole_files(tmp_path, last="config.json"):
        pass
    assert names(tmp_path) == []
    for text in ("old", "new"):
        with files.whole_files(tmp_path, last="config.json") as part:
            (part / "config.json").write_text(text)
            save_file({}, part / "weights")
        (tmp_path / "own").write_text("kept")
    assert names(tmp_path) == ["config.json", "own", "weights"]
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "own").stat().st_mode
    with pytest.raises(FileExistsError, match="first"), files.whole_files(tmp_path, last="config.json") as part:
        fill(part, "first", "first")
    assert (tmp_path / "config.json").read_text() == "new"
    assert names(tmp_path) == ["config.json", "own", "weights"]


@pytest.mark.parametrize("moves", [1, 2])
def test_files_that_were_killed_between_the_moves_are_not_taken_for_a_whole(tmp_path, moves):
    fill(tmp_path, "a")
    (tmp_path / "config.json").write_text("old")
    code = """
with files.whole_files(sys.argv[1], last="config.json") as part:
    (part / "config.json").write_text("new")
    (part / "weights").write_text("new")
"""
    process = start(DYING + code, str(tmp_path), str(moves), "replace")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "config.json").exists()
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["a"] + ["weights"] * (moves - 1)


def test_what_lies_in_many_folders_is_unfinished_in_one(tmp_path):
    with files.whole_file(tmp_path / "a" / "b" / "c.txt", parts=tmp_path, durable=False) as part:
        part.write_text("text")
        assert part.parent == tmp_path
        assert names(tmp_path / "a" / "b") == []
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"
    assert names(tmp_path) == ["a"]


def test_a_work_folder_goes_at_its_end_or_when_the_next_one_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    code = """
import os, signal, tempfile, sys
tempfile.tempdir = sys.argv[1]
from agssp.files import work_folder
with work_folder("push") as folder:
    (folder / "shard").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = start(code, str(tmp_path))
    process.communicate()
    (left,) = names(tmp_path)
    with files.work_folder("push") as folder:
        assert folder.name != left
        assert names(tmp_path) == [folder.name]
        assert folder.stat().st_mode & 0o077 == 0
    assert names(tmp_path) == []


def test_what_is_put_in_place_takes_the_place_of_a_file(tmp_path):
    (tmp_path / "a").write_text("old")
    save_file({}, tmp_path / "part")
    files.put_in_place(tmp_path / "part", tmp_path / "a")
    fill(tmp_path / "folder.part", "inner")
    files.put_in_place(tmp_path / "folder.part", tmp_path / "folder")
    assert names(tmp_path) == ["a", "folder"]
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "folder" / "inner" / "file").stat().st_mode


# --- reading back ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b'{"a": 1', "not valid JSON, or cut off"),
        (b"\xff\xfe", "expected JSON in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "not valid JSON, or cut off: .*digits"),
        (b"[]", r"expected JSON of an object, \{...\}, got \[\]; start again"),
        (b"null", r"an object, \{...\}, got null"),
        (b'{"b": 1}', "lacks a; start again"),
    ],
)
def test_json_that_cannot_be_used_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=f"a.json: .*{message}"):
        parsing.read_json(tmp_path / "a.json", keys=("a",), remedy="start again")


def test_json_that_can_be_used(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert parsing.read_json(tmp_path / "a.json", keys=("a",)) == {"a": 1}
    files.write_json(tmp_path / "a.json", [])
    assert parsing.read_json(tmp_path / "a.json", list) == []


def test_json_that_is_missing_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"none.json: no such file; run it again"):
        parsing.read_json(tmp_path / "none.json", remedy="run it again")
    monkeypatch.setattr(parsing, "MOST_JSON_BYTES", 3)
    files.write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(InputError, match=r"a.json: 1\d bytes of JSON; expected 3 at most"):
        parsing.read_json(tmp_path / "a.json")


def test_a_journal_whose_last_line_was_cut_off(tmp_path, caplog):
    file = tmp_path / "a.jsonl"
    assert list(parsing.read_lines(file)) == []
    file.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a"')
    assert list(parsing.read_lines(file)) == [{"a": 1}, {"a": 2}]
    assert "a.jsonl, line 3: was cut off" in caplog.text
    assert file.read_bytes().endswith(b'{"a"')
    assert list(parsing.read_lines(file, repair=True)) == [{"a": 1}, {"a": 2}]
    with file.open("a") as opened:
        files.append_line(opened, {"a": 3})
        assert list(parsing.read_lines(file)) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_line_that_is_no_json_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{}\n\n{"a"\n{}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 3: not valid JSON"):
        list(parsing.read_lines(tmp_path / "a.jsonl"))


# --- one at a time ---

HOLD = """
import sys
from agssp.locks import holding
with holding(sys.argv[1], "finetune"):
    print("holding", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "holding\n"
    return process


def test_whoever_comes_second_is_told_who_writes(tmp_path):
    process = hold(tmp_path / "out")
    said = rf"--output .*out: `agssp finetune` \(process {process.pid} on .*, since 20.*\) is writing there; wait"
    with pytest.raises(InputError, match=said), locks.holding(tmp_path / "out", "finetune"):
        pass
    process.communicate("")
    assert process.returncode == 0
    with locks.holding(tmp_path / "out", "finetune"):
        assert names(tmp_path / "out") == [locks.LOCK]
    # A folder that nothing came into is not left behind; one that was there before stays.
    assert names(tmp_path) == []


def test_a_killed_holder_holds_nothing_and_what_it_left_is_cleared_away(tmp_path):
    (tmp_path / ".a.elsewhere-1-0.partial").write_bytes(b"")
    process = hold(tmp_path)
    process.kill()
    process.communicate()
    (tmp_path / ".b.elsewhere-1-0.partial").write_bytes(b"")
    assert names(tmp_path) == [".b.elsewhere-1-0.partial", locks.LOCK]
    with locks.holding(tmp_path, "finetune"):
        assert json.loads((tmp_path / locks.LOCK).read_text())["process"] == os.getpid()
    assert names(tmp_path) == []


def test_a_killed_holder_whose_worker_ends_later_is_waited_for(tmp_path):
    # As of a DataLoader: forked, so the lock is its own too until it sees that its parent has gone.
    code = """
import os, sys
from agssp.locks import holding
with holding(sys.argv[1], "finetune"):
    if os.fork() == 0:
        print("forked", flush=True)
        sys.stdin.read()
        os._exit(0)
    os.wait()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "forked\n"
    process.kill()
    process.wait()
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    process.stdin.close()
    assert waiting.communicate()[0] == "holding\n"
    assert waiting.returncode == 0


def test_a_file_is_no_folder_to_hold(tmp_path):
    (tmp_path / "out").write_bytes(b"")
    said = r"--output .*out: a file of this name exists"
    with pytest.raises(InputError, match=said), locks.holding(tmp_path / "out", "finetune"):
        pass


def test_a_file_is_held_beside_it(tmp_path):
    with locks.holding_file(tmp_path / "new" / "a.onnx", "export"):
        assert names(tmp_path / "new") == [".a.onnx.lock"]
        with locks.holding_file(tmp_path / "new" / "b.onnx", "export"):
            pass
        with pytest.raises(InputError, match=r"`agssp export` .* is writing there"):
            locks.holding_file(tmp_path / "new" / "a.onnx", "export").__enter__()
    assert names(tmp_path) == []


def test_a_file_system_that_knows_no_locks_is_said_and_written_to(tmp_path, monkeypatch, caplog):
    # No such file system can be mounted here.
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with locks.holding(tmp_path, "finetune"):
        pass
    assert "its file system knows no locks; see to it that only one command writes there" in caplog.text
    assert names(tmp_path) == []


# --- faults that pass ---


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("the image is damaged"), None),
        (FileNotFoundError(errno.ENOENT, "no such file", "a.png"), None),
        (OSError("broken data stream"), None),
        (OSError(errno.ENOSPC, "full", "/out/a"), "/out/a: No space left on device; make room there"),
        (OSError(errno.EIO, "bad", "a.png"), "a.png: Input/output error; see to the disk"),
        (OSError(errno.ESTALE, "stale"), "Stale file handle; see to"),
        (MemoryError(), "no memory left"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "No space left on device; make room"),
        (StorageError("the share is gone"), "the share is gone"),
    ],
)
def test_faults_of_the_machine_and_others(error, said):
    wrapped = RuntimeError("while saving")
    wrapped.__cause__ = error
    for found in (faults.storage_fault(error), faults.storage_fault(wrapped)):
        assert found is None if said is None else said in found


def test_an_error_that_hides_another_does_not_speak_of_it():
    hidden = ValueError("mine")
    hidden.__context__, hidden.__suppress_context__ = OSError(errno.EIO, "bad"), True
    assert faults.storage_fault(hidden) is None
    hidden.__suppress_context__ = False
    assert "Input/output error" in faults.storage_fault(hidden)


def to_parquet(path: str) -> None:
    with Path(path).open("wb") as file:
        pq.write_table(pa.table({"a": np.random.default_rng(0).random(100_000)}), file)


WRITERS = {
    "python": lambda path: Path(path).write_bytes(b"1" * 100_000),
    "pyarrow": to_parquet,
    "torch": lambda path: torch.save(torch.rand(100_000), path),
    "safetensors": lambda path: save_file({"a": np.zeros(100_000)}, path),
    "pillow": lambda path: Image.new("RGB", (256, 256)).save(path, "BMP"),
}


@pytest.mark.parametrize("library", WRITERS)
def test_no_room_is_seen_through_the_library_that_meets_it(tmp_path, library):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(Exception, match=r"(?i)too large|unexpected pos") as caught:
            WRITERS[library](tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "make room there" in faults.storage_fault(caught.value)


def test_a_command_that_meets_a_full_disk_says_so_and_exits_with_75(tmp_path):
    code = """
import sys
from agssp import cli
from agssp.commands import knowledge
def main(*_):
    open("/dev/full", "w").write("1" * 100000)
knowledge.main = main
cli.main(["knowledge", "list"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == TRY_AGAIN
    assert "error: No space left on device; make room there. Finished work is kept; run the same" in done.stderr
    assert "Traceback" not in done.stderr
