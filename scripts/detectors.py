"""Run every detector through the whole chain on the quickstart's synthetic surfaces, and print one table of all.

python scripts/detectors.py --output runs/detectors
python scripts/detectors.py --only faster_rcnn dfine_s --backbone resnet50 --finetune-epochs 60 --output runs/resnet50

Images, maps, boxes and few labels are made once; each detector is pretrained, finetuned, evaluated, tried on images,
measured and exported by the commands of these names. Finished steps are kept: the same line goes on after an
interruption, and with more names in --only. A detector that fails does not stop the others; its row says why.
OUTPUT/table.md and OUTPUT/table.json are written anew after every detector.
"""

import argparse
import json
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agssp.commands.quickstart import TEACHER, Step, run_step
from agssp.data.synthetic import make_surfaces
from agssp.errors import InputError
from agssp.files import write_json, write_text
from agssp.models.detection import catalogue
from agssp.output_folder import claim_output
from agssp.packaged_weights import PACKAGES

STEPS_FILE = "steps.json"
TITLE = "Every detector through the chain, on synthetic surfaces"
COLUMNS = {
    "detector": "detector",
    "licence": "licence",
    "map_50": "mAP@.5",
    "map_50_95": "mAP@.5:.95",
    "parameters": "parameters",
    "images_per_second": "images/s",
    "ratio": "beside its home library",
    "exports": "exported",
    "minutes": "minutes",
    "problem": "problem",
}


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run what is not finished, and write the table.

    Returns:
        A row for each detector.
    """
    arguments = parse(argv)
    output = Path(arguments.output)
    settings = {name: value for name, value in vars(arguments).items() if name not in ("output", "only")}
    claim_output(output, "scripts/detectors.py", settings)
    record = Record(output / STEPS_FILE)
    record.run("images", lambda: make(arguments))
    for step in shared_steps(arguments):
        record.run(step.name, lambda step=step: run_step(step), step.line)
    rows = []
    for name in arguments.only:
        print(f"\n===== {name}", flush=True)
        try:
            for step in steps_of(name, arguments):
                record.run(step.name, lambda step=step: run_afresh(step), step.line)
            problem = ""
        except (Exception, SystemExit) as error:  # whatever it is, the others are to go on
            traceback.print_exc()
            problem = f"{step.title}: {error or type(error).__name__}".splitlines()[0]
        rows.append(row_of(name, arguments, record, problem))
        write_json(output / "table.json", {"title": TITLE, "settings": settings, "rows": rows})
        write_text(output / "table.md", table(rows, arguments))
    print(f"\n{table(rows, arguments)}\nlook at {output / 'table.md'}")
    return rows


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags, whose names are checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="folder for everything")
    parser.add_argument("--only", nargs="+", metavar="DETECTOR", default=list(catalogue.NAMES), help="default: all")
    parser.add_argument(
        "--backbone",
        default="tf_efficientnet_lite0",
        help="of those that have none of their own; %(default)s starts from ImageNet weights of a PyPI package",
    )
    parser.add_argument("--image-size", type=int, default=96, help="side of images and input in px")
    parser.add_argument("--unlabelled", type=int, default=48, help="images to pretrain on")
    parser.add_argument("--labelled", type=int, default=60, help="images with labels; what is not trained on tests")
    parser.add_argument("--per-class", type=int, default=8, help="labelled images a class to finetune on")
    parser.add_argument("--backbone-epochs", type=int, default=2)
    parser.add_argument("--detector-epochs", type=int, default=3)
    parser.add_argument("--finetune-epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    for name in arguments.only:
        try:
            catalogue.family_named(name)
        except InputError as error:
            parser.error(f"--only: {error}")
    return arguments


class Record:
    """Which steps are finished, and how long they took: a JSON file that is written after each.

    Args:
        file: The file.
    """

    def __init__(self, file: Path):
        self.file = file
        self.seconds: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def run(self, name: str, work: Callable[[], Any], line: str = "") -> None:
        """Do a step, unless it is finished."""
        print(f"\n[{name}] {line}", flush=True)
        if name in self.seconds:
            print(f"    kept: an earlier run finished it in {self.seconds[name]:.0f} s")
            return
        start = time.perf_counter()
        work()
        self.seconds[name] = round(time.perf_counter() - start, 1)
        write_json(self.file, self.seconds)


def run_afresh(step: Step) -> None:
    """Run a step; exports do not write over what an interrupted one has left."""
    if step.argv[0] == "export":
        shutil.rmtree(Path(step.argv[-1]).parent, ignore_errors=True)
    run_step(step)


def make(arguments: argparse.Namespace) -> None:
    """Draw the images."""
    make_surfaces(
        Path(arguments.output) / "images",
        unlabelled=arguments.unlabelled,
        labelled=arguments.labelled,
        normal=4,
        size=arguments.image_size,
        seed=arguments.seed,
    )


def shared_steps(arguments: argparse.Namespace) -> list[Step]:
    """What all detectors begin with: maps, boxes, few labels."""
    root, seed = Path(arguments.output), ("--seed", str(arguments.seed))
    images, maps, few = root / "images", str(root / "maps"), str(root / "few")
    return [
        Step("maps", "maps", (
            "anomaly-maps", "--dataset", str(images / "unlabelled"), *TEACHER, "--references", "normal", "--shots", "4",
            *seed, "--output", maps,
        )),
        Step("boxes", "boxes", ("pseudo-boxes", "--maps", maps, "--output", str(root / "boxes"))),
        Step("split", "split", (
            "split", "--dataset", str(images / "labelled"), "--per-class", str(arguments.per_class), *seed,
            "--output", few,
        )),
    ]  # fmt: skip


def steps_of(name: str, arguments: argparse.Namespace) -> list[Step]:
    """A detector's own steps, its backbone's included, which others may have taken before."""
    root, family = Path(arguments.output), catalogue.family_named(name)
    own = family.backbone is None
    architecture = name if own else arguments.backbone
    at = {part: str(root / name / part) for part in ("pretrained", "finetuned", "evaluation", "found", "profile")}
    backbone, test = str(root / "backbones" / architecture), str(root / "few" / "test")
    images = ("--dataset", str(root / "images" / "unlabelled"))
    sized = ("--image-size", str(arguments.image_size), "--seed", str(arguments.seed), "--dataloader-num-workers", "0")
    few = ("--per-device-train-batch-size", "4", "--checkpoint-every", "1000")
    start = "pypi" if architecture in PACKAGES else "scratch"
    exports = {"onnx": "detector.onnx", "timm": "backbone-timm", "ultralytics": "detector.pt"}
    # timm has no backbone of a YOLO's own, ultralytics no other family and no SLF-YOLO.
    del exports["timm" if own else "ultralytics"]
    if name.startswith("slf_yolo"):
        del exports["ultralytics"]
    return [
        Step(f"backbone {architecture}", "pretrain-backbone", (
            "pretrain-backbone", *images, "--maps", str(root / "maps"), "--backbone", architecture, "--start", start,
            *sized, "--num-train-epochs", str(arguments.backbone_epochs), "--per-device-train-batch-size", "16",
            "--learning-rate", "0.01", "--output", backbone,
        )),
        Step(f"{name} pretrain-detector", "pretrain-detector", (
            "pretrain-detector", *images, "--boxes", str(root / "boxes"), "--backbone", backbone, "--detector", name,
            "--no-freeze-backbone", *sized, "--num-train-epochs", str(arguments.detector_epochs), *few,
            "--val-fraction", "0", "--output", at["pretrained"],
        )),
        Step(f"{name} finetune", "finetune", (
            "finetune", at["pretrained"], "--dataset", str(root / "few" / "train"), "--val-fraction", "0", *sized,
            "--num-train-epochs", str(arguments.finetune_epochs), "--closing-epochs",
            str(arguments.finetune_epochs // 4), *few, "--output", at["finetuned"],
        )),
        Step(f"{name} evaluate", "evaluate", (
            "evaluate", at["finetuned"], "--dataset", test, "--output", at["evaluation"],
        )),
        Step(f"{name} predict", "predict", ("predict", at["finetuned"], test, "--output", at["found"])),
        Step(f"{name} profile", "profile", ("profile", at["finetuned"], "--repeats", "5", "--output", at["profile"])),
        *(
            Step(f"{name} export {kind}", f"export {kind}", (
                "export", at["finetuned"], "--format", kind, "--output", str(root / name / kind / file),
            ))
            for kind, file in exports.items()
        ),
    ]  # fmt: skip


def row_of(name: str, arguments: argparse.Namespace, record: Record, problem: str) -> dict[str, Any]:
    """What a detector's steps have found; what is not known is left out."""
    folder, steps = Path(arguments.output) / name, steps_of(name, arguments)
    row: dict[str, Any] = {
        "detector": name,
        "licence": "AGPL-3.0" if catalogue.family_named(name).agpl else "permissive",
        "minutes": round(sum(record.seconds.get(step.name, 0.0) for step in steps) / 60, 1),
        "exports": [step.title.split()[1] for step in steps if " export " in step.name and step.name in record.seconds],
        "problem": problem,
    }
    if f"{name} evaluate" in record.seconds:
        metrics = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
        row |= {key: metrics[key] for key in ("map_50", "map_50_95")}
    if f"{name} profile" in record.seconds:
        profile = json.loads((folder / "profile" / "profile.json").read_text(encoding="utf-8"))
        (facts,) = profile["models"]
        row["hardware"] = profile["hardware"]
        row |= {key: facts["networks"]["agssp"][key] for key in ("parameters", "images_per_second")}
        row["ratio"] = {batch: values[1] for batch, values in facts["ratio"].items()}
    return row


def table(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    """The rows as Markdown, with what they are of."""
    how = {
        "map_50": "{:.3f}".format,
        "map_50_95": "{:.3f}".format,
        "parameters": lambda value: f"{value / 1e6:.2f} M",
        "images_per_second": lambda rates: ", ".join(f"{rate:.3g} (batch {batch})" for batch, rate in rates.items()),
        "ratio": lambda ratios: ", ".join(f"{value:.2f}" for value in ratios.values()) or "none to compare with",
        "exports": ", ".join,
    }
    lines = [[how.get(key, str)(row[key]) if key in row else "" for key in COLUMNS] for row in rows]
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS), *lines]
    body = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
    epochs = f"{arguments.backbone_epochs}, {arguments.detector_epochs} and {arguments.finetune_epochs} epochs"
    # One, unless an interrupted run was finished elsewhere.
    machines = "; ".join(sorted({row["hardware"] for row in rows if "hardware" in row})) or "no machine yet"
    return (
        f"# {TITLE}\n\n"
        f"Every image is **synthetic** and every budget small: {arguments.unlabelled} unlabelled images of "
        f"{arguments.image_size} px, {arguments.per_class} labelled ones a class, {epochs} of backbone, detector and "
        "finetuning. The table says that each detector runs through every command, not which is better.\n\n"
        f"Detectors without a backbone of their own are on {arguments.backbone}. Images/s are those of the network "
        "alone; above 1 beside its home library ours is faster; DETECTOR/profile/profile.md has the spread. Minutes "
        f"include the backbone's, also where several share it. Measured on {machines}.\n\n{body}"
    )


if __name__ == "__main__":
    main()
