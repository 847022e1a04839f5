"""Turns what the Hub's client raises into an InputError that says what happened and what to do."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)

from agssp.errors import InputError, StorageError
from agssp.faults import storage_fault
from agssp.hub_client.names import near_hint

# hf_xet, which carries large files, raises plain RuntimeErrors too; these are the beginnings of its own.
_OF_XET = re.compile(r"\b(CAS|[Xx]et|[Rr]eqwest)\b|^(Data processing|Internal|Internal Writer|Runtime) [Ee]rror: ")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOG_IN = "log in with `hf auth login`, or put a token into HF_TOKEN"
AGAIN = "run the same command again: what is uploaded already is not sent twice, and nothing half-finished is visible"


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Raise InputError for all that goes wrong between us and the Hub; other errors pass.

    Args:
        name: the repository, for the message.

    Raises:
        InputError: the repository, what happened, and what to do.
        StorageError: the same where this machine failed.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        message = explain(error, name)
        if message is None:
            raise
        kind = InputError if storage_fault(error) is None else StorageError
        raise kind(message) from error


def explain(error: BaseException, name: str) -> str | None:
    """A sentence about an error, or about the one that it was raised from; None for what is not the Hub's.

    Args:
        error: anything; transformers and datasets wrap what the client raised.
        name: the repository.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        message = _explain_one(current, name)
        if message is not None:
            return message
        current = current.__cause__ or current.__context__
    return None


def is_of_the_line(error: BaseException) -> bool:
    """Whether an error without an answer's status says that the connection to the Hub or to its storage failed."""
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError | HfHubHTTPError):
        return False
    if isinstance(error, HTTPError | ConnectionError | TimeoutError | XetDownloadError):
        return True
    # hf_xet need not be installed, so its classes are told by their names.
    return type(error).__module__.startswith("hf_xet") or (
        isinstance(error, RuntimeError) and _OF_XET.search(str(error)) is not None
    )


def _explain_one(error: BaseException, name: str) -> str | None:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f" at {error.filename}" if error.filename else f" (the cache is {constants.HF_HUB_CACHE})"
        return f"{name}: the disk is full{where}; make room, or set HF_HOME to a folder on another disk, and run again"
    if isinstance(error, HFValidationError):
        return f"{name}: not a repository's name; expected OWNER/NAME: {error}"
    if isinstance(error, LocalTokenNotFoundError):
        return f"{name}: there is no token; {LOG_IN}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"{name}: HF_HUB_OFFLINE is set, so the Hub is not asked; unset it{near_hint(name)}"
    if isinstance(error, LocalEntryNotFoundError):
        return (
            f"{name}: not in the cache, and the Hub cannot be reached; download it once while there is a connection, "
            f"or name a local folder{near_hint(name)}"
        )
    if isinstance(error, GatedRepoError):
        return f"{name}: its owner grants access on request; ask for it on {constants.ENDPOINT}/{name}, then {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return f"{name}: has no such revision; leave --revision out, or name a branch, a tag or a commit of it"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{name}: no such repository, or a private one that this token may not read; check the name, or {LOG_IN}"
            f"{near_hint(name)}"
        )
    if isinstance(error, EntryNotFoundError):
        return f"{name}: lacks a file that is needed: {_first_line(error)}"
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, name)
    if is_of_the_line(error):
        return f"{name}: the connection to {constants.ENDPOINT} failed ({error or type(error).__name__}); {AGAIN}"
    return None


def _explain_status(error: HfHubHTTPError, name: str) -> str:
    status, said = error.response.status_code, error.server_message or _first_line(error)
    if status == 401:
        return f"{name}: the Hub does not know this token ({said}); {LOG_IN}"
    if status == 403:
        return f"{name}: this token may not do that ({said}); it needs the right to write to {name.split('/')[0]}"
    if status == 409:
        return f"{name}: the Hub has something else of this name, or is busy with it ({said}); choose another name"
    if status == 412:
        return f"{name}: somebody else changed it meanwhile ({said}); look at it and run again"
    if status in (413, 507):
        return f"{name}: there is no room for it on the Hub ({said}); delete what is not needed, or push less"
    if status == 429:
        return f"{name}: the Hub wants fewer requests ({said}); wait a while, then {AGAIN}"
    if status >= 500:
        return f"{name}: the Hub fails (status {status}, {said}); {AGAIN}"
    return f"{name}: the Hub refuses with status {status}: {said}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
