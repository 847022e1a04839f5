"""SIGKILL at any moment costs work, never correctness: the finished store is the same bytes as an undisturbed one."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import python

sys.path.insert(0, str(Path(__file__).parents[1] / "commands"))
from map_cases import contents, write_images, write_teacher

KILLS = 10


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    write_images(root / "images", count=40)
    write_teacher(root / "teacher.safetensors")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        [python(), str(Path(__file__).with_name("map_worker.py")), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )

    def run(output, world_size, kill_after=None):
        process.stdin.write(json.dumps({"output": output, "world_size": world_size, "kill_after": kill_after}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield root, run
    process.stdin.close()
    process.stdout.close()
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.slow
def test_killed_and_finished_equals_undisturbed(launcher, world_size):
    root, run = launcher
    seconds = run(f"whole-{world_size}", world_size)["seconds"]
    undisturbed = contents(root / f"whole-{world_size}")
    assert len(undisturbed) == 10 + 4
    draw = random.Random(world_size)
    killed = attempt = 0
    while killed < KILLS:
        # Two kills to a store, as a user who restarts an unlucky run twice; a run that ended before its moment is no
        # kill.
        output = f"killed-{world_size}-{attempt // 2}"
        result = run(output, world_size, draw.uniform(0, seconds))
        killed += bool(result["killed"])
        if attempt % 2:
            seconds = run(output, world_size)["seconds"] if result["killed"] else seconds
            finished = {name: data for name, data in contents(root / output).items() if not name.endswith(".partial")}
            assert finished == undisturbed
        attempt += 1
        assert attempt < 5 * KILLS


@pytest.mark.slow
def test_one_process_and_two_write_the_same_bytes(launcher):
    root, run = launcher
    run("one", 1)
    run("two", 2)
    assert contents(root / "one") == contents(root / "two")
