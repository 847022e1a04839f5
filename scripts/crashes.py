"""Kill commands in the middle of what they write, or let the disk become full, and see that the same command goes on.

python scripts/crashes.py --output /tmp/crashes
python scripts/crashes.py --only split predict --moments 5 --output /tmp/crashes
python scripts/crashes.py --full --output /tmp/crashes      # as root: mounts a disk of 64 MB

Each command runs undisturbed once, on tiny images. Then it is killed (SIGKILL) at seeded moments: before its n-th
opening, renaming or removing of a file, or a few milliseconds after it. The same command then has to end with the files
of the undisturbed run, byte by byte where nothing but times differs, and without anything hidden or unfinished. With
--full each command writes to a small disk that something else fills but for a share of what it needs; it has to end
with status 75 and to say that there is no room, and to go on once there is.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "socket.connect")
VOLATILE = (
    "seconds", "time", "process", "hardware", "train_runtime", "train_samples_per_second", "train_steps_per_second",
    "train_loss",  # of the steps since it went on
)  # fmt: skip
SAME_NAME_ALONE = (".html", ".bin", ".pth", "attempts.jsonl", ".lock")
"""Ends of names of files whose bytes hold times or numbers of objects in memory; that they are there is compared."""
SMALL_DISK = "64m"


@dataclass(frozen=True)
class Case:
    """One command.

    Attributes:
        words: after `agssp`; OUT stands for its output, NUMBER for that of the run.
        result: of a run elsewhere than in files: number -> path -> content; None: the files are all.
    """

    words: tuple[str, ...]
    result: Callable[[int], dict[str, bytes]] | None = None


# --- one run ----------------------------------------------------------------------------------------------------------


class Watch:
    """Counts what a process changes below some folders, and ends it at one of these moments.

    Args:
        folders: to look at.
        kill_at: number of the change, from 1; 0: only count.
        delay: seconds from there on.
    """

    def __init__(self, folders: Sequence[str], kill_at: int = 0, delay: float = 0.0) -> None:
        self.folders, self.kill_at, self.delay, self.count = tuple(folders), kill_at, delay, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook of Python."""
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if event != "socket.connect" and not str(path).startswith(self.folders):
            return
        self.count += 1
        if self.count != self.kill_at:
            return
        if self.delay == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Timer(self.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()


def run_watched(words: Sequence[str], folders: Sequence[str], kill_at: int = 0, delay: float = 0.0) -> int:
    """Run a command in this process under a `Watch`; how many changes there were."""
    from agssp import cli

    watch = Watch(folders, kill_at, delay)
    sys.addaudithook(watch)
    cli.main(list(words))
    return watch.count


def in_fork(log: Path, work: Callable[[], int]) -> tuple[int, int]:
    """Call something in a process of its own, whose words go to a file; its status, negative for a signal, and answer.

    Several seconds go into imports, which are the same for all, so processes are forked from this one.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        status = 1
        try:
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, 1)
            os.dup2(target, 2)
            os.write(writing, str(work()).encode())
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), int(said or 0)


# --- what a run leaves ------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, str]:
    """Path -> hash of all files below a folder; times and the like do not count."""
    return {
        path.relative_to(folder).as_posix(): digest(path.name, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def digest(name: str, content: bytes) -> str:
    """Hash of what of a file is the same in every run."""
    if name.endswith(SAME_NAME_ALONE):
        return "is there"
    if name.endswith(".json"):
        content = json.dumps(_lasting(json.loads(content)), sort_keys=True).encode()
    elif name.endswith(".jsonl"):
        content = json.dumps([_lasting(json.loads(line)) for line in content.splitlines()], sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if name not in VOLATILE}
    return [_lasting(each) for each in value] if isinstance(value, list) else value


def leftovers(*folders: Path) -> list[str]:
    """Names of what is hidden or unfinished below folders."""
    return [
        str(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.name.startswith(".") or path.name.endswith((".partial", ".tmp", ".old"))
    ]


# --- the commands -----------------------------------------------------------------------------------------------------


def make_cases(root: Path, hub: Any) -> dict[str, Case]:
    """Tiny inputs below a folder, and the commands on them."""
    for name in ("commands", "training", "study"):
        sys.path.insert(0, str(TESTS / name))
    from chain_cases import write_all
    from detector_cases import make_images, save_detector
    from study_cases import tiny, write_study

    from agssp import AgsspBackbone

    chain = write_all(root / "chain")
    labelled = make_images(root / "labelled", 8)
    model = save_detector(root / "model")
    AgsspBackbone.from_architecture("test_resnet", "scratch").save_pretrained(root / "backbone")
    table = tiny(chain)
    table["groups"] = {"ResNet": table["groups"]["ResNet"]}
    table["rows"] = table["rows"][1:2]
    training = (
        "--image-size", "64", "--num-train-epochs", "3", "--per-device-train-batch-size", "4", "--use-cpu", "true",
        "--dataloader-num-workers", "0", "--eval-every", "1", "--checkpoint-every", "1", "--val-fraction", "0.3",
        "--disable-tqdm", "true",
    )  # fmt: skip
    return {
        "split": Case(("split", "--dataset", labelled, "--count", "3", "--output", "OUT/few")),
        "predict": Case(
            ("predict", model, labelled, "--threshold", "0.05", "--batch-size", "2", "--output", "OUT/found")
        ),
        "evaluate": Case(("evaluate", model, "--dataset", labelled, "--output", "OUT/evaluation")),
        "export": Case(("export", str(root / "backbone"), "--format", "timm", "--output", "OUT/backbone-timm")),
        "export-onnx": Case(("export", model, "--format", "onnx", "--output", "OUT/model.onnx")),
        "finetune": Case(("finetune", model, "--dataset", labelled, *training, "--output", "OUT/tuned")),
        "study": Case(("study", write_study(root, table), "--output", "OUT/study")),
        "dataset push": Case(
            ("dataset", "push", labelled, "agssp/run-NUMBER", "--licence", "cc-by-4.0", "--shard-images", "2"),
            lambda number: {
                name: content.replace(f"run-{number}".encode(), b"run")
                for name, content in hub.files(f"agssp/run-{number}", "dataset").items()
            },
        ),
    }  # fmt: skip


class Runner:
    """Runs one command over and over, always with the same output.

    Args:
        name: of the case.
        case: it.
        root: folder for outputs, logs and temporary files.
    """

    def __init__(self, name: str, case: Case, root: Path, logs: Path) -> None:
        self.name, self.case, self.number = name, case, 0
        self.output, self.temporary = root / "out", root / "temporary"
        # Never on the small disk, on which nothing could be said once it is full.
        self.log = logs / f"{name.replace(' ', '-')}.log"

    def fresh(self) -> None:
        """Begin anew."""
        self.number += 1
        for folder in (self.output, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def run(self, kill_at: int = 0, delay: float = 0.0) -> tuple[int, int]:
        """Run the command; its status and the changes it made."""
        words = [word.replace("OUT", str(self.output)).replace("NUMBER", str(self.number)) for word in self.case.words]
        folders = [str(self.output), str(self.temporary)]

        def work() -> int:
            import tempfile

            tempfile.tempdir = os.environ["TMPDIR"] = str(self.temporary)
            return run_watched(words, folders, kill_at, delay)

        return in_fork(self.log, work)

    def found(self) -> dict[str, str]:
        """What the command has made."""
        files = contents(self.output)
        if self.case.result is not None:
            files |= {name: digest(name, content) for name, content in self.case.result(self.number).items()}
        return files

    def problems(self, status: int, expected: dict[str, str]) -> list[str]:
        """What is wrong after the command has gone on to its end."""
        # An export, which never replaces anything, says that it is there where it was killed after its end.
        if status != 0 and not (status == 2 and self.name.startswith("export") and self.found() == expected):
            return [f"status {status}: {self.log.read_text()[-1500:]}"]
        found = self.found()
        differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        return [f"differs: {name}" for name in differing] + [
            f"left over: {name}"
            for name in leftovers(self.output, self.temporary)
            # Libraries keep things there too, which outlive a kill.
            if name.startswith(str(self.output)) or ".agssp-" in name
        ]


def kill(runner: Runner, moments: int, seed: int) -> list[str]:
    """Kill a command at several moments; what was wrong."""
    runner.fresh()
    started = time.perf_counter()
    status, count = runner.run()
    seconds = time.perf_counter() - started
    expected = runner.found()
    wrong = runner.problems(status, expected)
    generator = random.Random(f"{runner.name} {seed}")
    killed = 0
    for number in range(moments):
        kill_at, delay = generator.randint(1, max(count, 1)), generator.choice([0.0, generator.uniform(0.0, 0.02)])
        runner.fresh()
        killed += runner.run(kill_at, delay)[0] == -signal.SIGKILL
        status, _ = runner.run()
        wrong += [f"moment {number} (change {kill_at} of {count}, {1000 * delay:.0f} ms later): {problem}"
                  for problem in runner.problems(status, expected)]  # fmt: skip
    print(f"{runner.name}: {killed} of {moments} runs killed, {count} changes and {seconds:.1f} s undisturbed, "
          f"{len(wrong)} problems", flush=True)  # fmt: skip
    return wrong


@contextlib.contextmanager
def small_disk(folder: Path) -> Any:
    """Mount a disk of `SMALL_DISK` on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(runner: Runner, disk: Path) -> list[str]:
    """Let the disk become full at several moments; what was wrong."""
    wrong: list[str] = []
    refused = 0
    shares = (0.0, 0.1, 0.4, 0.8)
    with small_disk(disk):
        subprocess.run(["mount", "-o", "remount,size=2g", disk], check=True)
        runner.fresh()
        before = shutil.disk_usage(disk).used
        status, _ = runner.run()
        expected, needed = runner.found(), shutil.disk_usage(disk).used - before
        wrong += runner.problems(status, expected)
    for share in shares:
        with small_disk(disk):
            runner.fresh()
            room = max(int(share * needed), 0)
            with contextlib.suppress(OSError), (disk / "filler").open("wb") as filler:
                while (free := shutil.disk_usage(disk).free) > room:
                    filler.write(bytes(min(1 << 20, max(free - room, 4096))))
                    filler.flush()
            status, _ = runner.run()
            said = runner.log.read_text()
            if status == 75:
                refused += 1
                if not ("make room" in said.lower() and "Traceback" not in said):
                    wrong.append(f"room for {share:.0%}: says {said[-600:]}")
            elif status != 0:
                wrong.append(f"room for {share:.0%}: status {status}: {said[-1500:]}")
            (disk / "filler").unlink()
            subprocess.run(["mount", "-o", "remount,size=2g", disk], check=True)
            status, _ = runner.run()
            wrong += [f"room for {share:.0%}, then more: {problem}" for problem in runner.problems(status, expected)]
    print(f"{runner.name}: {refused} of {len(shares)} runs met a full disk, {len(wrong)} problems", flush=True)
    return wrong


def main() -> int:
    """Run all; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="a folder, made new")
    parser.add_argument("--only", nargs="+", help="these commands alone")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", action="store_true", help="full disks instead of kills")
    arguments = parser.parse_args()
    root = arguments.output.resolve()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    sys.path.insert(0, str(TESTS / "hub"))
    from local_hub import LocalHub

    with LocalHub(root / "hub") as hub:
        # Read when the client is imported.
        os.environ |= hub.environment("write", False, root / "cache")
        prepare()
        wrong: list[str] = []
        for name, case in make_cases(root / "inputs", hub).items():
            if arguments.only and name not in arguments.only:
                continue
            if arguments.full:
                wrong += [
                    f"{name}: {problem}"
                    for problem in fill(Runner(name, case, root / "disk" / "run", root), root / "disk")
                ]
            else:
                wrong += [
                    f"{name}: {each}"
                    for each in kill(Runner(name, case, root / "run", root), arguments.moments, arguments.seed)
                ]
    print("\n".join(wrong))
    return int(bool(wrong))


def prepare() -> None:
    """Import what commands need, and keep to one thread, as a fork has no others."""
    import importlib

    import torch
    import transformers.trainer

    from agssp.cli import COMMANDS
    from agssp.models.ultralytics import import_ultralytics

    torch.set_num_threads(1)
    import_ultralytics()
    for name in COMMANDS:
        importlib.import_module(f"agssp.commands.{name.replace('-', '_').replace(' ', '_')}")
    _ = transformers.trainer


if __name__ == "__main__":
    sys.exit(main())
