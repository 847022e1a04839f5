"""What one call brings and what the hub answers: the only things the API and the HTTP layer share."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


class Refusal(Exception):
    """The hub's answer is an error.

    Args:
        status: the HTTP status.
        message: what the client shows its user (`X-Error-Message`).
        code: the Hub's own name of the error (`X-Error-Code`), from which clients choose the class they raise:
            RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo; or none.
        commit: the commit in which an entry was looked for; clients remember by it that the entry does not exist.
    """

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.commit = status, message, code, commit


@dataclass
class Call:
    """One request, its path still quoted; `read` gives the body in pieces and b"" at its end."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    read: Callable[[], bytes] = lambda: b""

    def body(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def json(self) -> dict:
        try:
            return json.loads(self.body() or b"{}")
        except ValueError as error:
            raise Refusal(400, f"The body is no JSON: {error}") from error

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("1", "true")


@dataclass
class Answer:
    """A status, headers and a body: bytes, or `length` bytes of a file from `start` on."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Path = b""
    start: int = 0
    length: int | None = None

    def __post_init__(self):
        if self.length is None:
            self.length = len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size - self.start

    @classmethod
    def of(cls, value: object, status: int = 200, headers: dict[str, str] | None = None) -> "Answer":
        """The value as JSON."""
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())

    @classmethod
    def refusing(cls, refusal: Refusal) -> "Answer":
        headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message, "X-Repo-Commit": refusal.commit}
        known = {name: value.replace("\n", " ") for name, value in headers.items() if value}
        return cls.of({"error": refusal.message}, refusal.status, known)
