"""The packaged configurations: found by name, parsed by their command, and true to Table 1 of the paper."""

import importlib
import re
import shlex

import pytest

from agssp.arguments import CONFIG_FOLDERS, CONFIGS, find_config, packaged_configs, parse_arguments, read_config
from agssp.commands import finetune, pretrain_backbone, pretrain_detector
from agssp.errors import InputError

AGBP = {"num_train_epochs": 200, "image_size": 224}
AGDP = {"detector": "yolov8s", "num_train_epochs": 10, "image_size": 640, "freeze_backbone": True}
FINETUNE = {"num_train_epochs": 500, "image_size": 640, "frozen_stages": 0, "mosaic": 1.0, "closing_epochs": 10}
STEPS = {"momentum": 0.9, "weight_decay": 1e-4, "schedule": "multistep"}
WARM_UP = {"weight_decay": 0.05, "schedule": "cosine", "warmup_epochs": 20, "max_grad_norm": 5, "drop_path": 0.5}
MOCOV3 = {"objective": "mocov3", "encoder_momentum": 0.99}
SIMMIM = {"objective": "simmim", "image_size": 192, "mask_ratio": 0.6, "mask_unit": 32}
CLASSIFICATION = {"objective": "classification"}

# Global batch, optimizer and learning rate of each, then what its stage and optimizer have in common.
METHOD = {
    "agbp/cspdarknet-classification": (1024, "sgd", 0.01, AGBP | STEPS | CLASSIFICATION | {"backbone": "yolov8s"}),
    "agbp/resnet50-classification": (512, "sgd", 0.01, AGBP | STEPS | CLASSIFICATION | {"backbone": "resnet50"}),
    "agbp/resnet50-mocov3": (512, "sgd", 0.01, AGBP | STEPS | MOCOV3 | {"backbone": "resnet50"}),
    "agbp/swin-base-classification": (512, "adamw", 1e-4, AGBP | WARM_UP | CLASSIFICATION | {"backbone": "swin_base"}),
    "agbp/swin-base-simmim": (512, "adamw", 1e-4, AGBP | WARM_UP | SIMMIM | {"backbone": "swin_base"}),
    "agdp/cspdarknet": (256, "sgd", 0.01, AGDP),
    "agdp/resnet50": (128, "sgd", 0.0025, AGDP),
    "agdp/swin-base": (128, "sgd", 0.0025, AGDP),
    "finetune/cspdarknet": (32, "sgd", 0.0025, FINETUNE),
    "finetune/resnet50": (32, "sgd", 0.0025, FINETUNE),
    "finetune/swin-base": (14, "sgd", 0.0025, FINETUNE),
}
# The batches of most configurations are for GPUs; here only numbers are compared.
ON_CPU = ["--use-cpu"]


def header_commands(name):
    """The shell commands in a configuration's header, continued lines joined."""
    comment = (CONFIGS / f"{name}.yaml").read_text().split("\nbackbone:")[0].split("\ndetector:")[0]
    text = "\n".join(line.removeprefix("#").strip() for line in comment.splitlines())
    return [
        shlex.split(line) for line in text.replace("\\\n", "").splitlines() if re.match(r"(agssp|accelerate) ", line)
    ]


def parse(words):
    """The dataclasses of an `agssp` command line."""
    assert words[0] == "agssp"
    module = importlib.import_module(f"agssp.commands.{words[1].replace('-', '_')}")
    return parse_arguments(words[1], module.ARGUMENTS, [*words[2:], *ON_CPU], positional=module.POSITIONAL)


def value(parsed, name):
    return next(getattr(part, name) for part in parsed if hasattr(part, name))


def test_the_table_names_what_is_packaged():
    found = [name for command in CONFIG_FOLDERS for name in packaged_configs(command)]
    assert sorted(METHOD) == sorted(found)
    assert sorted(found) == sorted(str(file.relative_to(CONFIGS).with_suffix("")) for file in CONFIGS.rglob("*.yaml"))


def test_most_commands_have_none():
    assert packaged_configs("predict") == []


@pytest.mark.parametrize("name", METHOD)
def test_the_header_runs_it_on_one_device_and_on_two(name):
    batch, optimizer, rate, rest = METHOD[name]
    one, two = header_commands(name)
    assert two[:6] == ["accelerate", "launch", "--num_processes", "2", "-m", "agssp"]
    for words, processes in ((one, 1), (two[5:], 2)):
        assert words[words.index("--config") + 1] == name
        parsed = parse(words)
        images = value(parsed, "per_device_train_batch_size") * value(parsed, "gradient_accumulation_steps")
        assert images * processes == batch
        assert value(parsed, "nominal_batch") == batch
        assert (value(parsed, "optimizer"), value(parsed, "learning_rate")) == (optimizer, rate)
        assert {key: value(parsed, key) for key in rest} == rest


@pytest.mark.parametrize("name", METHOD)
def test_the_papers_batch_gets_the_papers_rate(name):
    _, training = parse(header_commands(name)[0])
    assert training.scaled_learning_rate == METHOD[name][2]


@pytest.mark.parametrize("name", METHOD)
def test_every_value_has_a_line_of_its_own(name):
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    values = [line for line in lines if re.match(r"\w+:", line)]
    known = {field for command in (finetune, pretrain_backbone, pretrain_detector)
             for kind in command.ARGUMENTS for field in kind.__dataclass_fields__}  # fmt: skip
    assert len(values) == len(read_config(CONFIGS / f"{name}.yaml", known))
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("given", ["agdp/resnet50", "agdp/resnet50.yaml"])
def test_a_packaged_name(given):
    assert find_config(given, "pretrain-detector") == CONFIGS / "agdp/resnet50.yaml"


def test_a_file_wins_over_a_packaged_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "agdp/resnet50.yaml"
    own.parent.mkdir()
    own.write_text("image_size: 320")
    words = ["--dataset", "d", "--boxes", "b", "--output", "o", *ON_CPU, "--config"]

    def image_size(config):
        return parse_arguments("pretrain-detector", pretrain_detector.ARGUMENTS, [*words, config])[0].image_size

    assert image_size("agdp/resnet50.yaml") == 320
    assert image_size("agdp/resnet50") == 640
    own.unlink()
    assert image_size("agdp/resnet50.yaml") == 640


def test_the_command_line_wins_over_a_packaged_configuration():
    words = (
        "--dataset d --maps m --output o --use-cpu --image-size 64 --config agbp/resnet50-mocov3 --learning-rate 0.3"
    )
    arguments, training = parse_arguments("pretrain-backbone", pretrain_backbone.ARGUMENTS, words.split())
    assert (arguments.image_size, arguments.objective) == (64, "mocov3")
    assert (training.learning_rate, training.nominal_batch) == (0.3, 512)


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        ("pretrain-backbone", "agbp/resnet-classification", r"did you mean agbp/resnet50-classification"),
        ("pretrain-detector", "cspdarknet.yaml", r"did you mean agdp/cspdarknet\?"),
        ("finetune", "agbp/swin-base-simmim", r"no packaged configuration of finetune; "),
        ("finetune", "../agdp/resnet50", r"no packaged configuration of finetune; "),
        ("finetune", "mine.yml", r"packaged are finetune/cspdarknet, finetune/resnet50, finetune/swin-base"),
        ("predict", "agdp/resnet50", r"^--config agdp/resnet50: no such file$"),
    ],
)
def test_an_unknown_name_lists_near_ones(command, given, message):
    with pytest.raises(InputError, match=message):
        find_config(given, command)


@pytest.mark.parametrize("command", CONFIG_FOLDERS)
def test_help_names_those_that_fit_the_command(command, capsys):
    module = importlib.import_module(f"agssp.commands.{command.replace('-', '_')}")
    with pytest.raises(SystemExit, match=r"^0$"):
        parse_arguments(command, module.ARGUMENTS, ["--help"])
    printed = re.sub(r"\s+", "", capsys.readouterr().out)
    for name in METHOD:
        assert (name in printed) == (name.split("/")[0] == CONFIG_FOLDERS[command])
