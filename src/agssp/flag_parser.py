"""The parser behind every command: dataclass fields become flags with dashes, in groups, rare ones in `--help-all`."""

import argparse
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from transformers.hf_argparser import HfArgumentParser, string_to_bool

from .errors import InputError

GROUP_ORDER = (
    "input", "model", "teacher", "references", "objective", "boxes", "choice", "training", "augmentation", "measuring",
    "output", "machine",
)  # fmt: skip
"""Titles that the help begins with, where a command has them; others follow in the order in which they are met."""
REST, GENERAL = "flags", "general"


class FlagParser(HfArgumentParser):
    """Reads flags as `HfArgumentParser` does, and shows them as somebody who runs a command wants to see them.

    A dataclass may say more about its fields, those that it inherits among them: `flag_groups`, titles and the names
    under each, in the order in which they are shown; `rare_flags`, names that `--help-all` alone shows; `flag_help`,
    what is shown in place of a field's own help; `refused_flags`, names that are no flags, and why not.

    Args:
        command: name of the command.
        dataclass_types: dataclasses whose fields are the flags.
        everything: show the rare flags as well.
        configs: names of the packaged configurations.
        usage: what follows `usage:`.
        description: text above the flags.

    Attributes:
        flags: all flags as they are shown, the rare ones too.
        refused: names that are no flags -> why not, and what to use.
    """

    def __init__(
        self,
        command: str,
        dataclass_types: Sequence[type],
        *,
        everything: bool,
        configs: Sequence[str],
        usage: str,
        description: str,
    ) -> None:
        self.command, self.everything = command, everything
        self.flags: list[str] = []
        self.refused: dict[str, str] = {}
        self._titles: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._rare: set[str] = set()
        self._waiting: dict[str, list[tuple[list[str], dict[str, Any]]]] = {}
        for cls in dataclass_types:
            self._titles |= {name: title for title, names in getattr(cls, "flag_groups", {}).items() for name in names}
            self._texts |= getattr(cls, "flag_help", {})
            self._rare |= set(getattr(cls, "rare_flags", ()))
            self.refused |= getattr(cls, "refused_flags", {})
        # transformers' DataClassType is a NewType of Any, which no class is to a type checker.
        types: Any = dataclass_types
        # A shortened flag would escape `--config`, which is looked for by its whole name.
        super().__init__(
            types, prog=f"agssp {command}", usage=usage, description=description, add_help=False, allow_abbrev=False,
            formatter_class=partial(_Formatter, max_help_position=30),
        )  # fmt: skip
        hidden = len(self._rare & self._waiting.keys())
        if hidden and not everything:
            self.epilog = f"`agssp {command} --help-all` shows {hidden} more flags."
        self._add_groups()
        general = self.add_argument_group(GENERAL)
        general.add_argument("-h", "--help", action="help", help="show the usual flags")
        general.add_argument("--help-all", action="help", help="show all flags")
        packaged = f", or one of the packaged {', '.join(configs)}" if configs else ""
        general.add_argument(
            "--config",
            metavar="FILE",
            help=f"YAML file with values for these flags{packaged}; flags given here win over it",
        )

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Keep a flag until all are known; a name that is refused gets its default and no flag.

        Args:
            names: of one flag, with `_` or with `-`.
            options: as argparse has them.
        """
        name = options.setdefault("dest", str(names[0]).lstrip("-").replace("-", "_"))
        if name in self.refused:
            # Not from `--no-...`, whose default is the other one.
            return None if "action" in options else self.set_defaults(**{name: options.get("default")})
        spellings = list(dict.fromkeys(str(each).replace("_", "-") for each in names))
        self.flags += spellings
        options["help"] = _help(self._texts.get(name) or options.get("help"), options)
        if _is_switched_on(options) or (name in self._rare and not self.everything):
            options["help"] = argparse.SUPPRESS
        if "action" not in options and "choices" not in options:
            options.setdefault("metavar", _metavar(name, options))
        return self._waiting.setdefault(name, []).append((spellings, options))

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.command}: {message}")

    def _add_groups(self) -> None:
        """Add what waits, group by group, in each in the order in which the dataclasses list it."""
        listed = [name for name in self._titles if name in self._waiting]
        met = dict.fromkeys(self._titles.get(name, REST) for name in self._waiting)
        titles = [title for title in GROUP_ORDER if title in met] + [title for title in met if title not in GROUP_ORDER]
        for title in titles:
            group = self.add_argument_group(title)
            for name in dict.fromkeys([*listed, *self._waiting]):
                if self._titles.get(name, REST) == title:
                    for spellings, options in self._waiting[name]:
                        group.add_argument(*spellings, **options)


class _Formatter(argparse.HelpFormatter):
    """argparse's, but a flag in a text is never cut at one of its dashes."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


def _is_switched_on(options: dict[str, Any]) -> bool:
    """Whether a flag is on unless it is taken back, so that `--no-...` alone is worth a line."""
    return options.get("nargs") == "?" and options.get("default") is True


def _help(text: str | None, options: dict[str, Any]) -> str | None:
    """The text with what else is to be known: that the flag must be given, or what it is where it is not."""
    default = options.get("default")
    if options.get("required"):
        return f"{text} (required)"
    # 0 is worth telling, though it equals False.
    if default is None or default is False or default in ("", []) or "action" in options or "default" in (text or ""):
        return text
    return f"{text} (default: {default})"


def _metavar(name: str, options: dict[str, Any]) -> str:
    if options.get("type") is string_to_bool:
        return "true|false"
    numbers: dict[Any, str] = {int: "N", float: "X"}
    return numbers.get(options.get("type"), "TEXT" if "_" in name else name.upper())
