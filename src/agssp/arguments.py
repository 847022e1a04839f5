"""Turn a command line, and an optional YAML file, into the dataclasses that describe a command."""

import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .parsing import read_yaml

CONFIGS = Path(__file__).parent / "configs"
# The folder of packaged configurations that belongs to a command.
CONFIG_FOLDERS = {"pretrain-backbone": "agbp", "pretrain-detector": "agdp", "finetune": "finetune"}


def parse_arguments(
    command: str,
    dataclass_types: Sequence[type],
    argv: Sequence[str],
    *,
    positional: Sequence[str] = (),
    description: str = "",
) -> tuple[Any, ...]:
    """Parse flags into one instance of each dataclass.

    Args:
        command: name shown in the usage line, for instance `anomaly-maps`.
        dataclass_types: dataclasses whose fields are the flags; `-` and `_` are the same in a flag's name. What else
            they may say about their flags: `agssp.flag_parser.FlagParser`.
        argv: the words after the command's name.
        positional: names of the fields that may be given without their flag, in order, before the first flag.
        description: text above the list of flags.

    Returns:
        One instance for each dataclass, in order.

    Raises:
        InputError: an unknown flag, one that is refused, a wrong value or a word too many; a `--config` that is neither
            a file nor packaged, is not a table, or has a key that is no flag.
        SystemExit: `--help` or `--help-all` (status 0), from argparse.
    """
    from .flag_parser import FlagParser

    words, named = list(argv), []
    for name in positional:
        if not words or words[0].startswith("-"):
            break
        named += [f"--{name}", words.pop(0)]
    words = [*named, *words]

    usage = " ".join(["agssp", command, *(f"{name.upper()}" for name in positional), "[--config FILE.yaml] [flags]"])
    parser = FlagParser(
        command,
        dataclass_types,
        everything="--help-all" in map(_with_dashes, words),
        configs=packaged_configs(command),
        usage=usage,
        description=description,
    )
    for word in words:
        _check_refused(word.partition("=")[0], parser.refused)
    given = _config_word(words)
    if given is not None:
        config = find_config(given, command)
        known = {field.name for cls in dataclass_types for field in dataclasses.fields(cls) if field.init}
        values = read_config(config, known, parser.refused)
        # As words they are checked like flags; `--config` once more ends a list of values.
        words = [*_as_words(values), f"--config={config}", *words]
        parser.set_defaults(**{name: value for name, value in values.items() if not _has_words(value)})
    *parsed, _, left = parser.parse_args_into_dataclasses(
        list(map(_with_dashes, words)), look_for_args_file=False, return_remaining_strings=True
    )
    if left:
        near = difflib.get_close_matches(left[0].split("=")[0], parser.flags, n=1)
        raise InputError(f"{command}: unknown: {' '.join(left)}" + (f"; did you mean {near[0]}?" if near else ""))
    return tuple(parsed)


def _with_dashes(word: str) -> str:
    """A flag's name as it is shown, whichever way it is typed; other words, and values, as they are."""
    flag, sign, value = word.partition("=")
    return flag.replace("_", "-") + sign + value if flag.startswith("--") else word


def _check_refused(flag: str, refused: Mapping[str, str], where: str = "") -> None:
    """Refuse a flag, as it is typed or as it stands in a file, that is known to be none.

    Raises:
        InputError: it is one of `refused`.
    """
    name = flag.lstrip("-").replace("-", "_")
    reason = refused.get(name) or refused.get(name.removeprefix("no_"))
    if reason is not None and (where or flag.startswith("--")):
        raise InputError(f"{where}{flag}: {reason}")


def packaged_configs(command: str) -> list[str]:
    """Names of the packaged configurations of a command, as `--config` takes them; none for most commands."""
    folder = CONFIG_FOLDERS.get(command)
    return [] if folder is None else sorted(f"{folder}/{file.stem}" for file in (CONFIGS / folder).glob("*.yaml"))


def find_config(name: str, command: str) -> Path:
    """The file that `--config` means: a file of this path, else a packaged configuration of the command.

    Args:
        name: a path, or a packaged name such as `agbp/resnet50-classification`, with or without `.yaml`.
        command: name of the command.

    Raises:
        InputError: there is neither; near names are shown.
    """
    if Path(name).is_file():
        return Path(name)
    known, asked = packaged_configs(command), name.removesuffix(".yaml")
    if asked in known:
        return CONFIGS / f"{asked}.yaml"
    if not known:
        raise InputError(f"--config {name}: no such file")
    near = difflib.get_close_matches(asked, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"packaged are {', '.join(known)}"
    raise InputError(f"--config {name}: no such file, and no packaged configuration of {command}; {hint}")


def read_config(path: str | Path, known: set[str], refused: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read flag values from a YAML file.

    Args:
        path: the file.
        known: the names of the flags it may hold.
        refused: names that are no flags, and why not.

    Returns:
        Flag names (with `_`) and values.

    Raises:
        InputError: the file is missing, is not a YAML table, or holds unknown or refused names.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--config {path}: no such file")
    values = read_yaml(path, name=f"--config {path}")
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(f"--config {path}: expected a table of flags and values, got {type(values).__name__}")
    values = {str(name).replace("-", "_"): value for name, value in values.items()}
    for name in values:
        _check_refused(name, refused or {}, f"--config {path}: ")
    known = known - set(refused or {})
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"--config {path}: no such flag: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return values


def _has_words(value: Any) -> bool:
    return value is not None and value != [] and not isinstance(value, dict)


def _as_words(values: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in values.items():
        if _has_words(value):
            words += [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]
    return words


def _config_word(words: list[str]) -> str | None:
    for index, word in enumerate(words):
        if word == "--config":
            if index + 1 == len(words):
                raise InputError("--config: expected a YAML file after it")
            return words[index + 1]
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return None


def exit_with(message: str, status: int) -> None:
    """Print a message to standard error and leave with this status."""
    print(f"agssp: {message}", file=sys.stderr)
    raise SystemExit(status)
