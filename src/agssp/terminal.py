"""What the steps say, on a terminal: a command prints what a program that calls steps finds in its log."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .library_messages import LastHandler

_Main = TypeVar("_Main", bound=Callable[..., Any])


class _Terminal(logging.Handler):
    """Prints messages as they are: of the first process to standard output, warnings of each to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; a warning only where no handler of the program itself does."""
        if record.levelno < logging.WARNING:
            if os.environ.get("RANK", "0") == "0":
                print(record.getMessage(), flush=True)
        elif all(isinstance(handler, LastHandler) for handler in logging.getLogger().handlers):
            print(record.getMessage(), file=sys.stderr, flush=True)


@contextlib.contextmanager
def shown_on_terminal() -> Iterator[None]:
    """Print what this package logs, from INFO on, while the context lasts."""
    logger = logging.getLogger("agssp")
    if any(isinstance(handler, _Terminal) for handler in logger.handlers):
        yield
        return
    handler, level = _Terminal(), logger.level
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def on_terminal(main: _Main) -> _Main:
    """Let a command print what its steps say."""

    @functools.wraps(main)
    def shown(*arguments: Any, **options: Any) -> Any:
        with shown_on_terminal():
            return main(*arguments, **options)

    return shown  # type: ignore[return-value]
