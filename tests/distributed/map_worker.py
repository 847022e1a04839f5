"""Run `anomaly-maps` in forked processes that are killed at given moments; forking spares importing torch each time.

Reads JSON lines {"output", "world_size", "kill_after" (seconds or null)} from standard input, and answers each with the
seconds it took and how many processes were killed.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "commands"))
from map_cases import arguments

from agssp.commands import anomaly_maps


def work(root: Path, output: str, rank: int, world_size: int) -> None:
    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(world_size)
    log = os.open(str(root / "log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    anomaly_maps.main(arguments(root, output))


def kill(children: list[int]) -> None:
    for child in children:
        # One that has just ended is still waited for, so its number cannot be another process's yet.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def main() -> None:
    root = Path(sys.argv[1])
    torch.set_num_threads(1)
    # One run before the first fork, so that every child finds all modules imported.
    warm = os.fork()
    if warm == 0:
        work(root, "warm", 0, 1)
        os._exit(0)
    os.waitpid(warm, 0)
    for line in sys.stdin:
        job = json.loads(line)
        start = time.monotonic()
        children = []
        for rank in range(job["world_size"]):
            child = os.fork()
            if child == 0:
                try:
                    work(root, job["output"], rank, job["world_size"])
                finally:
                    os._exit(0)
            children.append(child)
        timer = None
        if job["kill_after"] is not None:
            timer = threading.Timer(job["kill_after"], kill, [children])
            timer.start()
        killed = sum(os.WIFSIGNALED(os.waitpid(child, 0)[1]) for child in children)
        if timer is not None:
            timer.cancel()
        print(json.dumps({"seconds": time.monotonic() - start, "killed": killed}), flush=True)


if __name__ == "__main__":
    main()
