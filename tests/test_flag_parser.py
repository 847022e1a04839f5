"""How flags are read, shown and refused, whatever the command."""

import re
from dataclasses import dataclass
from typing import ClassVar

import pytest

from agssp.arguments import parse_arguments
from agssp.errors import InputError


@dataclass
class Nothing:
    pass


@dataclass
class Base:
    steps: int = 3
    adam_beta: float = 0.9
    use_tokens: bool = True
    kwargs: str | None = None


@dataclass
class Flags(Base):
    flag_groups: ClassVar = {"output": ("output_file",), "training": ("steps", "keep_pictures")}
    rare_flags: ClassVar = ("keep_pictures",)
    flag_help: ClassVar = {"steps": "steps of the run"}
    refused_flags: ClassVar = {
        "adam_beta": "give --optimizer", "use_tokens": "is for text", "kwargs": "is for text",
        "old_name": "give --steps",
    }  # fmt: skip

    output_file: str = ""
    keep_pictures: bool = True
    fast: bool = False
    size: int = 0


def shown(words, capsys, kind=Flags):
    with pytest.raises(SystemExit, match=r"^0$"):
        parse_arguments("try", [kind], words)
    return capsys.readouterr().out


def test_a_command_without_flags(capsys):
    assert parse_arguments("try", [Nothing], []) == (Nothing(),)
    printed = shown(["--help"], capsys, Nothing)
    assert re.findall(r"^(\w+):$", printed, re.MULTILINE) == ["general"]
    assert "more flags" not in printed


def test_help_has_groups_in_order_with_the_usual_flags(capsys):
    printed = shown(["--help"], capsys)
    assert re.findall(r"^(\w+):$", printed, re.MULTILINE) == ["training", "output", "flags", "general"]
    assert re.findall(r"^  (?:-h, )?(--\S+)", printed, re.MULTILINE) == [
        "--steps", "--output-file", "--fast", "--size", "--help", "--help-all", "--config",
    ]  # fmt: skip
    assert "steps of the run (default: 3)" in printed
    assert "`agssp try --help-all` shows 1 more flags." in printed


@pytest.mark.parametrize("word", ["--help-all", "--help_all"])
def test_all_flags_but_the_refused_ones(word, capsys):
    printed = shown([word], capsys)
    assert "--no-keep-pictures" in printed
    assert not re.search("beta|tokens|kwargs|old-name|more flags|_", printed)


def test_both_spellings_are_read_and_values_are_left_alone():
    words = ["--keep_pictures=false", "--output_file", "my_file", "--size", "-3"]
    assert parse_arguments("try", [Flags], words) == (Flags(keep_pictures=False, output_file="my_file", size=-3),)
    words = ["--no-keep-pictures", "--output-file=--a_b", "--fast"]
    assert parse_arguments("try", [Flags], words) == (Flags(keep_pictures=False, output_file="--a_b", fast=True),)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--adam_beta", "0.5"], "--adam_beta: give --optimizer"),
        (["--adam-beta=0.9"], "--adam-beta: give --optimizer"),  # also where it would change nothing
        (["--no-use-tokens"], "--no-use-tokens: is for text"),
        (["--use_tokens"], "--use_tokens: is for text"),
        (["--old_name", "3"], "--old_name: give --steps"),
        (["--size", "big"], "try: argument --size: invalid int value: 'big'"),
        (["--size"], "try: argument --size: expected one argument"),
        (["--out_file", "x"], "try: unknown: --out-file x; did you mean --output-file?"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(words, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        parse_arguments("try", [Flags], words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adam-beta: 0.9", "adam_beta: give --optimizer"),
        ("kwargs: null", "kwargs: is for text"),
        ("old_name: 1", "old_name: give --steps"),
        ("new: 1", "no such flag: new; known are fast, keep_pictures, output_file, size, steps"),
    ],
)
def test_what_is_refused_in_a_file_is_named_with_it(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    expected = f"--config {tmp_path / 'c.yaml'}: {message}"
    with pytest.raises(InputError, match=f"^{re.escape(expected)}$"):
        parse_arguments("try", [Flags], ["--config", str(tmp_path / "c.yaml")])
