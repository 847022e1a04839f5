"""Make a seeded few-label training set and a test set from labelled images.

agssp split --dataset NEU-DET --per-class 10 --seed 0 --output few
agssp split --dataset labelled --count 50 --seed 1 --output mini50
agssp split --dataset GC10-DET --holdout 0.3 --count 500 --output gc10-mini
agssp split --dataset labelled --count 50 --test my-test-images --output mini50
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.files import write_json
from agssp.output_folder import hold_output, keeps_outputs
from agssp.parsing import read_json
from agssp.terminal import on_terminal

POSITIONAL = ()
RECORD = "split.json"


@dataclass
class SplitArguments:
    """Which images become training images; all others are for testing."""

    flag_groups: ClassVar = {
        "input": ("dataset", "split", "category", "crowds"),
        "choice": ("per_class", "count", "fraction", "holdout", "test", "seed"),
        "output": ("output",),
    }

    dataset: str = field(metadata={"help": "labelled images: folder, COCO, YOLO, VOC, Parquet or Hub id"})
    output: str = field(metadata={"help": "folder for train/ and test/ (Parquet) and split.json"})
    per_class: int | None = field(default=None, metadata={"help": "training images a class"})
    count: int | None = field(default=None, metadata={"help": "training images in all"})
    fraction: float | None = field(default=None, metadata={"help": "share of training images, between 0 and 1"})
    holdout: float | None = field(
        default=None,
        metadata={"help": "share of the images put aside for testing first; others not drawn are left out"},
    )
    test: str | None = field(
        default=None, metadata={"help": "test images that exist already: none is written, and none may be trained on"}
    )
    seed: int = field(default=0, metadata={"help": "which of the possible choices"})
    split: str | None = field(default=None, metadata={"help": "split of the data set to divide"})
    category: str | None = field(default=None, metadata={"help": "object category, where the layout does not tell"})
    crowds: str = field(
        default="auto",
        metadata={"help": "boxes with iscrowd 1: objects, ignore (regions), or auto: objects if all of a file have it"},
    )


ARGUMENTS = (SplitArguments,)


@on_terminal
@keeps_outputs
def main(arguments: SplitArguments) -> None:
    """Write train/ and test/ under the output folder."""
    from agssp.data.labels import object_classes, trainable_rows
    from agssp.data.parquet_shards import write_shards
    from agssp.data.reading import read_labelled, read_told
    from agssp.data.schema import defect_names
    from agssp.data.splits import split_rows

    ways = [arguments.per_class, arguments.count, arguments.fraction]
    if sum(way is not None for way in ways) != 1 and not (arguments.holdout is not None and not any(ways)):
        raise InputError("give exactly one of --per-class, --count and --fraction (or --holdout alone)")
    if arguments.holdout is not None and arguments.test is not None:
        raise InputError("give --holdout, to put images aside for testing, or --test, where there are some, not both")
    dataset, report = read_labelled(
        arguments.dataset, split=arguments.split, category=arguments.category, crowds=arguments.crowds
    )
    dataset, unreadable = decodable(dataset, arguments.dataset)
    names = defect_names(dataset)
    ids = list(dataset["image_id"])
    trainable = set(trainable_rows(dataset, arguments.dataset))
    if len(trainable) < len(ids):
        print(f"{len(ids) - len(trainable)} images have crowd regions alone (iscrowd 1); none of them is for training")
    classes = object_classes(dataset)
    shown = {index for row in classes for index in row}
    empty = [name for index, name in enumerate(names) if index not in shown]
    if arguments.per_class is not None and empty:
        print(f"no image shows {', '.join(empty)}: --per-class chooses for the other classes")
    pool: list[int] = list(range(len(ids)))
    test: list[int] = []
    if arguments.holdout is not None:
        pool, test = split_rows(ids, classes, arguments.holdout, arguments.seed)
    elif arguments.test is not None:
        check_apart(dataset, read_told(arguments.test, "--test")[0], arguments.test)
    reserved = arguments.holdout is not None or arguments.test is not None
    train = usable = [row for row in pool if row in trainable]
    if arguments.holdout is None or any(way is not None for way in ways):
        may_take_all = reserved or len(usable) < len(pool)
        positions = choose(
            arguments,
            [ids[row] for row in usable],
            [classes[row] for row in usable],
            names,
            shown,
            may_take_all,
            report.origin(),
        )
        train = [usable[position] for position in positions]
    if not reserved:
        chosen = set(train)
        test = [row for row in pool if row not in chosen]

    facts = {
        "dataset": arguments.dataset,
        "seed": arguments.seed,
        "classes": names,
        "train": [ids[row] for row in train],
        "test": [ids[row] for row in test] if arguments.test is None else arguments.test,
        **({"left_out": unreadable} if unreadable else {}),
        # As splits were recorded before there was the choice.
        **({} if arguments.crowds == "auto" else {"crowds": arguments.crowds}),
    }
    output = Path(arguments.output)
    claim(output, facts, report.as_json())
    parts = {"train": train} if arguments.test is not None else {"train": train, "test": test}
    for name, rows in parts.items():
        write_shards(dataset.select(rows), output / name, name, parts=output)
    measured = "those of " + arguments.test if arguments.test else f"{len(test)}"
    print(f"{len(train)} training and {measured} test images in {output}")
    tested = arguments.test or output / "test"
    next_step = shell_command("finetune", "MODEL", dataset=output / "train", test=tested, output="DIR")
    print(f"next: {next_step}")


def decodable(dataset: Any, source: str) -> tuple[Any, dict[str, str]]:
    """The rows whose image and mask can be decoded, for what is written stands for itself and may be passed on.

    Args:
        dataset: rows of the schema.
        source: names them in what is said.

    Returns:
        The rows, and of those that are left out image_id -> reason.

    Raises:
        InputError: no image can be decoded.
        StorageError: the machine failed.
    """
    from tqdm import tqdm

    from agssp.data.images import ImageError, checked_content
    from agssp.data.stored_mask import read_stored_mask

    columns = [name for name in ("image_id", "image", "mask") if name in dataset.features]
    good, bad = [], {}
    for number, row in enumerate(tqdm(dataset.select_columns(columns), desc="decode", unit="image")):
        try:
            checked_content(row["image"], row["image_id"])
            if row.get("mask") is not None:
                checked_content(row["mask"], f"mask of {row['image_id']}", read_stored_mask)
            good.append(number)
        except ImageError as error:
            bad[row["image_id"]] = str(error)
    if not bad:
        return dataset, bad
    first = next(iter(bad.values()))
    if not good:
        raise InputError(f"{source}: none of its {len(bad)} images can be decoded; the first: {first}")
    print(f"{source}: {len(bad)} images cannot be decoded and are left out of the split, first: {first}")
    return dataset.select(good), bad


def choose(
    arguments: SplitArguments,
    ids: list[str],
    classes: list[list[int]],
    names: list[str],
    shown: set[int],
    may_take_all: bool,
    origin: str = "",
) -> list[int]:
    """Training rows among the images that may be trained on.

    Args:
        arguments: how many, and the seed.
        ids: of the images, in row order.
        classes: of each image's boxes.
        names: of the classes.
        shown: the classes that any image shows; each is to occur among `--per-class` images.
        may_take_all: whether there are test images elsewhere.
        origin: what was read, for the error that there are too few images.

    Raises:
        InputError: there are not so many images, or none would be left to test on.
    """
    from agssp.data.splits import few_per_class, shuffled_order, split_rows

    most = len(ids) if may_take_all else len(ids) - 1
    if arguments.per_class is not None:
        if arguments.per_class < 1:
            raise InputError(f"--per-class {arguments.per_class}: expected 1 or more")
        train = few_per_class(ids, classes, arguments.per_class, arguments.seed, names, shown)
        if len(train) > most:
            raise InputError(f"--per-class {arguments.per_class} takes all {len(ids)} images; none is left to test on")
        return train
    if arguments.count is not None:
        if not 0 < arguments.count <= most:
            less = "" if may_take_all else ", the images there are less one"
            raise InputError(
                f"--count {arguments.count}: expected between 1 and {most}{less}{f' ({origin})' if origin else ''}"
            )
        return sorted(shuffled_order(ids, arguments.seed)[: arguments.count])
    return split_rows(ids, classes, float(arguments.fraction or 0), arguments.seed)[1]


def check_apart(dataset: Any, test: Any, name: str) -> None:
    """Raise InputError if an image is among the test images too, by the bytes of its file."""
    from agssp.data.content import content_hash

    tested = {content_hash(row["image"]): row["image_id"] for row in test.select_columns(["image", "image_id"])}
    both = [(row["image_id"], tested[key]) for row in dataset.select_columns(["image", "image_id"])
            if (key := content_hash(row["image"])) in tested]  # fmt: skip
    if both:
        raise InputError(
            f"--test {name}: {len(both)} of its images are among the training images too, first {both[0][1]} as "
            f"{both[0][0]}; take them out of one of both"
        )


def claim(output: Path, facts: dict[str, Any], reading: dict[str, Any]) -> None:
    """Write split.json before any image, so that a run cut short is finished by the same split alone.

    Args:
        output: the folder.
        facts: what the split is.
        reading: what was read, which is kept beside it.

    Raises:
        InputError: the folder holds something else, or another split, whose training images may be this one's for
            testing.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: expected a folder, there is a file of that name")
    hold_output(output, "split")
    record = output / RECORD
    if record.is_file():
        before = read_json(record, remedy="remove it and what lies beside it, or give a new folder")
        if {name: value for name, value in before.items() if name != "reading"} != facts:
            raise InputError(
                f"--output {output}: holds another split (seed {before.get('seed')}, {len(before.get('train', []))} "
                "training images); give a new folder"
            )
    # Hidden files are what an interrupted run left behind.
    elif output.exists() and any(entry.name[0] != "." for entry in output.iterdir()):
        raise InputError(f"--output {output}: holds files that are no split; give an empty or new folder")
    output.mkdir(parents=True, exist_ok=True)
    write_json(record, facts | {"reading": reading})
