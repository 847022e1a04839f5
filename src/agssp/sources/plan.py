"""Which rows a built data set has, in which split and in which shard, before any image is opened."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agssp.data.readers.records import check_names
from agssp.data.splits import shuffled_order, split_rows
from agssp.errors import InputError
from agssp.sources.defects import MaskFile
from agssp.sources.file_sizes import file_bytes
from agssp.sources.image import SourceImage, fingerprint
from agssp.sources.table import Source, find_source

SPLITS = ("train", "validation", "test")
# A shard is held in memory while it is made, and is the unit of work and of upload.
SHARD_BYTES = 256 * 2**20
SHARD_IMAGES = 1000


@dataclass(frozen=True)
class Shard:
    """One Parquet file of the data set: `index` of the `count` of its split."""

    split: str
    index: int
    count: int
    images: tuple[SourceImage, ...]

    @property
    def name(self) -> str:
        """Its file below `data/`."""
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}.parquet"


@dataclass(frozen=True)
class Plan:
    """All rows of a data set.

    Attributes:
        images: in the order of the rows.
        categories: names, in label order.
        classes: classes of `objects` in label order; None where the data set has no boxes.
        mask: whether it has a column of masks.
        shards: the images split by split.
        key: hash of what decides the rows.
    """

    images: tuple[SourceImage, ...]
    categories: tuple[str, ...]
    classes: tuple[str, ...] | None
    mask: bool
    shards: tuple[Shard, ...]
    key: str


def plan_source(source: Source, images: Sequence[SourceImage], seed: int, **limits: int) -> Plan:
    """The rows of one source, in the splits that its layout or its entry in the table gives.

    Args:
        source: the source.
        images: all its images.
        seed: of splits and subsets that are drawn.
        limits: `shard_images` and `shard_bytes`, the most that one shard holds.

    Raises:
        InputError: a subset asks for more training images than there are, or a class is not in the source's list.
    """
    rows = divided(source, images, seed)
    classes = (find_source(source.subset["of"]) if source.subset else source).classes
    return _plan(rows, classes, **limits)


def plan_corpus(parts: Sequence[tuple[Source, Sequence[SourceImage]]], **limits: int) -> Plan:
    """The rows of many sources as one unlabelled corpus: all in `train`, ids beginning with their source's name."""
    rows = [
        replace(image, image_id=f"{source.name}/{image.image_id}", split="train")
        for source, images in parts
        for image in images
    ]
    return _plan(rows, [], **limits)


def divided(source: Source, images: Sequence[SourceImage], seed: int) -> list[SourceImage]:
    """Images with a split each, those of a subset alone.

    Raises:
        InputError: a subset asks for more training images than there are.
    """
    if source.subset:
        whole = divided(find_source(source.subset["of"]), images, seed)
        train = [image for image in whole if image.split == "train"]
        count = int(source.subset["train"])
        if len(train) < count:
            raise InputError(
                f"{source.name}: takes {count} training images of {source.subset['of']}, but there are {len(train)}; "
                "is the download complete?"
            )
        chosen = sorted(shuffled_order([image.image_id for image in train], seed)[:count])
        return [train[row] for row in chosen] + [image for image in whole if image.split != "train"]
    if source.split and all(image.split is None for image in images):
        ((second, share),) = source.split.items()
        names = [sorted(_classes_of(image, crowds=False)) for image in images]
        order = sorted({name for row in names for name in row})
        first, _ = split_rows(
            [image.image_id for image in images], [[order.index(name) for name in row] for row in names], share, seed
        )
        chosen_rows = set(first)
        return [replace(image, split="train" if row in chosen_rows else second) for row, image in enumerate(images)]
    return [image if image.split else replace(image, split="train") for image in images]


def _plan(
    rows: Sequence[SourceImage],
    classes: Sequence[str],
    shard_images: int = SHARD_IMAGES,
    shard_bytes: int = SHARD_BYTES,
) -> Plan:
    unknown = sorted({image.split or "" for image in rows} - set(SPLITS))
    if unknown:
        raise InputError(f"split {unknown[0]!r}: expected one of {', '.join(SPLITS)}")
    ordered = sorted(rows, key=lambda image: (SPLITS.index(image.split or ""), image.image_id))
    found: dict[str, str] = {}
    for image in ordered:
        found |= {name: image.image_id for name in _classes_of(image)}
    if classes:
        for name, image_id in found.items():
            check_names([name], classes, image_id)
    labelled = any(image.boxes or image.masks for image in ordered)
    return Plan(
        images=tuple(ordered),
        categories=tuple(sorted({image.category for image in ordered})),
        classes=tuple(classes or sorted(found)) if labelled else None,
        mask=any(image.masks for image in ordered),
        shards=tuple(_shards(ordered, shard_images, shard_bytes)),
        key=fingerprint(ordered),
    )


def _classes_of(image: SourceImage, *, crowds: bool = True) -> set[str]:
    """Classes of an image's boxes, also of crowd regions or not; where boxes come of its masks, what these may show."""
    if image.boxes is not None:
        return {box.defect_type for box in image.boxes if crowds or not box.iscrowd}
    names: set[str] = set()
    for mask in image.masks or []:
        told = mask.values if isinstance(mask, MaskFile) else ()
        names |= {name for _, name in told} or {mask.defect_type}
    return names


def _shards(images: Sequence[SourceImage], most_images: int, most_bytes: int) -> list[Shard]:
    shards = []
    for split in SPLITS:
        groups: list[list[SourceImage]] = []
        held = 0
        for image in images:
            if image.split == split:
                size = file_bytes(image.path)
                if not groups or len(groups[-1]) == most_images or held + size > most_bytes:
                    groups.append([])
                    held = 0
                groups[-1].append(image)
                held += size
        shards += [Shard(split, index, len(groups), tuple(group)) for index, group in enumerate(groups)]
    return shards
