"""Find defects in images: annotated pictures, JSON and a page.

Pictures with boxes, all boxes as COCO json, the images that could not be read, and a page with the clearest finds.
An interrupted run goes on where it stopped when the same command is run again, and new images of the folder are added.

    agssp predict runs/finetuned my_images --output found
    agssp predict runs/finetuned my_images --threshold 0.4 --image-size 640 --batch-size 32 --output found-0.4

OUTPUT/pictures/<image_id>.jpg (small images enlarged by a whole factor), OUTPUT/predictions.json (COCO: images,
categories, annotations with score; ids begin with 1), OUTPUT/predictions.jsonl (one image a line, written as it goes;
its labels are the detector's own, from 0 on), OUTPUT/skipped.jsonl, OUTPUT/report.html
"""

import heapq
import io
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.files import append_line, open_whole, whole_file
from agssp.output_folder import claim_output, keeps_outputs
from agssp.parsing import read_lines
from agssp.terminal import on_terminal
from agssp.version import __version__

if TYPE_CHECKING:
    from agssp.data.readers import ReadReport

POSITIONAL = ("model", "images")
SHOWN = 24


@dataclass
class PredictArguments:
    """What to look for defects in, and with which detector."""

    flag_groups: ClassVar = {
        "input": ("model", "images", "split", "streaming"),
        "boxes": ("threshold", "iou_threshold", "max_detections", "image_size"),
        "output": ("output", "pictures"),
        "machine": ("device", "batch_size"),
    }

    model: str = field(metadata={"help": "detector: a folder or Hub id, or a safetensors file of COCO weights"})
    images: str = field(metadata={"help": "a folder of images, one image file, or any data set"})
    output: str = field(metadata={"help": "folder to write to"})
    threshold: float = field(default=0.25, metadata={"help": "draw and report boxes with a score above this"})
    split: str | None = field(default=None, metadata={"help": "split of a data set that has several"})
    streaming: bool = field(default=False, metadata={"help": "read a Hub data set without downloading all of it first"})
    image_size: int | None = field(
        default=None, metadata={"help": "side of the square input; the model's own if left out"}
    )
    iou_threshold: float | None = field(
        default=None,
        metadata={"help": "of two boxes overlapping more than this one goes; default: 0.7 for YOLO, else as trained"},
    )
    max_detections: int = field(default=300, metadata={"help": "most boxes in one image"})
    batch_size: int = field(default=16, metadata={"help": "images in one forward pass"})
    pictures: bool = field(default=True, metadata={"help": "write JSON alone, no annotated pictures"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:N"})


ARGUMENTS = (PredictArguments,)


@on_terminal
@keeps_outputs
def main(arguments: PredictArguments) -> None:
    """Run the command."""
    from tqdm import tqdm

    from agssp.data.images import configured_bit_depth
    from agssp.data.reading import keep_reading
    from agssp.evaluation.inference import check_detection_flags, choose_device, detect, load_detector

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("predict runs in one process; give each process a part of the images and its own --output")
    check_detection_flags(arguments)
    device = choose_device(arguments.device)
    rows, total, reading = _rows(arguments)
    model = load_detector(arguments.model)
    names = {int(index): name for index, name in (model.config.id2label or {}).items()}
    output = Path(arguments.output)
    settings = {
        "model": arguments.model,
        "weights": _weights_of(model),
        "images": arguments.images,
        **{name: getattr(arguments, name) for name in ("split", "threshold", "iou_threshold", "max_detections")},
        "image_size": arguments.image_size or model.config.image_size,
        "bit_depth": configured_bit_depth(),
    }
    claim_output(output, "predict", settings)
    journal = output / "predictions.jsonl"
    # Only the names of finished images are kept in memory, about 100 bytes each.
    finished = {line["image_id"] for line in read_lines(journal, repair=True)}
    if finished:
        print(f"{len(finished)} images were finished by an earlier run and are kept")
    todo = (row for row in rows if row["image_id"] not in finished)
    owners = {_picture_path(output, image_id): image_id for image_id in finished if arguments.pictures}
    found = detect(
        model,
        tqdm(todo, total=None if total is None else total - len(finished), desc="predict", unit="image"),
        threshold=arguments.threshold,
        image_size=arguments.image_size,
        batch_size=min(arguments.batch_size, total or arguments.batch_size),
        iou_threshold=arguments.iou_threshold,
        max_detections=arguments.max_detections,
        keep_images=arguments.pictures,
        device=device,
    )
    # What could not be read is tried again at each run, so its list begins anew.
    with (
        journal.open("a", encoding="utf-8") as lines,
        open_whole(output / "skipped.jsonl") as skipped,
    ):
        for result in found:
            if result.error is not None:
                append_line(skipped, {"image_id": result.image_id, "reason": result.error})
                continue
            if result.image is not None:
                path = _picture_path(output, result.image_id)
                other = owners.setdefault(path, result.image_id)
                if other != result.image_id:
                    raise InputError(
                        f"images {other!r} and {result.image_id!r} would share the picture {path}; give them other "
                        "names, or leave the pictures out (--no-pictures)"
                    )
                _save_picture(output, path, result, names)
            append_line(lines, {
                "image_id": result.image_id, "height": result.size[0], "width": result.size[1],
                "boxes": [[round(value, 2) for value in box] for box in result.boxes.tolist()],
                "scores": [round(score, 5) for score in result.scores.tolist()], "labels": result.labels.tolist(),
            })  # fmt: skip
    keep_reading(output / "reading.json", reading)
    _finish(output, names, arguments)


def _finish(output: Path, names: dict[int, str], arguments: PredictArguments) -> None:
    """The COCO file, the page and the last words, all from the journal."""
    from agssp.data.image_notes import image_notes
    from agssp.report.page import write_page

    journal = output / "predictions.jsonl"
    bad = list(read_lines(output / "skipped.jsonl"))
    _write_coco(output / "predictions.json", journal, names)
    best: list[tuple[float, str]] = []
    scores, per_image, classes = array("f"), Counter[int](), Counter[str]()
    for line in read_lines(journal):
        per_image[len(line["scores"])] += 1
        classes.update(names[label] for label in line["labels"])
        scores.extend(line["scores"])
        if line["scores"]:
            heapq.heappush(best, (max(line["scores"]), line["image_id"]))
            if len(best) > SHOWN:
                heapq.heappop(best)
    page = _sections(output, arguments, best=sorted(best, reverse=True), scores=scores, per_image=per_image, bad=bad,
                     classes=classes, names=names)  # fmt: skip
    write_page(output / "report.html", "Defects found", page)
    images, empty = sum(per_image.values()), per_image[0]
    print(f"{images} images: {len(scores)} defects in {images - empty} of them, {empty} without; {len(bad)} skipped")
    for name, count in classes.most_common():
        print(f"  {name}: {count}")
    if bad:
        print(f"skipped images and why: {output / 'skipped.jsonl'}")
    for note in image_notes().lines():
        print(note)
    print(f"look at {output / 'report.html'}; boxes as COCO json: {output / 'predictions.json'}")
    print(f"next, with labels: {next_step(arguments, names)}")


def next_step(arguments: PredictArguments, names: dict[int, str]) -> str:
    """The command that measures the detector, at the same image size."""
    # Labelled images have other classes than the one of pseudo boxes.
    agnostic = True if list(names.values()) == ["defect"] else None
    flags = {"image_size": arguments.image_size, "class_agnostic": agnostic}
    return shell_command("evaluate", arguments.model, dataset="LABELLED_IMAGES", **flags, output="evaluation")


def _sections(
    output: Path, arguments: PredictArguments, *, best: list[tuple[float, str]], scores: Any, per_image: Counter[int],
    classes: Counter[str], bad: list[dict[str, str]], names: dict[int, str],
) -> list[Any]:  # fmt: skip
    """The page: counts, the clearest finds, what was skipped, what to do next."""
    from agssp.data.images import open_image
    from agssp.report import figures
    from agssp.report.page import Code, Picture, Row, Section, Table, Text
    from agssp.report.pictures import tile

    images = sum(per_image.values())
    summary = f"{images:,} images, defects in {images - per_image[0]:,} of them, at scores above {arguments.threshold}."
    blocks: list[Any] = [Text(f"{summary} Detector: `{arguments.model}`. Images: `{arguments.images}`.")]
    if classes:
        counts = np.repeat(list(per_image), list(per_image.values()))
        in_image = figures.histogram(
            counts, title="Boxes in an image", x_label="boxes", y_label="images", bins="integers"
        )
        score = figures.histogram(np.asarray(scores), title="Scores", x_label="score", y_label="boxes")
        blocks += [Table(("class", "boxes"), classes.most_common()), Row((Picture(in_image), Picture(score)))]
    sections = [Section("What was found", blocks)]
    tiles = []
    for highest, name in best:
        path = _picture_path(output, name)
        if path.is_file():
            with open_image(path, name) as picture:
                tiles.append((tile(picture, side=360), f"{_short(name)}  {highest:.2f}"))
    if tiles:
        sheet = figures.contact_sheet([tiles[start : start + 4] for start in range(0, len(tiles), 4)], tile_inches=2.6)
        shown = f"The {len(tiles)} images with the highest scores; all pictures are in the folder `pictures`."
        sections.append(Section("The clearest finds", [Text(shown), Picture(sheet)]))
    if bad:
        rows = [(line["image_id"], line["reason"]) for line in bad[:50]]
        sections.append(Section("Skipped", [Table(("image", "reason"), rows, f"{len(bad)} images in skipped.jsonl")]))
    sections.append(Section("Next", [Code(next_step(arguments, names), "How good it is on labelled images:")]))
    return sections


def _save_picture(output: Path, path: Path, result: Any, names: dict[int, str]) -> None:
    from agssp.report.pictures import class_colours, draw_boxes

    # Small images are enlarged by a whole factor, or the text would cover them.
    factor = max(1, 480 // max(result.size))
    image = Image.fromarray(result.image)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)
    words = [names[int(label)] for label in result.labels]
    colours = class_colours(result.labels)
    drawn = draw_boxes(image, result.boxes * factor, scores=result.scores, names=words, colours=colours)
    # Not by Pillow itself, which takes no notice of a full disk and leaves half a picture.
    content = io.BytesIO()
    drawn.save(content, "JPEG", quality=90)
    with whole_file(path, parts=output, durable=False) as part:
        part.write_bytes(content.getvalue())


def _rows(arguments: PredictArguments) -> "tuple[Iterable[dict[str, Any]], int | None, ReadReport]":
    """Rows with undecoded image and image_id, how many there are if that is known, and the report of reading them."""
    from agssp.data.image_notes import begin_image_notes
    from agssp.data.readers import NamedRows, ReadReport
    from agssp.data.reading import read_told

    path = Path(arguments.images)
    if path.is_file() and path.suffix.lower() not in (".json", ".yaml", ".yml", ".parquet"):
        alone = ReadReport(layout="image", images=1, unknown=1, image_notes=begin_image_notes())
        return [{"image": {"path": str(path), "bytes": None}, "image_id": path.name}], 1, alone
    dataset, reading = read_told(arguments.images, "IMAGES", split=arguments.split, streaming=arguments.streaming)
    dataset = dataset.select_columns(["image", "image_id"])
    return NamedRows(dataset, arguments.images), None if arguments.streaming else len(dataset), reading


def _weights_of(model: Any) -> str:
    """A fingerprint of the weights: another checkpoint in the same folder is another detector."""
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _picture_path(output: Path, image_id: str) -> Path:
    # The whole name with its own suffix: a.png and a.bmp are two images. Never outside the folder.
    parts = [part for part in PurePosixPath(image_id.replace("\\", "/")).parts if part not in ("..", "/")]
    return output.joinpath("pictures", *parts[:-1], f"{parts[-1]}.jpg")


def _write_coco(path: Path, journal: Path, names: dict[int, str]) -> None:
    """COCO json from the journal, line by line."""
    from agssp.data.coco_file import FIRST_COCO_ID, write_coco_file

    categories = [{"id": index + FIRST_COCO_ID, "name": name} for index, name in sorted(names.items())]
    facts = {"info": {"description": "defects predicted by agssp", "version": __version__}, "categories": categories}
    images = (
        {"id": number, "file_name": line["image_id"], "width": line["width"], "height": line["height"]}
        for number, line in enumerate(read_lines(journal), FIRST_COCO_ID)
    )

    def annotations() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(read_lines(journal), FIRST_COCO_ID):
            for box, score, label in zip(line["boxes"], line["scores"], line["labels"], strict=True):
                left, top, right, bottom = box
                width, height = round(right - left, 2), round(bottom - top, 2)
                yield {"image_id": number, "category_id": label + FIRST_COCO_ID, "category": names[label],
                       "bbox": [left, top, width, height], "area": round(width * height, 2), "score": score,
                       "iscrowd": 0}  # fmt: skip

    write_coco_file(path, facts, images, annotations())


def _short(name: str, length: int = 38) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
