"""Run the stages of a plan that are missing: one at a time, on any number of processes, each stage once."""

import contextlib
import functools
import gc
import os
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agssp.arguments import parse_arguments
from agssp.errors import InputError, StorageError
from agssp.faults import storage_fault
from agssp.files import append_line, remove_leftovers, write_json
from agssp.parsing import parse_json, read_lines
from agssp.processes import received_error, sent_error

from .python_stages import run_python_stage
from .stage import PYTHON_STAGES, Plan, Stage, command_module

STAGES, RECORDS, FAILURES, LOCKS = "stages", "records", "failures", "locks"
ATTEMPTS = "attempts.jsonl"
TOGETHER = ("anomaly-maps", "evaluate-maps", "pseudo-boxes", "pretrain-backbone", "pretrain-detector", "finetune")
"""Commands that all processes of `accelerate launch` run together; the others are the main process's."""
POLL_SECONDS = 2.0
SAY_AGAIN_SECONDS = 60.0
_REMOVE = "remove it, and its stage is run again"

Result = TypeVar("Result")


@dataclass
class State:
    """What an output folder knows of a plan's stages.

    Attributes:
        output: the study's folder.
        plan: its plan.
        began: when this process began, in seconds; failures since then are not tried again.
    """

    output: Path
    plan: Plan
    began: float = field(default_factory=time.time)

    @property
    def root(self) -> Path:
        """Folder of all stages."""
        return self.output / STAGES

    def record(self, key: str) -> dict[str, Any] | None:
        """When, where and in how many seconds a stage was finished; None if it is not."""
        return _read(self.output / RECORDS / f"{key}.json") if (self.root / key).is_dir() else None

    def failure(self, key: str) -> dict[str, Any] | None:
        """How a stage failed when it was last tried; None if it was not, or did not."""
        return None if self.record(key) else _read(self.output / FAILURES / f"{key}.json")

    def failed_now(self, key: str) -> bool:
        """Whether a stage failed since this process began."""
        failure = self.failure(key)
        return failure is not None and failure["time"] >= self.began

    def blocked_by(self, key: str) -> str | None:
        """A stage that failed and that this one needs, or this one itself."""
        for need in self.plan.stages[key].needs:
            found = self.blocked_by(need)
            if found is not None:
                return found
        return key if self.failure(key) else None


def run_missing(state: State, after_each: Callable[[], None]) -> None:
    """Run all stages that are not finished, except those that need one that fails.

    Args:
        state: of the output folder.
        after_each: called on the main process whenever a stage has ended.
    """
    for name in (STAGES, RECORDS, FAILURES, LOCKS):
        (state.output / name).mkdir(parents=True, exist_ok=True)
        remove_leftovers(state.output / name)
    remove_leftovers(state.output)
    waiting_since, said = time.monotonic(), ""
    while True:
        with contextlib.ExitStack() as lock:
            choice = on_main(functools.partial(_choose, state, lock))
            if choice is None:
                return
            key, busy = choice
            if key is not None:
                _run(state, state.plan.stages[key], after_each)
                waiting_since = time.monotonic()
                continue
        message = f"waiting for {', '.join(busy)}, which another process of this study runs"
        if is_main() and (message != said or time.monotonic() - waiting_since > SAY_AGAIN_SECONDS):
            print(message, flush=True)
            waiting_since, said = time.monotonic(), message
        time.sleep(POLL_SECONDS)


def _choose(state: State, lock: contextlib.ExitStack) -> tuple[str | None, list[str]] | None:
    """Lock the next stage to run: its key; or no key and the stages of other processes to wait for; or the end."""
    from filelock import FileLock, Timeout

    missing = [key for key in state.plan.stages if not state.record(key)]
    ready = [
        key for key in missing
        if not state.failed_now(key) and all(state.record(need) for need in state.plan.stages[key].needs)
    ]  # fmt: skip
    busy = []
    # What failed before comes last, so that it does not keep untried cells waiting.
    for key in sorted(ready, key=lambda key: state.failure(key) is not None):
        attempt = FileLock(state.output / LOCKS / f"{key}.lock")
        try:
            # The system frees the lock when its process ends, however it ends.
            lock.enter_context(attempt.acquire(timeout=0))
        except Timeout:
            busy.append(key)
            continue
        if not state.record(key) and not state.failed_now(key):
            return key, []
        lock.close()
        # Another process has ended it since we looked; what it made possible is found by looking again.
        return _choose(state, lock)
    return (None, busy) if busy else None


def _run(state: State, stage: Stage, after_each: Callable[[], None]) -> None:
    """Run one stage that is locked, and write down how it ended."""
    number = list(state.plan.stages).index(stage.key) + 1
    if is_main():
        _log(state, stage, "began")
        print(f"\n[{number}/{len(state.plan.stages)}] {stage.title}\n    {stage.line(state.root)}", flush=True)
    started = time.perf_counter()
    error: Exception | None = None
    with _torch_as_it_is():
        try:
            if stage.command in TOGETHER or is_main():
                call(stage, state.root)
        except Exception as problem:
            error = problem
    if error is not None and (fault := storage_fault(error)) is not None:
        # The other stages would meet it too. Whatever can be written down of it makes this stage the last to be tried.
        with contextlib.suppress(OSError):
            _fail(state, stage, error)
        raise StorageError(f"{stage.title}: {fault}") from error
    # A process that left a stage in the middle has left the others waiting, or will: none of them can go on.
    if error is not None and processes() > 1 and not isinstance(error, InputError):
        _fail(state, stage, error)
        raise error
    error = _first(error)
    if is_main():
        seconds = round(time.perf_counter() - started, 1)
        if error is None:
            record = {"command": stage.line(state.root), "seconds": seconds, "process": _name()}
            write_json(state.output / RECORDS / f"{stage.key}.json", record)
            (state.output / FAILURES / f"{stage.key}.json").unlink(missing_ok=True)
            _log(state, stage, "finished")
        else:
            _fail(state, stage, error)
        print(remaining(state), flush=True)
        after_each()


def _first(error: Exception | None) -> Exception | None:
    """An error that any of the processes has met, on all of them."""
    if processes() == 1:
        return error
    from accelerate.utils import gather_object

    found = [other for other in gather_object([None if error is None else str(error)]) if other is not None]
    return InputError(found[0]) if found else None


def call(stage: Stage, root: Path) -> None:
    """Run a stage in this process, as its command line would."""
    if stage.command in PYTHON_STAGES:
        run_python_stage(stage.command, stage.values(root))
        return
    module = command_module(stage.command)
    module.main(*parse_arguments(stage.command, module.ARGUMENTS, stage.words(root), positional=module.POSITIONAL))


def remaining(state: State) -> str:
    """How much is left, and how long it takes if it takes as long as what was alike."""
    stages = state.plan.stages
    seconds: dict[str, list[float]] = {}
    for key, stage in stages.items():
        record = state.record(key)
        if record is not None:
            seconds.setdefault(stage.command, []).append(record["seconds"])
    left = [stage for key, stage in stages.items() if not state.record(key)]
    known = [stage.command for stage in left if stage.command in seconds]
    total = sum(sum(seconds[command]) / len(seconds[command]) for command in known)
    unknown = sorted({stage.command for stage in left} - seconds.keys())
    text = f"    {len(stages) - len(left)} of {len(stages)} stages finished"
    if known:
        text += f"; about {duration(total)} of work in {len(known)} more, judging by their like"
    if unknown:
        text += f"; {len(left) - len(known)} of a kind not yet seen ({', '.join(unknown)})"
    return text


def duration(seconds: float) -> str:
    """Seconds for people."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def processes() -> int:
    """How many processes `accelerate launch` or torchrun has started together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def agree_on_device() -> None:
    """Tell stages that there is no GPU: accelerate takes processes without one for strangers unless it is told."""
    import torch

    if processes() > 1 and not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"


def is_main() -> bool:
    """Whether this is the process that decides and writes."""
    return int(os.environ.get("RANK", 0)) == 0


def on_main(work: Callable[[], Result]) -> Result:
    """What the main process finds, on every process.

    Raises:
        InputError: what `work` raised, on every process.
        StorageError: the same, for what `work` met of the machine's faults.
    """
    if processes() == 1:
        return work()
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not torch.cuda.is_available())  # joins the process group
    found: list[Any] = [None, None]
    if is_main():
        try:
            found[0] = work()
        except Exception as error:
            found[1] = sent_error(error)
    result, problem = broadcast_object_list(found)
    if problem is not None:
        raise received_error(problem)
    return result


def _fail(state: State, stage: Stage, error: Exception) -> None:
    text = f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)
    record = {
        "stage": stage.key,
        "command": stage.line(state.root),
        "error": text,
        "traceback": "".join(traceback.format_exception(error)),
        "process": _name(),
        "time": time.time(),
    }
    path = state.output / FAILURES / f"{stage.key}.json"
    write_json(path, record)
    _log(state, stage, "failed")
    print(f"    failed: {text}\n    {path} has the whole story; other cells go on", file=sys.stderr, flush=True)


def _log(state: State, stage: Stage, event: str) -> None:
    entry = {"stage": stage.key, "event": event, "process": _name(), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    from filelock import FileLock

    path = state.output / ATTEMPTS
    with FileLock(state.output / LOCKS / "attempts.lock"):
        deque(read_lines(path, repair=True), maxlen=0)
        with path.open("a", encoding="utf-8") as file:
            append_line(file, entry)


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _read(path: Path) -> dict[str, Any] | None:
    # Read, not looked for first: another process may remove a failure in between.
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    facts = parse_json(content, str(path), remedy=_REMOVE)
    if not isinstance(facts, dict):
        raise InputError(f"{path}: expected JSON of an object, {{...}}, got {type(facts).__name__}; {_REMOVE}")
    return facts


@contextlib.contextmanager
def _torch_as_it_is() -> Iterator[None]:
    """Stages change torch's threads, and leave models behind, of which the next one must not feel anything."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
