"""The command line: what a wrong word, a configuration file and a bare import do."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

import agssp
from agssp.arguments import parse_arguments
from agssp.cli import COMMANDS, main
from agssp.command_lines import command_line, shell_command
from agssp.errors import InputError

PACKAGED = "knowledge"


@dataclass
class Flags:
    """One flag of each kind."""

    model: str
    dataset: str = "none"
    output: str | None = "out"
    image_size: int = 640
    freeze: list[int] | None = None
    pictures: bool = True
    weights: dict | None = None
    rate: float = 0.1
    empty: list[int] = field(default_factory=lambda: [3])


def stopped(words, capsys):
    """What a command that gives up says, and its exit status."""
    with pytest.raises(SystemExit, match=r"^\d+$") as stop:
        main(words)
    return stop.value.code, capsys.readouterr().err


def python(code, folder, **environment):
    """Run Python in an empty folder as its home and its place to be."""
    places = {name: str(folder) for name in ("HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME", "YOLO_CONFIG_DIR")}
    env = {**os.environ, **places, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    run = subprocess.run([sys.executable, *code], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_no_command_shows_all_of_them(words, capsys):
    main(words)
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"{agssp.__version__}\n"


@pytest.mark.parametrize(
    ("word", "near"), [("anomaly-map", "anomaly-maps"), ("pseudo_boxes", "pseudo-boxes"), ("train", None)]
)
def test_unknown_command(word, near, capsys):
    status, said = stopped([word], capsys)
    assert status == 2
    first = said.splitlines()[0]
    assert first == f"agssp: error: no command {word!r}" + (f"; did you mean {near!r}?" if near else "")
    assert "usage: agssp COMMAND" in said


def test_the_first_word_of_several_commands_lists_them(capsys):
    below = [name for name in COMMANDS if name.startswith("dataset ")]
    main(["dataset", "--help"])
    printed = capsys.readouterr().out
    assert re.findall(r"^  (dataset \S+)", printed, re.MULTILINE) == below
    assert "pseudo-boxes" not in printed
    for words, first in (
        (["dataset"], "agssp: error: 'dataset' alone is no command"),
        (["dataset", "pull"], "agssp: error: no command 'dataset pull'; did you mean 'dataset push'?"),
    ):
        status, said = stopped(words, capsys)
        assert (status, said.splitlines()[0]) == (2, first)
        assert all(name in said for name in below)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_puts_every_flag_under_a_title_and_names_no_other_document(name, capsys):
    status = 0
    try:
        main([*name.split(), "--help-all"])
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr().out
    titles = re.findall(r"^(\w+):$", printed, re.MULTILINE)
    assert status == 0
    assert titles[-1] == "general"
    # Flags without a title of their own are the only ones, or there are none.
    assert "flags" not in titles or titles == ["flags", "general"]
    assert "METHOD" not in printed


def test_every_module_is_a_command_and_every_command_a_module():
    folder = Path(importlib.import_module("agssp.commands").__file__).parent
    modules = {path.stem for path in folder.glob("*.py") if path.stem != "__init__"}
    assert modules == {re.sub("[- ]", "_", name) for name in COMMANDS}


def test_shell_command_survives_a_shell():
    line = shell_command("evaluate", "my model", dataset="it's", image_size=None, class_agnostic=True, output=Path("o"))
    assert shlex.split(line) == ["agssp", "evaluate", "my model", "--dataset", "it's", "--class-agnostic",
                                 "--output", "o"]  # fmt: skip


@pytest.mark.parametrize("words", [["list"], ["check", "metal"], ["check", "steel", "--teacher", "ViT-B-32"]])
def test_knowledge_names_a_command_that_can_be_typed(words, capsys):
    main(["knowledge", *words])
    line = capsys.readouterr().out.splitlines()[-1]
    _, name, *rest = shlex.split(line.removeprefix("next: "))
    module = importlib.import_module("agssp.commands.anomaly_maps")
    (arguments,) = parse_arguments(name, module.ARGUMENTS, rest)
    assert (arguments.knowledge, arguments.pretrained) == (words[1] if len(words) > 1 else "metal", "TAG")


def help_of(words, capsys):
    """What a command prints when it is asked for help, and the flags that have a line in it."""
    with pytest.raises(SystemExit, match=r"^0$"):
        main(words)
    printed = capsys.readouterr().out
    return printed, re.findall(r"^  (?:-h, )?(--[^ ]+)", printed, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_flag(name, capsys):
    printed, shown = help_of([name, "--help-all"], capsys)
    assert f"usage: agssp {name}" in printed
    module = importlib.import_module(f"agssp.commands.{re.sub('[- ]', '_', name)}")
    own = module.ARGUMENTS[0]
    for flag in fields(own):
        dashed = flag.name.replace("_", "-")
        assert shown.count(f"--{dashed}") + shown.count(f"--no-{dashed}") == 1
        assert flag.metadata.get("help"), f"{name} --{flag.name} has no help"
    assert not re.findall(r"--\w[\w-]*_", printed), "dashes everywhere"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_some_thirty_flags_and_names_the_way_to_the_rest(name, capsys):
    few, shown = help_of([name, "--help"], capsys)
    _, every = help_of([name, "--help_all"], capsys)
    assert len(shown) <= 36
    assert set(shown) <= set(every)
    hidden = len(every) - len(shown)
    assert ("--help-all` shows" in few) == bool(hidden)
    assert f"shows {hidden} more flags" in few or not hidden
    assert (hidden > 0) == name.startswith(("pretrain", "finetune"))


@pytest.mark.parametrize("name", COMMANDS)
def test_groups_name_flags_that_there_are_each_once(name):
    own = importlib.import_module(f"agssp.commands.{re.sub('[- ]', '_', name)}").ARGUMENTS[0]
    grouped = [flag for group in getattr(own, "flag_groups", {}).values() for flag in group]
    assert len(grouped) == len(set(grouped))
    assert {*grouped, *getattr(own, "rare_flags", ())} <= {flag.name for flag in fields(own)}


def test_input_error_is_one_line_and_status_2(tmp_path, capsys):
    status, said = stopped(["pseudo-boxes", "--maps", str(tmp_path / "no"), "--output", str(tmp_path / "out")], capsys)
    assert status == 2
    assert said.startswith(f"agssp: error: {tmp_path / 'no'}: is no map store")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--topk", "3"], "unknown: --topk 3; did you mean --top-k?"),
        (["--score", "3"], "unknown: --score 3"),
        (["stray"], "unknown: stray"),
    ],
)
def test_unknown_flag(words, message, capsys):
    status, said = stopped(["pseudo-boxes", "--maps", "maps", "--output", "boxes", *words], capsys)
    assert status == 2
    assert said.startswith(f"agssp: error: pseudo-boxes: {message}")


class TestConfig:
    def write(self, tmp_path, text):
        (tmp_path / "run.yaml").write_text(text)
        return str(tmp_path / "run.yaml")

    def test_empty_file_changes_nothing(self, tmp_path, capsys):
        main([PACKAGED, "list", "--config", self.write(tmp_path, "")])
        assert "steel: casting_billet" in capsys.readouterr().out

    def test_values_are_those_of_the_flags(self, tmp_path, capsys):
        # Both spellings of a flag, one that is required, and a list.
        text = "action: check\nfile: steel\ncategory: [steel_rail, steel_rails]\n"
        status, said = stopped([PACKAGED, "--config", self.write(tmp_path, text)], capsys)
        assert status == 2
        assert "'steel_rails' is not described" in said

    def test_the_command_line_wins(self, tmp_path, capsys):
        main([PACKAGED, "--action", "list", f"--config={self.write(tmp_path, 'action: check')}"])
        assert "steel: casting_billet" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("action: list\ntop_k: 3\nfiles: a\n", "no such flag: files, top_k; known are action, category, file"),
            ("- action", "expected a table of flags and values, got list"),
            ("action: [", "not valid YAML"),
        ],
    )
    def test_mistakes_in_the_file_are_named(self, tmp_path, capsys, text, message):
        file = self.write(tmp_path, text)
        status, said = stopped([PACKAGED, "--config", file], capsys)
        assert status == 2
        assert f"--config {file}: {message}" in said

    @pytest.mark.parametrize(
        ("value", "message"),
        [("2.7", "invalid int value: '2.7'"), ("many", "invalid int value"), ("[1, 2]", "unknown: 2")],
    )
    def test_values_are_checked_like_flags(self, tmp_path, capsys, value, message):
        text = f"maps: maps\noutput: boxes\ntop_k: {value}\n"
        status, said = stopped(["pseudo-boxes", "--config", self.write(tmp_path, text)], capsys)
        assert status == 2
        assert message in said

    def test_every_kind_of_value_arrives(self, tmp_path):
        text = """
            model: other
            dataset: -a- b
            output: null
            image-size: 320
            freeze: [1, 2]
            pictures: false
            weights: {lr: 1e-3}
            rate: 1e-3
            empty: []
        """
        words = ["m", "--config", self.write(tmp_path, text), "--rate", "-2"]
        (parsed,) = parse_arguments("try", [Flags], words, positional=["model"])
        assert parsed == Flags("m", "-a- b", None, 320, [1, 2], False, {"lr": "1e-3"}, -2.0, [])

    def test_a_word_too_many_is_not_taken_into_a_list(self, tmp_path):
        with pytest.raises(InputError, match="try: unknown: stray"):
            parse_arguments("try", [Flags], ["stray", "--model", "m", "--config", self.write(tmp_path, "freeze: [1]")])

    def test_missing_file(self, tmp_path, capsys):
        status, said = stopped([PACKAGED, "list", "--config", str(tmp_path / "no.yaml")], capsys)
        assert (status, "no such file" in said) == (2, True)
        status, said = stopped([PACKAGED, "list", "--config"], capsys)
        assert (status, "--config: expected a YAML file after it" in said) == (2, True)


def test_import_loads_nothing_heavy_and_writes_nothing(tmp_path):
    heavy = ("torch", "torchvision", "ultralytics", "transformers", "datasets", "timm", "open_clip", "cv2")
    code = f"import agssp, sys; print(agssp.__version__, [name for name in {heavy} if name in sys.modules])"
    assert python(["-c", code], tmp_path) == f"{agssp.__version__} []\n"
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.slow
def test_public_names_come_without_ultralytics(tmp_path):
    code = "import agssp, sys; [getattr(agssp, name) for name in agssp.__all__]; print('ultralytics' in sys.modules)"
    assert python(["-c", code], tmp_path) == "False\n"


def test_unknown_public_name():
    with pytest.raises(AttributeError, match="no attribute 'pseudo_box'"):
        agssp.pseudo_box  # noqa: B018


def test_help_needs_no_heavy_import_either(tmp_path):
    printed = python(["-m", "agssp", "--help"], tmp_path)
    assert "usage: agssp COMMAND" in printed
    code = "import sys; from agssp.cli import main; main(['--help']); print('torch' in sys.modules)"
    assert python(["-c", code], tmp_path).endswith("\nFalse\n")
    assert list(tmp_path.rglob("*")) == []


def test_a_command_of_two_words_is_written_unquoted():
    assert shell_command("dataset build", "neu_det", root="my downloads") == (
        "agssp dataset build neu_det --root 'my downloads'"
    )


def test_no_token_is_in_the_line_that_is_published():
    @dataclass
    class Secret:
        model: str = "m"
        hub_token: str | None = None

    assert command_line("finetune", Secret("x", "hf_secret"), positional=("model",)) == "agssp finetune x"
