"""Which licence a model carries: the strictest of those of all that it was made from."""

import re
from collections.abc import Iterable
from typing import Any

PERMISSIVE, COPYLEFT = "apache-2.0", "agpl-3.0"
FREE = (
    PERMISSIVE,
    "mit",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-3.0",
    "unlicense",
)
"""Licences under which others may do as they like, so that ours can stand."""
UNKNOWN = (None, "", "unknown", "none")
_NOT_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research|amlr|seer")


def strictest(licences: Iterable[str]) -> str:
    """The strictest of these licences, in lower case; `apache-2.0`, which is ours, where all are free."""
    named = [licence.lower() for licence in licences]
    worst = max(named, key=_strictness, default=PERMISSIVE)
    return worst if _strictness(worst) else PERMISSIVE


def forbids_commerce(licence: str | None) -> bool:
    """Whether a licence's name says that it is for research or other non-commercial use alone."""
    return licence is not None and _NOT_COMMERCIAL.search(licence.lower()) is not None


def licences_of_start(record: dict[str, Any]) -> list[str | None]:
    """Licences of all weights that a run and those before it started from; None for one that is not known.

    Args:
        record: a run.json; empty where there is none.
    """
    earlier = record.get("origins") or []
    own = record.get("start_licences")
    if own is None:
        # Records of earlier versions tell random weights alone.
        ours = str(record.get("start") or "").startswith(("random weights", "weights from scratch"))
        own = [] if earlier else [PERMISSIVE if ours else None]
    found = [None if licence in UNKNOWN else licence for licence in own]
    return found + [licence for origin in earlier for licence in licences_of_start(origin)]


def licences_of_images(dataset: dict[str, Any] | None) -> list[str]:
    """The known licences of a data set's images, from its facts in a record."""
    facts = dataset or {}
    named = [source.get("licence") for source in facts.get("sources") or []] + [facts.get("licence")]
    return [licence for licence in named if isinstance(licence, str) and licence not in UNKNOWN]


def _strictness(licence: str) -> int:
    return 2 if forbids_commerce(licence) else int(licence not in FREE)
