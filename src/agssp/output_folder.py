"""Claim an output folder for one command with one set of settings, so that no run writes into another's results."""

import os
from pathlib import Path
from typing import Any

from agssp import __version__
from agssp.errors import InputError
from agssp.files import read_json, write_json

SETTINGS_FILE = "settings.json"
LATER_FLAGS = {"crowds": "auto"}
"""Flags that earlier builds did not have, with the value that does what these did: their runs can go on."""


def claim_output(
    folder: str | os.PathLike, command: str, settings: dict[str, Any], *, started: bool = True, flag: str = "--output"
) -> bool:
    """Make a folder this command's own, or find that it already is.

    Args:
        folder: the folder; made if missing.
        command: name of the command, for instance `predict`.
        settings: what decides the results, as JSON values.
        started: whether a folder of this command holds any work; if not, other settings simply replace its own.
        flag: that named the folder, for messages.

    Returns:
        Whether an earlier run with the same settings began here, so that its finished work may be kept.

    Raises:
        InputError: the folder holds something else, or results of other settings; the message shows both.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{flag} {folder}: a file of this name exists; expected a folder")
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
    if foreign:
        raise InputError(
            f"{flag} {folder}: holds what `agssp {command}` did not write ({', '.join(foreign[:5])}"
            f"{' ...' if len(foreign) > 5 else ''}); name a new or empty folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, {"command": command, "agssp": __version__, "settings": settings})
    return False
