"""A stage of a study, which is one command; and the cells, which are what the stages are for."""

import importlib
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

POSITIONAL = {"finetune": ("model",), "evaluate-maps": ("maps",)}
"""Flags that come without their name, by command."""
PYTHON_STAGES = ("make-surfaces", "save-backbone", "stand-in-detector")
"""Stages that are no command but a function of `python_stages`."""


@dataclass(frozen=True)
class Output:
    """What another stage writes, as the value of a flag.

    Attributes:
        stage: key of that stage.
        part: path within its folder; empty for the folder itself.
    """

    stage: str
    part: str = ""


@dataclass(frozen=True)
class Stage:
    """One command that is run at most once, for all cells that need it.

    Attributes:
        key: name of its folder; ends in a hash of the command, its flags, and all stages that it reads.
        command: an `agssp` command, or one of `PYTHON_STAGES`.
        title: what it does, for people.
        flags: names (with `_`) and values, without `output`.
    """

    key: str
    command: str
    title: str
    flags: tuple[tuple[str, Any], ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the stages that it reads."""
        return tuple(dict.fromkeys(value.stage for _, value in self.flags if isinstance(value, Output)))

    def values(self, root: Path) -> dict[str, Any]:
        """Its flags, with the paths of the stages that it reads and of its own output.

        Args:
            root: folder of all stages.
        """
        found = {
            name: str(root / value.stage / value.part) if isinstance(value, Output) else value
            for name, value in self.flags
        }
        return found | {"output": str(root / self.key)}

    def words(self, root: Path) -> list[str]:
        """The words after the command's name on its command line."""
        values = self.values(root)
        words = [str(values.pop(name)) for name in POSITIONAL.get(self.command, ())]
        for name, value in values.items():
            items = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, items)]
        return words

    def line(self, root: Path) -> str:
        """The command line, or the call in Python, that does the same."""
        if self.command in PYTHON_STAGES:
            given = ", ".join(f"{name}={value!r}" for name, value in self.values(root).items())
            return f"python: agssp.study.python_stages.{self.command.replace('-', '_')}({given})"
        return shlex.join(["agssp", self.command, *self.words(root)])


@dataclass(frozen=True)
class Cell:
    """One number of the table: a row on a data set with a seed.

    Attributes:
        row: label of the row.
        group: name of its group.
        data: name of the data set.
        seed: the seed.
        stages: keys of all that it needs, in order; the last is the one that is measured.
    """

    row: str
    group: str
    data: str
    seed: int
    stages: tuple[str, ...]

    @property
    def name(self) -> str:
        """As `--only` sees it."""
        return cell_name(self.group, self.row, self.data)


@dataclass(frozen=True)
class Plan:
    """All stages by key, in an order in which they can be run, and all cells."""

    stages: dict[str, Stage]
    cells: tuple[Cell, ...]


def cell_name(group: str, row: str, data: str) -> str:
    """The name of a cell whatever its seed."""
    return " / ".join(part for part in (group, row, data) if part)


def command_module(command: str) -> Any:
    """The module of an `agssp` command, imported."""
    return importlib.import_module(f"agssp.commands.{command.replace('-', '_')}")


def readable(text: str) -> str:
    """A text as part of a folder's name: lower case, words joined by `_`."""
    return re.sub(r"[^a-z0-9.+]+", "_", text.lower()).strip("_.") or "x"


def without_output(stage: Stage) -> Stage:
    """A stage with placeholders for what other stages write: two of a kind are equal."""
    flags = tuple((name, "x" if isinstance(value, Output) else value) for name, value in stage.flags)
    return replace(stage, key="", title="", flags=flags)
