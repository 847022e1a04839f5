"""A Python that has imported torch and its like already, for tests that start processes.

A process of this package takes seven seconds to get ready, and most of them go into modules that are the same for all.
So one process of the session imports these, once, and forks for each program. Every program still runs in a process of
its own, with arguments, environment, working folder, limits and streams of its own, and imports agssp itself. What
reads the environment when it is imported (transformers, datasets, timm, the Hub's client) is there already for programs
that have the session's environment, and imported by those that have another.

`python()` is a path that goes where `sys.executable` would, and in the variable PYTHON_EXEC, where torchrun looks for
the Python of its ranks. Use `sys.executable` where a test is about what a fresh interpreter does: what it imports,
what it writes at its start, how it ends (programs end here with `os._exit` after the exit handlers), and hash seeds,
which all programs share here.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Sequence
from pathlib import Path

# Nothing here reads what tests set in the environment.
MODULES = (
    "torch", "torch.distributed.launcher.api", "torch.distributed.checkpoint", "torch.nn.attention.flex_attention",
    "torchvision.transforms.v2", "scipy.optimize", "scipy.stats", "sklearn.metrics", "pyarrow.parquet",
    "pyarrow.dataset", "matplotlib.pyplot", "cv2", "PIL.Image", "aiohttp", "httpx", "httpx2", "requests", "fsspec",
    "dill", "multiprocess", "regex", "tokenizers", "safetensors.torch", "jinja2", "yaml", "filelock", "tqdm.auto",
)  # fmt: skip

# These read it, so they are only for programs in whose environment nothing differs from the session's but `OWN`.
READY = (
    "datasets", "timm", "transformers.trainer", "transformers.image_processing_utils_fast",
    "transformers.models.deformable_detr.modeling_deformable_detr",
)  # fmt: skip
# Beginnings of names that these do not read, or not before something runs: which one of several a program is, its
# threads and what it is called by, and what libraries set when they are imported.
OWN = (
    "RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "TORCH_NCCL_", "OMP_NUM_THREADS",
    "TOKENIZERS_PARALLELISM", "PYTEST_", "PYTHON_EXEC", "KINETO_LOG_LEVEL", "TORCH_CPP_LOG_LEVEL", "TF_CPP_",
    "TORCHINDUCTOR_", "YOLO_", "QT_QPA_", "LD_LIBRARY_PATH", "NUMEXPR_MAX_THREADS", "HF_HUB_DISABLE_TELEMETRY",
    "HF_UPDATE_DOWNLOAD_COUNTS",
)  # fmt: skip

# Runs without `site` and imports little: it hands its words and streams over, and ends as the program ends.
CLIENT = """#!{python} -IS
import json, os, resource, signal, socket, sys

session, mine = ({{name: value for name, value in names.items() if not name.startswith({own!r})}}
                 for names in ({environment!r}, dict(os.environ)))
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r} + ".ready" * (session == mine))
    limits = {{name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_FSIZE",)}}
    message = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), limits]).encode()
    socket.send_fds(server, [len(message).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(message)
    status = int(server.recv(16) or 1)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def python() -> str:
    """The path of an executable that runs Python programs as `sys.executable` does; the first call starts its server.

    Where sockets do not carry streams (Windows) or forking breaks the system's libraries (macOS), `sys.executable`.
    """
    if sys.platform != "linux":
        return sys.executable
    folder = tempfile.TemporaryDirectory(prefix="warm-python-")  # a short path: that of a socket has 107 bytes
    atexit.register(folder.cleanup)
    address, client = Path(folder.name) / "socket", Path(folder.name) / "python"
    shared = dict(os.environ)
    client.write_text(CLIENT.format(python=sys.executable, address=str(address), own=OWN, environment=shared))
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as ready:
        for each, place in ((listener, str(address)), (ready, f"{address}.ready")):
            each.bind(place)
            each.listen(64)
        # One thread, for a thread that holds a lock does not come along to a fork.
        environment = shared | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__, str(ready.fileno())]
        server = subprocess.Popen(command, stdin=listener, env=environment, pass_fds=[ready.fileno()])
    atexit.register(server.kill)
    return str(client)


def torchrun(
    *words: object, processes: int = 2, interpreter: str | None = None, check: bool = True
) -> subprocess.CompletedProcess:
    """Run a script, or `-m` and a module, on several ranks of this machine's CPU, as `torchrun WORDS` does.

    Args:
        words: the program and its arguments.
        processes: ranks.
        interpreter: Python for the launcher and the ranks; `python()` by default.
        check: whether another exit status than 0 is an error.

    Raises:
        AssertionError: the program failed, and `check`; with the end of what it said.
    """
    interpreter = interpreter or python()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
    own = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHON_EXEC": interpreter}
    command = [str(word) for word in (interpreter, *launcher, *words)]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=400)
    assert not (check and done.returncode), done.stderr[-3000:]
    return done


def main(ready: int) -> None:
    """Serve at the socket that standard input is, and in a second process, which has `READY` too, at another."""
    prepare(MODULES)
    if os.fork() == 0:
        prepare(READY)
        os.dup2(ready, 0)
    os.close(ready)
    serve()


def prepare(names: Sequence[str]) -> None:
    """Import modules that stay."""
    for name in names:
        with contextlib.suppress(ImportError):  # one that only other releases of its users need
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or the first collection in each program would copy all pages


def serve() -> None:
    """Fork for each connection to the socket that standard input is, until the parent has ended."""
    parent = os.getppid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as listener:
        while os.getppid() == parent:
            if not select.select([listener], [], [], 1.0)[0]:
                continue
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                attend(connection)
            connection.close()


def attend(connection: socket.socket) -> None:
    """Run what one client asks for and tell it how that ended; does not return."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as incoming:
        words, environment, folder, limits = json.loads(incoming.read(int.from_bytes(head, "big")))
    program = os.fork()
    if program == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        for name, values in limits.items():
            resource.setrlimit(getattr(resource, name), values)
        os.chdir(folder)
        # What was on the path by the server's own PYTHONPATH is the server's alone.
        inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        own = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
        sys.path[:] = own + [entry for entry in sys.path[1:] if entry not in inherited]
        os.environ.clear()
        os.environ.update(environment)
        run(words)
    for stream in streams:
        os.close(stream)
    ended = threading.Event()

    def follow() -> None:
        connection.recv(1)  # nothing comes until the client has ended
        if not ended.is_set():
            os.kill(program, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    ended.set()
    with contextlib.suppress(BrokenPipeError):  # it has been killed
        connection.send(str(status).encode())
    os._exit(0)


def run(words: list[str]) -> None:
    """Run a program as `python WORDS` does; does not return."""
    if words[0] == "-u" or os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    words = words[words[0] == "-u" :]
    status: object = 0
    try:
        if words[0] == "-c":
            sys.argv, sys.modules["__main__"] = ["-c", *words[2:]], types.ModuleType("__main__")
            sys.path.insert(0, "")
            exec(compile(words[1], "<string>", "exec"), vars(sys.modules["__main__"]))
        elif words[0] == "-m":
            sys.argv = words[1:]
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path.insert(0, str(Path(words[0]).resolve().parent))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    # As the interpreter does before it takes itself apart, which takes longer than many of these programs.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    main(int(sys.argv[1]))
