"""Programs that tests start find modules imported that may be, and import those themselves that may not be."""

import json
import os
import subprocess
import sys

import pytest
from warm_python import READY, python

CODE = "import json, os, sys; print(json.dumps([sorted(sys.modules), len(os.listdir('/proc/self/task'))]))"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="programs have an interpreter of their own")
@pytest.mark.parametrize(("changes", "ready"), [({}, True), ({"RANK": "1"}, True), ({"HF_HOME": "/other"}, False)])
def test_what_reads_the_environment_is_imported_where_that_is_the_sessions(changes, ready):
    done = subprocess.run([python(), "-c", CODE], env=os.environ | changes, capture_output=True, text=True, check=True)
    modules, threads = json.loads(done.stdout)
    assert {"torch", "pyarrow"} <= set(modules)
    assert [name in modules for name in READY[:3]] == [ready] * 3
    assert not any(name.split(".")[0] == "agssp" for name in modules)
    assert threads == 1
