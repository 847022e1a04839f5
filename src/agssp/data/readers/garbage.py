"""Python's search for unused cycles of objects, made rarer while many objects are made that are all kept."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 50_000
"""How many objects are made between two searches; Python's own number is 700."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Search for unused cycles once in `NEW_OBJECTS` objects, which saves a fifth of the time of reading labels."""
    usual = gc.get_threshold()
    # 0 is the word for no searches at all, as a program may have asked for.
    gc.set_threshold(max(usual[0], NEW_OBJECTS) if usual[0] else 0, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
