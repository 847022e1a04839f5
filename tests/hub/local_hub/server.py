"""The hub on loopback: HTTP around the API, faults on the way, and the handle that tests hold."""

import errno
import re
import sys
import threading
import time
import traceback
from collections.abc import Container, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from .access import Account
from .api import KINDS, Api
from .client import Client
from .faults import Fault, Journal, Request
from .messages import Answer, Call
from .store import is_large

PIECE = 64 * 1024
USER, ORGANISATION = "me", "agssp"
TOKENS = {"write": "hf_local_write", "read": "hf_local_read", "stranger": "hf_local_stranger", "wrong": "hf_nobodys"}
ACCOUNTS = {
    TOKENS["write"]: Account(USER, (ORGANISATION,)),
    TOKENS["read"]: Account(USER, (ORGANISATION,), writes=False),
    TOKENS["stranger"]: Account("stranger"),
}


class Cut(Exception):
    """The connection is closed here."""


class Handler(BaseHTTPRequestHandler):
    """Reads a call, lets the API answer it, and shows the fault that strikes it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; with it each answer waits for an acknowledgement
    server: "Server"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        authorization = self.headers.get("Authorization", "")
        request = Request(
            self.command,
            unquote(parts.path),
            parse_qs(parts.query),
            self.headers.get("Range"),
            authorization.removeprefix("Bearer ") or None,
            self.headers.get("User-Agent", ""),
        )
        self.server.journal.enter(request)
        try:
            self.handle_call(Call(request.method, parts.path, request.query, lowered(self.headers)), request)
        except (Cut, ConnectionError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def handle_call(self, call: Call, request: Request) -> None:
        fault, body = request.fault, self.pieces(request)
        call.read = lambda: next(body, b"")
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            answer = Answer.of({"error": f"told to fail with {fault.status}"}, fault.status, headers)
        else:
            answer = self.answer(call)
        for _ in body:  # what is left unread would be taken for the next call on this connection
            pass
        if fault and fault.lose_answer:
            raise Cut
        self.send(answer, request)

    def answer(self, call: Call) -> Answer:
        try:
            return self.server.api.answer(call)
        except (Cut, ConnectionError):
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self.server.errors.append(traceback.format_exc())
            return Answer.of({"error": f"Insufficient storage: {error}"}, 507)
        except Exception:  # any bug in here is kept, and fails the test that met it
            self.server.errors.append(f"{call.method} {call.path}\n{traceback.format_exc()}")
            return Answer.of({"error": "the local hub has a bug; see its errors"}, 500)

    def pieces(self, request: Request) -> Iterator[bytes]:
        """The body that the client sends, sent with its length or in chunks."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.receive(size, request)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.receive(min(left, PIECE), request)
            left -= len(piece)
            yield piece

    def receive(self, size: int, request: Request) -> bytes:
        limit = request.fault.cut_after if request.fault else None
        if limit is not None and request.received + size > limit:
            request.received += len(self.rfile.read(limit - request.received))
            raise Cut
        piece = self.rfile.read(size)
        if len(piece) < size:
            raise ConnectionError("the client went away")
        request.received += size
        return piece

    def send(self, answer: Answer, request: Request) -> None:
        request.status = answer.status
        self.send_response(answer.status)
        for name, value in (answer.headers | {"Content-Length": str(answer.length)}).items():
            self.send_header(name, value)
        self.end_headers()
        if request.method == "HEAD":
            return
        limit = request.fault.cut_after if request.fault else None
        for piece in body_of(answer):
            piece = piece if limit is None else piece[: limit - request.sent]
            request.sent += len(piece)
            self.wfile.write(piece)
            if request.sent == limit:
                raise Cut

    def log_message(self, format: str, *arguments: object) -> None:
        if self.server.verbose:
            super().log_message(format, *arguments)


def lowered(headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def body_of(answer: Answer) -> Iterator[bytes]:
    if isinstance(answer.body, bytes):
        yield answer.body
        return
    left = answer.length
    with answer.body.open("rb") as file:
        file.seek(answer.start)
        while left:
            piece = file.read(min(left, PIECE))
            left -= len(piece)
            yield piece


class Server(ThreadingHTTPServer):
    """The listening socket; each connection has its thread."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, api: Api, journal: Journal, port: int = 0, verbose: bool = False):
        super().__init__(("127.0.0.1", port), Handler)
        self.api, self.journal, self.verbose = api, journal, verbose
        self.errors: list[str] = []

    def handle_error(self, request, client_address) -> None:
        # A client may hang up between two calls.
        if not isinstance(sys.exception(), ConnectionError):
            self.errors.append(traceback.format_exc())


class LocalHub(Client):
    """A hub that is up between entering and leaving a `with`; see tests/hub/conftest.py for its use.

    Args:
        folder: where it keeps repositories, and where programs that are run against it have their caches.
        port: the port of 127.0.0.1; 0 is any free one.
        verbose: print each call.
    """

    user, organisation, tokens = USER, ORGANISATION, TOKENS

    def __init__(self, folder: Path, port: int = 0, verbose: bool = False):
        self.folder = Path(folder)
        self.api = Api(self.folder, ACCOUNTS)
        self.journal = Journal()
        self.server = Server(self.api, self.journal, port, verbose)
        self.api.endpoint = self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, error_type, *_) -> None:
        self.server.shutdown()
        self.server.server_close()
        if self.server.errors and error_type is None:
            raise AssertionError("the local hub has bugs:\n" + "\n".join(self.server.errors))

    @property
    def requests(self) -> list[Request]:
        return self.journal.requests

    def requested(self, method: str, pattern: str) -> list[Request]:
        """The calls so far with this method ("*" is any) and a path in which the pattern is found."""
        return [
            request for request in self.requests if method in ("*", request.method) and re.search(pattern, request.path)
        ]

    def fail(
        self,
        method: str,
        pattern: str,
        *,
        status: int | None = None,
        retry_after: int | None = None,
        cut_after: int | None = None,
        lose_answer: bool = False,
        delay: float = 0.0,
        calls: Container[int] = (1,),
    ) -> Fault:
        """From now on, show a fault on the calls that match; see `Fault`, which counts those that `matched`."""
        fault = Fault(method, pattern, status, retry_after, cut_after, lose_answer, delay, calls)
        self.journal.faults.append(fault)
        return fault

    def heal(self) -> None:
        """No more faults."""
        self.journal.faults.clear()

    def publish(
        self,
        name: str,
        files: dict[str, bytes | str],
        repo_type: str = "model",
        private: bool = False,
        replace: bool = False,
    ) -> str:
        """Put a revision into a repository without a client; the repository is made if it does not exist.

        Args:
            name: "OWNER/NAME".
            files: contents by path; those that are there already stay unless `replace`.
            repo_type: "model", "dataset" or "space".
            private: whether a new repository is.
            replace: whether the revision has these files only.

        Returns:
            The id of the revision.
        """
        contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        with self.api.changing:
            store, kind = self.api.store, KINDS[repo_type]
            found = store.find(kind, name) or store.create(kind, name, USER, private)
            new = {
                path: store.contents.file(path, store.contents.add(data), is_large(path, len(data), data[:512]))
                for path, data in contents.items()
            }
            old = {} if replace else found.commit().files
            return found.record("main", old | new, "publish", "", USER).id

    def files(self, name: str, repo_type: str = "model", revision: str = "main") -> dict[str, bytes]:
        """Everything a revision contains, by path, but the Hub's own `.gitattributes`; {} without such a repository."""
        found = self.api.store.find(KINDS[repo_type], name)
        listed = found.commit(revision).files.values() if found else ()
        paths = {file.path: self.api.store.contents.path(file.sha256) for file in listed}
        return {path: stored.read_bytes() for path, stored in paths.items() if path != ".gitattributes"}

    def history(self, name: str, repo_type: str = "model", revision: str = "main") -> list[str]:
        """The titles of a repository's commits, newest first, without the Hub's own first; [] without a repository."""
        found = self.api.store.find(KINDS[repo_type], name)
        return [commit.title for commit in found.history(revision)[:-1]] if found else []
