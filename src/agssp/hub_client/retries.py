"""Tries a conversation with the Hub again while the fault is the Hub's or the line's, waiting longer each time."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError

from .errors import is_of_the_line

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PASSING = (408, 429, 500, 502, 503, 504)
"""Statuses that may be gone a moment later."""


def with_retries(call: Callable[[], Result], *, attempts: int = 6, first_wait: float = 1.0) -> Result:
    """Call until it works.

    The client itself tries single uploads again; creating a repository and committing it does not.

    Args:
        call: safe to be called again after it failed half-way.
        attempts: how often at most.
        first_wait: seconds before the second attempt; they double from then on, up to half a minute, unless the Hub
            says how long it wants to be left alone.

    Returns:
        What it returned.

    Raises:
        Exception: what the last attempt raised; at once what no waiting cures.
    """
    wait = first_wait
    for left in range(attempts - 1, -1, -1):
        try:
            return call()
        except Exception as error:
            if not left or not _passes(error):
                raise
            pause = max(wait, _asked_pause(error))
            logger.warning(
                f"the Hub did not take it ({_name(error)}); trying again in {pause:.0f} s, {left} more times at most"
            )
            time.sleep(pause)
            wait = min(wait * 2, 30.0)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _passes(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    # The client wraps what goes wrong with one of several files.
    wrapped = error.__cause__ if isinstance(error, RuntimeError) else None
    return _passes(wrapped) if wrapped is not None else is_of_the_line(error)


def _asked_pause(error: Exception) -> float:
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(asked), 300.0) if asked.isdigit() else 0.0


def _name(error: Exception) -> str:
    return f"status {error.response.status_code}" if isinstance(error, HfHubHTTPError) else type(error).__name__
