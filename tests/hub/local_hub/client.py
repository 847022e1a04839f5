"""Runs programs against the hub as users do: in processes of their own, with the real clients."""

import json
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .faults import Journal

sys.path.insert(0, str(Path(__file__).parents[2]))
from warm_python import python

# All else of this process' environment is left out: constants are read from it when the clients are imported.
KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "MPLCONFIGDIR", "PATH", "PYTHONPATH", "TMPDIR", "YOLO_CONFIG_DIR")


@dataclass(frozen=True)
class Finished:
    """A program that has ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def value(self):
        """What the program printed as its last line, as JSON."""
        return json.loads(self.stdout.splitlines()[-1])


def limited(largest_file: int | None) -> list[str]:
    """The words before a command that let it write no larger file; the shell counts in blocks of 512 bytes."""
    return [] if largest_file is None else ["sh", "-c", f'ulimit -f {largest_file // 512}; exec "$0" "$@"']


class Client:
    """What `LocalHub` offers to run programs; it has `endpoint`, `folder`, `tokens` and `journal`."""

    endpoint: str
    folder: Path
    tokens: dict[str, str]
    journal: Journal

    def environment(
        self, token: str | None = "write", offline: bool = False, cache: Path | None = None
    ) -> dict[str, str]:
        """The environment in which the clients speak to this hub and to nothing else.

        Args:
            token: a name in `tokens`, a token itself, or None for an anonymous client.
            offline: whether the clients may ask nobody, and have to find all in the cache.
            cache: the folder of the clients' caches (`HF_HOME`); a new and empty one by default.
        """
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        cache = Path(cache or self.folder / "caches" / uuid.uuid4().hex)
        cache.mkdir(parents=True, exist_ok=True)
        own = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONFAULTHANDLER": "1",
            "PYTHON_EXEC": python(),
        }
        if token is not None:
            own["HF_TOKEN"] = self.tokens.get(token, token)
        if offline:
            own["HF_HUB_OFFLINE"] = "1"
        return kept | own

    def run(
        self,
        program: str | Path | Sequence[str],
        *arguments: object,
        token: str | None = "write",
        offline: bool = False,
        cache: Path | None = None,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
        without: Sequence[str] = (),
        largest_file: int | None = None,
        check: bool = True,
        timeout: float = 300,
    ) -> Finished:
        """Run a program to its end.

        Args:
            program: Python code, the path of a Python file, or a list of words for the Python interpreter such as
                ["-m", "torch.distributed.run", ...].
            arguments: its arguments, `sys.argv[1:]` in the program.
            token: see `environment`, as `offline` and `cache`.
            environment: more variables.
            folder: the working folder, by default a new and empty one.
            without: packages that the program cannot import.
            largest_file: bytes after which writing a file fails, as on a disk that is full (errno EFBIG).
            check: whether another exit status than 0 is an error.
            timeout: seconds.

        Raises:
            AssertionError: the program failed, and `check`; with all it printed and the calls that the hub saw.
        """
        scratch = self.folder / "runs" / uuid.uuid4().hex
        scratch.mkdir(parents=True)
        variables = self.environment(token, offline, cache) | (environment or {})
        if without:
            hidden = scratch.with_suffix(".hidden")
            hidden.mkdir()
            for package in without:
                (hidden / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module named {package}')\n")
            variables["PYTHONPATH"] = os.pathsep.join([str(hidden), *filter(None, [variables.get("PYTHONPATH")])])
        if isinstance(program, str):
            code, program = program, scratch.with_suffix(".py")
            program.write_text(textwrap.dedent(code))
        words = [str(program)] if isinstance(program, Path) else list(program)
        before = len(self.journal.requests)
        process = subprocess.run(
            [*limited(largest_file), python(), *words, *map(str, arguments)],
            env=variables,
            cwd=folder or scratch,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and process.returncode:
            calls = [f"{call.status} {call.method} {call.path}" for call in self.journal.requests[before:]]
            parts = [f"exit status {process.returncode}", process.stdout, process.stderr, "calls:", *calls[-30:]]
            raise AssertionError("\n".join(parts))
        return Finished(process.returncode, process.stdout, process.stderr)

    def agssp(self, *words: object, **options) -> Finished:
        """Run `agssp WORDS`; options as those of `run`."""
        return self.run(["-c", "from agssp.cli import main; main()"], *words, **options)
