"""Failures that the hub is told to show, on which call, and a record of all calls."""

import re
import sys
import threading
from collections.abc import Container
from dataclasses import dataclass, field

EVERY = range(1, sys.maxsize)


@dataclass
class Request:
    """One call as the hub saw it: `status` 0 where no answer was sent, `received` and `sent` bytes of bodies."""

    method: str
    path: str
    query: dict[str, list[str]]
    range: str | None
    token: str | None
    agent: str = ""
    status: int = 0
    received: int = 0
    sent: int = 0
    fault: "Fault | None" = None


@dataclass
class Fault:
    """What goes wrong, on those of the calls that match whose number, from 1 on, is in `calls`.

    Args:
        method: the method; "*" is any.
        pattern: A regular expression found anywhere in the path.
        status: answer this status, and do nothing.
        retry_after: seconds that an answer with `status` asks the client to wait.
        cut_after: close the connection after this many bytes of the body: the client's, where it sends one, else the
            hub's.
        lose_answer: do what is asked, then close the connection instead of answering.
        delay: seconds to wait before anything else.
        calls: numbers of calls; `EVERY` is all.
    """

    method: str
    pattern: str
    status: int | None = None
    retry_after: int | None = None
    cut_after: int | None = None
    lose_answer: bool = False
    delay: float = 0.0
    calls: Container[int] = (1,)
    matched: int = field(default=0, init=False)

    def __post_init__(self):
        if self.status is None and self.cut_after is None and not self.lose_answer and not self.delay:
            raise ValueError("a fault needs one of status, cut_after, lose_answer and delay")

    def strikes(self, request: Request) -> bool:
        if self.method not in ("*", request.method) or not re.search(self.pattern, request.path):
            return False
        self.matched += 1
        return self.matched in self.calls


class Journal:
    """All calls so far, in order, and the faults to show."""

    def __init__(self):
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()

    def enter(self, request: Request) -> None:
        """Record a call and give it the first fault that strikes it."""
        with self.lock:
            self.requests.append(request)
            request.fault = next((fault for fault in self.faults if fault.strikes(request)), None)
