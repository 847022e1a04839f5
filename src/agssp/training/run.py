"""One training run from claim to final model: the part that all training commands share."""

import contextlib
import hashlib
import json
import logging
import platform
import shutil
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HTTPError

from agssp.boxes.store import THRESHOLDS
from agssp.files import restore_folder, write_json, write_lines
from agssp.hub_client.names import is_hub_id
from agssp.maps.store import MANIFEST, SKIPPED
from agssp.output_folder import claim_output, hold_output
from agssp.parsing import read_json, read_lines
from agssp.processes import on_main_process
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.flag_checks import check_optimizer_flags, machine_errors
from agssp.training.trainer import BEST, COMPLETE, EMA_FILE, AgsspTrainer, last_checkpoint
from agssp.version import __version__

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
LOG_FILE = "log.jsonl"
_KEPT_SETTINGS = (
    "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate",
    "nominal_batch", "weight_decay", "optimizer", "momentum", "schedule", "final_rate", "warmup_epochs",
    "max_grad_norm", "ema_decay", "ema_ramp", "seed", "bf16",
)  # fmt: skip
_OPTIMIZER_FACTS = (
    "optimizer", "learning_rate", "nominal_batch", "global_batch", "scaled_learning_rate", "weight_decay", "momentum",
    "schedule", "warmup_epochs", "max_grad_norm",
)  # fmt: skip
_KEPT_OF_ORIGINS = (
    "command", "dataset", "teacher", "boxes", "objective", "lambda", "distill_loss", "epochs", "steps", "seed", "start",
    "start_licences", "origins",
)  # fmt: skip
_LIBRARIES = ("torch", "torchvision", "transformers", "timm", "datasets", "accelerate", "numpy", "ultralytics")


def begin(
    output: str,
    command: str,
    arguments: dict[str, Any],
    training: AgsspTrainingArguments,
    inputs: dict[str, str | None] | None = None,
) -> bool:
    """Claim the output folder for these settings and inputs.

    Args:
        output: the folder.
        command: name of the command.
        arguments: its own flags.
        training: `output_dir` is set to the folder.
        inputs: fingerprints of what the flags only name (data set, maps, boxes, starting weights), so that work on
            others under the same names is not taken for this run's.

    Returns:
        Whether the run is finished already.

    Raises:
        InputError: the folder holds something else, or a run with other settings or inputs that got as far as a
            checkpoint.
    """
    training.output_dir = str(output)
    # A bar for every file that is written would tear up the training's own.
    transformers.utils.logging.disable_progress_bar()
    settings = {name: value for name, value in arguments.items() if name != "output"}
    settings |= {name: getattr(training, name) for name in _KEPT_SETTINGS}
    settings |= {f"fingerprint of {name}": value for name, value in (inputs or {}).items()}
    settings["processes"] = PartialState().num_processes
    folder = Path(output)

    def claim() -> None:
        hold_output(folder, command)
        restore_folder(folder / BEST)
        started = last_checkpoint(folder) is not None or (folder / BEST).is_dir() or (folder / RUN_FILE).is_file()
        claim_output(folder, command, json.loads(json.dumps(settings)), started=started)
        # Before any worker adds to it: a line that was cut off must not become the beginning of the next.
        deque(read_lines(folder / SKIPPED, repair=True), maxlen=0)

    on_main_process(claim)
    return (folder / RUN_FILE).is_file()


def content_fingerprint(path: str | None) -> str | None:
    """Hash of what a flag names: a file of weights, or a folder with weights, a map store or pseudo boxes.

    Args:
        path: as the flag gives it.

    Returns:
        16 hexadecimal digits; None for what is not on this machine (a Hub id, `scratch`).
    """
    place = Path(path) if path else None
    if place is None or not place.exists():
        return None
    names = ("*.safetensors", MANIFEST, THRESHOLDS)
    files = [place] if place.is_file() else sorted(file for name in names for file in place.glob(name))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def choose_optimizer(
    training: AgsspTrainingArguments,
    *,
    kind: str,
    rates: dict[str, float],
    decays: dict[str, float],
    nominal_batches: dict[str, int],
) -> None:
    """Fill in optimizer, learning rate with its nominal batch, and weight decay where the user left them open.

    Args:
        training: changed in place.
        kind: what `auto` means here: `sgd` or `adamw`.
        rates: learning rate of each.
        decays: weight decay of each.
        nominal_batches: global batch that each rate is meant for; 0: the rate is not scaled with the batch.

    Raises:
        InputError: a flag is given that the optimizer or the schedule does not use.
    """
    if training.optimizer == "auto":
        training.optimizer = kind
    if training.nominal_batch is None:
        # Whoever gives a rate alone has chosen it for the batch at hand.
        training.nominal_batch = 0 if training.learning_rate is not None else nominal_batches[training.optimizer]
    if training.learning_rate is None:
        training.learning_rate = rates[training.optimizer]
    if training.weight_decay is None:
        training.weight_decay = decays[training.optimizer]
    check_optimizer_flags(training)


def optimizer_facts(training: AgsspTrainingArguments) -> dict[str, Any]:
    """What a run's record says about its optimizer: the learning rate as given, its nominal batch, and as scaled."""
    return {name: getattr(training, name) for name in _OPTIMIZER_FACTS}


def optimizer_line(training: AgsspTrainingArguments) -> str:
    """The learning rate and what became of it, in a sentence for the terminal."""
    batch = (
        f"{training.global_batch} images a step ({training.per_device_train_batch_size} a device x "
        f"{training.world_size} x {training.gradient_accumulation_steps} accumulated)"
    )
    rate = f"{training.optimizer}, learning rate {training.learning_rate:g}"
    if not training.nominal_batch:
        return f"{rate} as it is, {batch}"
    return f"{rate} meant for {training.nominal_batch}: {training.scaled_learning_rate:g} for {batch}"


def train(trainer: AgsspTrainer, *, final: str = "best") -> dict[str, Any]:
    """Train, or go on from the last whole checkpoint, and leave the final weights in the trainer's model.

    Args:
        trainer: with model, data and evaluation.
        final: `best` makes the weights of `best/` final if there was a selection; `last` the last averages always.

    Returns:
        `final` ("best" or "last"), `best` (its record) and `last` (its metrics).
    """
    assert trainer.args.output_dir is not None
    output = Path(trainer.args.output_dir)
    checkpoint = last_checkpoint(output)
    for folder in output.glob("checkpoint-*"):
        if not (folder / COMPLETE).is_file() and trainer.is_world_process_zero():
            shutil.rmtree(folder)
    if checkpoint is not None:
        logger.info(f"going on from {checkpoint}")
        trainer.ema.load(checkpoint / EMA_FILE)
    with machine_errors(trainer.args):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.accelerator.wait_for_everyone()
    model = trainer.accelerator.unwrap_model(trainer.model)
    record = output / BEST / COMPLETE
    evaluations = [entry for entry in trainer.state.log_history if any(key.startswith("eval_") for key in entry)]
    result: dict[str, Any] = {"final": "last", "best": None, "last": evaluations[-1] if evaluations else None}
    if record.is_file():
        result["best"] = read_json(record)
    if final == "best" and result["best"] is not None:
        result["final"] = "best"
        model.load_state_dict(type(model).from_pretrained(output / BEST).state_dict())
    else:
        trainer.ema.synchronise()
        trainer.ema.copy_to(model)
    model.eval()
    if trainer.is_world_process_zero():
        write_lines(output / LOG_FILE, trainer.state.log_history)
    return result


def origins(*sources: str | None) -> list[dict[str, Any]]:
    """What is recorded about the models that a run starts from, so that its record says how all of it came about.

    Args:
        sources: as the flags name them: folders or Hub ids; None, files and `scratch:DETECTOR` have no record.

    Returns:
        The record of each that has one, without results and settings that only that run's own record must hold.
    """
    found = []
    for source in sources:
        record = _record_of(source) if source else None
        if source and record is not None:
            hub_id = {} if Path(source).exists() else {"hub_id": source}
            found.append(hub_id | kept_of_origin(record))
    return found


def start_licences(*sources: str | None, architecture: str | None = None) -> list[str | None]:
    """Licences of the weights that a run starts from, for those that have no record, which would tell.

    Args:
        sources: as the flags name them: `scratch`, `timm`, `pypi`, `scratch:DETECTOR`, file, folder, Hub id; None.
        architecture: name, with tag if any, of the weights that `timm` stands for.

    Returns:
        One entry for each such source, as timm writes licences (`cc-by-nc-4.0`); None where it is not known.
    """
    import timm

    found: list[str | None] = []
    for source in filter(None, sources):
        if source == "timm" and architecture:
            licence = getattr(timm.get_pretrained_cfg(architecture), "license", None)
            found.append(None if licence == "unknown" else licence)
        elif source in ("scratch", "pypi") or source.startswith("scratch:"):
            found.append("apache-2.0")
        elif _record_of(source) is None:
            found.append(None)
    return found


def common_facts(
    trainer: AgsspTrainer, command: str, arguments: Any, starts: Sequence[str | None], architecture: str | None = None
) -> dict[str, Any]:
    """What the record of every training says: what was asked, how long it ran, and what it began from.

    Args:
        trainer: after training.
        command: the shell command.
        arguments: the command's own dataclass.
        starts: what weights came from, as `origins` and `start_licences` take them.
        architecture: see `start_licences`.
    """
    training = trainer.args
    return {
        "command": command,
        "arguments": asdict(arguments),
        "epochs": None if training.max_steps > 0 else training.num_train_epochs,
        "steps": trainer.state.global_step,
        "seed": training.seed,
        "origins": origins(*starts),
        "start_licences": start_licences(*starts, architecture=architecture),
        "optimizer": optimizer_facts(training),
    }


def kept_of_origin(record: dict[str, Any]) -> dict[str, Any]:
    """What later records repeat of a run's: how it came about, as far as its card tells."""
    return {name: record[name] for name in _KEPT_OF_ORIGINS if record.get(name) is not None}


def _record_of(source: str) -> dict[str, Any] | None:
    """run.json of a folder or Hub repository; None where there is none, or nothing that a training command wrote."""
    place = Path(source)
    try:
        if not place.exists():
            if not is_hub_id(source):
                return None
            place = Path(hf_hub_download(source, RUN_FILE)).parent
        record = read_json(place / RUN_FILE)
    # A repository without a record, one that cannot be asked, and a file that is no record are all the same here.
    except (OSError, ValueError, EntryNotFoundError, HTTPError):
        return None
    return record if isinstance(record, dict) and len(str(record.get("command", "")).split()) > 1 else None


def finish(output: str, facts: dict[str, Any]) -> None:
    """Write run.json, which says how the results came about and that they are finished."""
    write_json(Path(output) / RUN_FILE, {**facts, "versions": versions(), "hardware": hardware()})


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that decide the numbers."""
    found = {"agssp": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(Exception):
            found[name] = version(name)
    return found


def hardware() -> str:
    """The accelerator that was computed on, or `CPU` with the number of threads."""
    # The state knows of `--use-cpu`; that there is a GPU does not say that it was used.
    state = PartialState()
    if state.device.type == "cuda":
        return f"{state.num_processes} x {torch.cuda.get_device_name(state.device)}"
    return f"CPU, {torch.get_num_threads()} threads"
