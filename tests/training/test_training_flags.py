"""Flags of the training commands that cannot work: one sentence that names the flag, whoever gives them."""

import re

import pytest
from chain_cases import backbone_arguments, detector_arguments, finetune_arguments
from transformers.trainer_pt_utils import AcceleratorConfig

from agssp.arguments import parse_arguments
from agssp.cli import main
from agssp.command_lines import command_line
from agssp.commands import finetune, pretrain_backbone, pretrain_detector
from agssp.errors import InputError
from agssp.training import evaluators
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.flag_checks import accelerator_settings, machine_errors, transformers_errors
from agssp.training.run import choose_optimizer
from agssp.training.trainer_flags import FORMER, REFUSED

NEEDED = {
    finetune: ["--model", "m", "--dataset", "d", "--output", "o"],
    pretrain_detector: ["--dataset", "d", "--output", "o"],
    pretrain_backbone: ["--dataset", "d", "--output", "o"],
}
EVERYWHERE = [
    "--num-train-epochs 0", "--num-train-epochs -1", "--num-train-epochs nan", "--max-steps 0", "--max-steps -2",
    "--per-device-train-batch-size 0", "--per-device-eval-batch-size 0", "--gradient-accumulation-steps 0",
    "--learning-rate fast", "--learning-rate 0", "--learning-rate nan", "--weight-decay -1", "--nominal-batch -1",
    "--momentum 0", "--momentum 1", "--final-rate 2", "--warmup-epochs -1", "--max-grad-norm -1", "--ema-decay 1",
    "--ema-ramp 0", "--eval-every 0", "--checkpoint-every 0", "--save-steps 0", "--save-total-limit -1",
    "--logging-steps 0", "--logging-strategy often", "--seed -1", "--data-seed 4294967296", "--optimizer lion",
    "--schedule step", "--dataloader-num-workers -2", "--dataloader-prefetch-factor 0", "--val-fraction 1.0",
    "--val-fraction -0.1", "--val-fraction nan", "--vertical-flip 2", "--image-size 0", "--image-size big",
    "--train-sampling-strategy group_by_length", "--log-level loud", "--dataloader-multiprocessing-context thread",
    "--ddp-backend smoke-signals", "--torch-compile-backend foo", "--torch-compile-mode foo",
    "--accelerator-config {", "--report-to no_such_tracker", "--push-to-hub steel", "--save-steps 2.5",
]  # fmt: skip
OF_DETECTORS = [
    "--image-size 100", "--image-size -64", "--mosaic 2", "--scale 1", "--scale -1", "--flip 7", "--closing-epochs -1",
]  # fmt: skip
OF_BACKBONES = [
    "--image-size -1", "--frozen-stages -1", "--drop-path 1", "--loss-weights 1 -1", "--encoder-momentum 2",
    "--temperature 0", "--mask-unit 0", "--mask-ratio 1", "--min-scale 0", "--min-scale 2", "--shuffle-buffer 0",
    "--objective x", "--distill-loss l3", "--map-target x",
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "words"),
    [(module, words) for module in NEEDED for words in EVERYWHERE]
    + [(module, words) for module in (finetune, pretrain_detector) for words in OF_DETECTORS]
    + [(finetune, "--frozen-stages -1"), *((pretrain_backbone, words) for words in OF_BACKBONES)],
    ids=lambda part: part if isinstance(part, str) else part.__name__.rpartition(".")[2],
)
def test_a_value_that_cannot_be_is_one_line_that_names_the_flag(module, words):
    with pytest.raises(InputError, match=rf"\A[^\n]*{words.split()[0]}\b[^\n]*\Z"):
        parse_arguments("try", module.ARGUMENTS, [*NEEDED[module], "--use-cpu", *words.split()])


@pytest.mark.parametrize("name", [*REFUSED, *FORMER])
@pytest.mark.parametrize("module", NEEDED)
def test_what_does_nothing_is_refused_as_it_is_typed(module, name):
    for word in (f"--{name}=x", f"--{name.replace('_', '-')}", f"--no_{name}"):
        message = f"{word.partition('=')[0]}: {(REFUSED | FORMER)[name]}"
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            parse_arguments("try", module.ARGUMENTS, [*NEEDED[module], "--use-cpu", word])


def test_the_command_says_it_and_leaves(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["finetune", "scratch:yolov8n", "--dataset", "d", "--output", "o", "--optim", "adafactor"])
    assert capsys.readouterr().err == "agssp: error: --optim: give --optimizer sgd, adamw or auto instead\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"fp16": True, "bf16": True}, "--bf16, --fp16: At most one of fp16 and bf16"),
        ({"logging_steps": 2.5}, "--logging-steps: --logging_steps must be an integer if bigger than 1: 2.5"),
        ({"dataloader_prefetch_factor": 3}, "--dataloader-prefetch-factor: is of the processes that load images"),
        ({"dataloader_in_order": False}, "--dataloader-in-order: is of the processes"),
        ({"hub_revision": "v2"}, "--hub-revision: give --push-to-hub OWNER/NAME too"),
        ({"run_name": "seven"}, "--run-name: is for --report-to wandb or"),
        ({"logging_strategy": "no", "logging_steps": 3}, "--logging-steps: --logging-strategy no logs nothing"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches is not handed on"),
    ],
)
def test_flags_that_do_not_go_together(flags, message):
    with pytest.raises(InputError, match=message):
        AgsspTrainingArguments(use_cpu=True, dataloader_num_workers=0, **flags)


def test_steps_are_meant_where_they_are_given():
    nothing = AgsspTrainingArguments(use_cpu=True)
    assert (nothing.logging_strategy, nothing.save_strategy) == ("epoch", "no")
    assert (nothing.logging_steps, nothing.save_steps) == (500, 500)
    both = AgsspTrainingArguments(use_cpu=True, logging_steps=500, save_steps=500)
    assert (both.logging_strategy, both.save_strategy) == ("steps", "steps")


def test_a_record_names_the_steps_that_were_given_and_not_what_follows_from_them():
    training = AgsspTrainingArguments(use_cpu=True, save_steps=5, logging_steps=2)
    assert command_line("finetune", training) == "agssp finetune --logging-steps 2 --save-steps 5 --use-cpu True"


def test_accelerator_settings_are_read_from_everywhere(tmp_path):
    (tmp_path / "a.json").write_text('{"even_batches": false}')
    assert accelerator_settings(None) is None
    for told in ('{"even_batches": false}', str(tmp_path / "a.json"), {"even_batches": False}):
        assert accelerator_settings(told) == {"even_batches": False}
    with pytest.raises(InputError, match=r"no.json: expected JSON such as"):
        accelerator_settings("no.json")
    with pytest.raises(InputError, match="accumulate with --gradient-accumulation-steps"):
        accelerator_settings({"gradient_accumulation_kwargs": {"num_steps": 2}})
    own = AcceleratorConfig(non_blocking=True)
    assert accelerator_settings(own) is own
    with pytest.raises(InputError, match="split_batches is not handed on"):
        accelerator_settings(AcceleratorConfig(split_batches=True))


def test_errors_of_transformers_name_the_flag():
    with pytest.raises(InputError, match=r"^--tf32: this machine has no GPU"), transformers_errors(["bf16", "tf32"]):
        raise ValueError("--tf32 requires Ampere")
    with pytest.raises(InputError, match=r"^--bf16, --tf32: two lines$"), transformers_errors(["bf16", "tf32"]):
        raise ImportError("two\nlines")
    with pytest.raises(KeyError, match="a fault of our own"), transformers_errors([]):
        raise KeyError("a fault of our own")


def test_what_a_machine_turns_out_to_lack_names_the_flag(monkeypatch):
    training = AgsspTrainingArguments(use_cpu=True)
    with pytest.raises(RuntimeError, match="deterministic"), machine_errors(training):
        raise RuntimeError("this is not deterministic")
    training.full_determinism = training.torch_compile = True
    with pytest.raises(InputError, match="--full-determinism: an operation"), machine_errors(training):
        raise RuntimeError("upsample does not have a deterministic implementation")
    from torch._inductor.exc import InvalidCxxCompiler

    with pytest.raises(InputError, match="--torch-compile: backend None cannot compile"), machine_errors(training):
        raise InvalidCxxCompiler


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_steps": -1}, "--max-steps"),
        ({"eval_every": 3}, "--eval-every: a stream has no epochs; --save-steps"),
        ({"checkpoint_every": 3}, "--checkpoint-every: a stream has no epochs"),
        ({"data_seed": 3}, "--data-seed: a stream has an order of its own"),
        ({"dataloader_drop_last": True}, "--dataloader-drop-last: a stream"),
    ],
)
def test_flags_that_do_nothing_for_a_stream(root, flags, message):
    with pytest.raises(InputError, match=message):
        pretrain_backbone.main(*backbone_arguments(root, "out", streaming=True, **{"max_steps": 4} | flags))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"shuffle_buffer": 7}, "--shuffle-buffer: is for --streaming"),
        ({"temperature": 0.2}, "--temperature: is for --objective mocov3"),
        ({"mask_unit": 16, "objective": "mocov3"}, "--mask-unit: is for --objective simmim"),
    ],
)
def test_flags_of_another_objective(root, flags, message):
    with pytest.raises(InputError, match=message):
        backbone_arguments(root, "out", **flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"optimizer": "adamw", "momentum": 0.8}, "--momentum: is of SGD"),
        ({"optimizer": "auto", "momentum": 0.8}, "--momentum: is of SGD"),
        ({"optimizer": "sgd", "schedule": "constant", "final_rate": 0.5}, "--final-rate: --schedule constant"),
        ({"optimizer": "sgd", "momentum": 0.8, "final_rate": 0.5}, None),
    ],
)
def test_flags_of_another_optimizer_or_schedule(flags, message):
    training = AgsspTrainingArguments(use_cpu=True, **flags)
    tables = {"rates": {"sgd": 0.1, "adamw": 0.1}, "decays": {"sgd": 0.0, "adamw": 0.0}}
    nominal = {"sgd": 0, "adamw": 0}
    if message is None:
        choose_optimizer(training, kind="adamw", nominal_batches=nominal, **tables)
    else:
        with pytest.raises(InputError, match=message):
            choose_optimizer(training, kind="adamw", nominal_batches=nominal, **tables)


@pytest.mark.slow
def test_evaluation_takes_as_many_images_as_it_is_told(root, monkeypatch):
    sizes = []

    def evaluator(images, names, collate, **options):
        sizes.append(options["batch_size"])
        return lambda model: {"map_50": 0.0, "map_50_95": 0.0}

    monkeypatch.setattr(evaluators, "detection_evaluator", evaluator)
    finetune.main(*finetune_arguments(root, "out", max_steps=1, per_device_eval_batch_size=7))
    assert sizes == [7]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"eval_every": 2}, "--eval-every: this run measures nothing; give "),
        ({"eval_on_start": True}, "--eval-on-start: this run measures nothing; give "),
        ({"per_device_eval_batch_size": 7}, "--per-device-eval-batch-size: this run measures nothing; give "),
    ],
)
@pytest.mark.parametrize("command", ["backbone", "detector", "finetune"])
def test_flags_of_evaluation_where_nothing_is_measured(tmp_path, command, flags, message):
    # Nothing is there to be read: the flags are refused before.
    begin, arguments = {
        "backbone": (pretrain_backbone.main, backbone_arguments),
        "detector": (pretrain_detector.main, detector_arguments),
        "finetune": (finetune.main, finetune_arguments),
    }[command]
    nothing = {"val_fraction": 0, "eval_every": 5 if command == "finetune" else 1}
    with pytest.raises(InputError, match=message):
        begin(*arguments(tmp_path, "out", **nothing | flags))
    with pytest.raises(InputError, match="no such file or folder"):
        begin(*arguments(tmp_path, "out", **nothing))
    with pytest.raises(InputError, match="no such file or folder"):
        begin(*arguments(tmp_path, "out", **nothing | flags | {"val_fraction": 0.5}))


def test_the_batch_size_of_evaluation_counts_for_a_test_set_too(tmp_path):
    nothing = {"val_fraction": 0, "eval_every": 5, "per_device_eval_batch_size": 7}
    for measured in ({"test": "t"}, {"validation": "v"}):
        with pytest.raises(InputError, match="no such file or folder"):
            finetune.main(*finetune_arguments(tmp_path, "out", **nothing | measured))
