"""Make a seeded few-label training set and a test set from labelled images.

agssp split --dataset NEU-DET --per-class 10 --seed 0 --output few
agssp split --dataset labelled --count 50 --seed 1 --output mini50
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from agssp.errors import InputError

POSITIONAL = ()


@dataclass
class SplitArguments:
    """Which images become training images; all others are for testing."""

    dataset: str = field(metadata={"help": "labelled images: folder, COCO, YOLO, VOC, Parquet or Hub id"})
    output: str = field(metadata={"help": "folder for train/ and test/ (Parquet) and split.json"})
    per_class: int | None = field(default=None, metadata={"help": "training images a class"})
    count: int | None = field(default=None, metadata={"help": "training images in all"})
    fraction: float | None = field(default=None, metadata={"help": "share of training images, between 0 and 1"})
    seed: int = field(default=0, metadata={"help": "which of the possible choices"})
    split: str | None = field(default=None, metadata={"help": "split of the data set to divide"})
    category: str | None = field(default=None, metadata={"help": "object category, where the layout does not tell"})


ARGUMENTS = (SplitArguments,)


def main(arguments: SplitArguments) -> None:
    """Write train/ and test/ under the output folder."""
    from agssp.data.readers import read_dataset
    from agssp.data.schema import defect_names
    from agssp.data.splits import few_per_class, shuffled_order, split_rows

    ways = [arguments.per_class, arguments.count, arguments.fraction]
    if sum(way is not None for way in ways) != 1:
        raise InputError("give exactly one of --per-class, --count and --fraction")
    dataset = read_dataset(arguments.dataset, split=arguments.split, category=arguments.category)
    names = defect_names(dataset)
    if not names:
        raise InputError(f"{arguments.dataset}: has no labels (`objects`); a split needs labelled images")
    ids = list(dataset["image_id"])
    classes = [row["category"] for row in dataset["objects"]]
    if arguments.per_class is not None:
        train = few_per_class(ids, classes, arguments.per_class, arguments.seed, len(names))
    elif arguments.count is not None:
        if not 0 < arguments.count < len(ids):
            raise InputError(
                f"--count {arguments.count}: expected between 1 and {len(ids) - 1}, the images there are less one"
            )
        train = sorted(shuffled_order(ids, arguments.seed)[: arguments.count])
    else:
        _, train = split_rows(ids, classes, float(arguments.fraction or 0), arguments.seed)
    chosen = set(train)
    test = [row for row in range(len(ids)) if row not in chosen]

    output = Path(arguments.output)
    if output.exists() and any(output.iterdir()) and not (output / "split.json").is_file():
        raise InputError(f"--output {output}: holds files that are no split; give an empty or new folder")
    for name, rows in (("train", train), ("test", test)):
        (output / name).mkdir(parents=True, exist_ok=True)
        file = output / name / f"{name}-00000-of-00001.parquet"
        part = file.with_name(f".{file.name}.tmp")
        _embedded(dataset.select(rows)).to_parquet(part)
        part.replace(file)
    facts = {
        "dataset": arguments.dataset,
        "seed": arguments.seed,
        "classes": names,
        "train": [ids[row] for row in train],
        "test": [ids[row] for row in test],
    }
    (output / "split.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    print(f"{len(train)} training and {len(test)} test images in {output}")
    print(f"next: agssp finetune MODEL --dataset {output / 'train'} --output DIR")


def _embedded(dataset):
    """Put the bytes of image files into the rows, so that the Parquet file stands alone."""

    def read(row):
        images = {}
        for column in ("image", "mask"):
            value = row.get(column)
            if value is not None and value["bytes"] is None:
                images[column] = {"bytes": Path(value["path"]).read_bytes(), "path": Path(value["path"]).name}
        return images

    return dataset.map(read, features=dataset.features)
