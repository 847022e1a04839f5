"""Messages of libraries: once each, as a terminal shows them."""

import subprocess
import sys

import pytest

LOG = """
import logging
from agssp.library_messages import tame_libraries

own = logging.getLogger("own")
own.addHandler(logging.StreamHandler())
{tame}
logging.warning("by the root logger")
own.warning("by a library with a handler")
logging.getLogger("own.part").warning("by a part of it")
logging.getLogger("bare").warning("by a library without one")
logging.getLogger("bare").info("a detail")
"""


def printed(tame):
    code = LOG.format(tame=tame)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stderr.splitlines()


@pytest.mark.slow
def test_nothing_is_printed_twice():
    # A library that logs by the root logger makes others print twice.
    assert printed("").count("by a library with a handler") == 1
    assert "WARNING:own:by a library with a handler" in printed("")
    assert printed("tame_libraries(); tame_libraries()") == [
        "by the root logger",
        "by a library with a handler",
        "by a part of it",
        "by a library without one",
    ]


@pytest.mark.slow
def test_handlers_of_a_program_stay():
    lines = printed('logging.basicConfig(format="mine: %(message)s"); tame_libraries()')
    assert [line for line in lines if line.startswith("mine: ")] == [
        "mine: by the root logger",
        "mine: by a library with a handler",
        "mine: by a part of it",
        "mine: by a library without one",
    ]
