"""Claim an output folder for one command with one set of settings, so that no run writes into another's results.

While a command that `keeps_outputs` runs, what it claims is its own: the same command started twice is refused.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from agssp.errors import InputError
from agssp.files import write_json
from agssp.locks import holding, holding_file
from agssp.parsing import read_json
from agssp.version import __version__

SETTINGS_FILE = "settings.json"
LATER_FLAGS = {"crowds": "auto"}
"""Flags that earlier builds did not have, with the value that does what these did: their runs can go on."""


_Main = TypeVar("_Main", bound=Callable[..., Any])


class _Held:
    """What one running command keeps to itself."""

    def __init__(self) -> None:
        self.places: set[Path] = set()
        self.stack = contextlib.ExitStack()


_held: ContextVar[_Held | None] = ContextVar("what the running command keeps to itself", default=None)


def keeps_outputs(main: _Main) -> _Main:
    """Let a command keep the folders and files that it claims to itself until it ends; those within it keep theirs."""

    @functools.wraps(main)
    def kept(*arguments: Any, **options: Any) -> Any:
        held = _Held()
        before = _held.set(held)
        try:
            with held.stack:
                return main(*arguments, **options)
        finally:
            _held.reset(before)

    return kept  # type: ignore[return-value]


def hold_output(path: str | os.PathLike, command: str, *, flag: str = "--output", file: bool = False) -> None:
    """Keep an output to the running command until it ends, and clear away what killed runs have left there.

    Without effect outside of a command that `keeps_outputs`, and on what it keeps already.

    Args:
        path: of the folder; made if missing.
        command: its name, for whoever comes second.
        flag: that named the folder, for messages.
        file: it is a single file, or a folder that appears at once.

    Raises:
        InputError: another process writes there, which is named.
    """
    held, place = _held.get(), Path(path).absolute()
    if held is None or place in held.places:
        return
    held.stack.enter_context((holding_file if file else holding)(path, command, flag=flag))
    held.places.add(place)


def claim_output(
    folder: str | os.PathLike, command: str, settings: dict[str, Any], *, started: bool = True, flag: str = "--output"
) -> bool:
    """Make a folder this command's own, or find that it already is; a command that `keeps_outputs` keeps it.

    Args:
        folder: the folder; made if missing.
        command: name of the command, for instance `predict`.
        settings: what decides the results, as JSON values.
        started: whether a folder of this command holds any work; if not, other settings simply replace its own.
        flag: that named the folder, for messages.

    Returns:
        Whether an earlier run with the same settings began here, so that its finished work may be kept.

    Raises:
        InputError: the folder holds something else, or results of other settings (the message shows both), or another
            process writes there.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{flag} {folder}: a file of this name exists; expected a folder")
    hold_output(folder, command, flag=flag)
    record = folder / SETTINGS_FILE
    if record.is_file():
        found = read_json(record, remedy="remove it and what lies beside it, or name another folder")
        if found.get("command") != command:
            raise InputError(f"{flag} {folder}: its {SETTINGS_FILE} is not of `agssp {command}`; name another folder")
        before = found.get("settings", {})
        differing = [
            name for name in {**before, **settings} if before.get(name, LATER_FLAGS.get(name)) != settings.get(name)
        ]
        if differing and not started:
            write_json(record, {"command": command, "agssp": __version__, "settings": settings})
            return False
        if differing:
            lines = "; ".join(f"{name}: there {before.get(name)!r}, now {settings.get(name)!r}" for name in differing)
            raise InputError(f"{flag} {folder} holds results of other settings ({lines}); name another folder")
        return True
    names = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    # Hidden and partial files are what an interrupted run left behind.
    foreign = [name for name in names if not name.startswith(".") and not name.endswith(".partial")]
    if foreign and record.is_file():
        # Of a command that may run several times at once: another has claimed it a moment ago.
        return claim_output(folder, command, settings, started=started, flag=flag)
    if foreign:
        raise InputError(
            f"{flag} {folder}: holds what `agssp {command}` did not write ({', '.join(foreign[:5])}"
            f"{' ...' if len(foreign) > 5 else ''}); name a new or empty folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, {"command": command, "agssp": __version__, "settings": settings})
    return False
