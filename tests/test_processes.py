import errno
import os
import socket
import subprocess
import sys

import pytest

from agssp.errors import InputError, StorageError
from agssp.processes import on_main_process, received_error, sent_error


def test_no_error():
    on_main_process(lambda: None)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (InputError("no such flag"), InputError, "no such flag"),
        (StorageError("the share is gone"), StorageError, "the share is gone"),
        (
            OSError(errno.EIO, "bad", "a.png"),
            StorageError,
            "a.png: Input/output error; see to the disk or network share",
        ),
    ],
)
def test_an_error_is_the_same_after_it_was_sent(error, kind, said):
    found = received_error(sent_error(error))
    assert type(found) is kind
    assert str(found).startswith(said)
    with pytest.raises(kind, match=said):
        on_main_process(lambda: (_ for _ in ()).throw(error))


def test_what_is_a_fault_of_the_program_is_not_sent():
    with pytest.raises(KeyError, match="a"):
        sent_error(KeyError("a"))


@pytest.mark.parametrize("how", ["on_main_process(work)", "on_main(work)"])
def test_all_processes_end_with_the_status_of_a_fault_that_one_has_met(how):
    code = f"""
import errno, torch
from agssp import cli
from agssp.commands import knowledge
from agssp.processes import on_main_process
from agssp.study.runner import agree_on_device, on_main
def work():
    raise OSError(errno.ESTALE, "stale", "/share/a.png")
def main(*_):
    agree_on_device()
    {how}
knowledge.main = main
cli.main(["knowledge", "list"])
"""
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    facts = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | facts | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 75, said
        assert "error: /share/a.png: Stale file handle; see to the disk or network share. Finished work is kept" in said
