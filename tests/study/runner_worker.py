"""One process of test_runner.py: wait for the others, then work. `runner_worker.py OUTPUT NAME PROCESSES`."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from study_cases import quick_plan

from agssp.study import runner
from agssp.study.runner import State, run_missing

runner.POLL_SECONDS = 0.05  # in place of two seconds until another's stage is looked at again


def main(output: Path, name: str, count: int) -> None:
    import agssp.commands.split  # imported before the start, so that both have work to do when it comes

    assert agssp
    (output / f"{name}.ready").touch()
    while len(list(output.glob("*.ready"))) < count:
        time.sleep(0.01)
    run_missing(State(output, quick_plan(16)), lambda: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
