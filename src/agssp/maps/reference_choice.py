"""Choose the images that the others are compared with, by seed; images are told apart by their content."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agssp.data.content import content_hash
from agssp.data.images import ImageError, decode_image
from agssp.data.splits import shuffled_order
from agssp.errors import InputError

Chosen = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ReferencePool:
    """Images that references may be chosen from.

    Attributes:
        image_ids: what people call each image; two may share a name.
        categories: object category of each; None where it is not known.
        is_normal: whether each is sound; None where it is not known.
        image: row -> its encoded image.
        where: how an error calls the pool, for instance ` in the folder sound`.
    """

    image_ids: Sequence[str]
    categories: Sequence[str | None]
    is_normal: Sequence[bool | None]
    image: Callable[[int], Any]
    where: str = ""

    @classmethod
    def from_rows(cls, rows: Any, names: Sequence[str], where: str = "") -> "ReferencePool":
        """The rows of a data set in the schema, or a list of its rows; `names` are those of the labels."""
        table = rows.select_columns(["image_id", "category", "is_normal"]) if hasattr(rows, "select_columns") else rows
        facts = [
            (row["image_id"], None if row["category"] is None else names[row["category"]], row["is_normal"])
            for row in table
        ]
        images = rows.select_columns(["image"]) if hasattr(rows, "select_columns") else rows
        return cls(
            [fact[0] for fact in facts],
            [fact[1] for fact in facts],
            [fact[2] for fact in facts],
            lambda row: images[row]["image"],
            where,
        )

    def count_normal(self, category: str) -> int:
        """How many sound images of a category there are, readable or not."""
        pairs = zip(self.categories, self.is_normal, strict=True)
        return sum(name == category and bool(is_normal) for name, is_normal in pairs)

    def of_normal_images(self, wanted: Iterable[str]) -> "ReferencePool":
        """The pool as a collection of sound images: all count but those known to be defective.

        Where both the pool and what is wanted are of one category, its images serve that one whatever it is called.

        Raises:
            InputError: a wanted category has no images here.
        """
        wanted = list(wanted)
        here = sorted({name for name in self.categories if name is not None})
        categories = list(self.categories)
        if len(here) == len(wanted) == 1:
            categories = [wanted[0] if name == here[0] else None for name in categories]
        missing = [name for name in wanted if name not in categories]
        if missing:
            raise InputError(
                f"--references: has no images of {', '.join(missing)}{self.where}; expected one folder a category, "
                f"there are {', '.join(here)}"
            )
        sound = [is_normal is not False for is_normal in self.is_normal]
        return ReferencePool(self.image_ids, categories, sound, self.image, self.where)

    def pictures(self, entry: dict[str, Any], max_pixels: int) -> list[Any]:
        """Decode the images of an entry of `choose_references`, in its order.

        Raises:
            InputError: one is no longer there, or has other content than when it was chosen.
        """
        wanted = set(entry["image_ids"])
        rows: dict[str, int] = {}
        for row, image_id in enumerate(self.image_ids):
            if image_id in wanted:
                with contextlib.suppress(ImageError):  # named below, as one that has changed
                    rows[content_hash(self.image(row))] = row
        pictures = []
        for image_id, sha256 in zip(entry["image_ids"], entry["sha256"], strict=True):
            if sha256 not in rows:
                raise InputError(
                    f"{image_id}: was chosen as a reference when the store was begun, but is gone or has changed"
                    f"{self.where}; put it back, or begin a new --output"
                )
            pictures.append(decode_image(self.image(rows[sha256]), image_id, max_pixels=max_pixels))
        return pictures


def choose_references(
    pool: ReferencePool,
    categories: Sequence[str],
    *,
    asked: str,
    shots: int,
    count: int,
    seed: int,
    max_pixels: int,
) -> Chosen:
    """Choose the reference images of each category among those that can be read and differ in content.

    Args:
        pool: where from; `is_normal` says which are sound.
        categories: those that need references.
        asked: `mutual`, `auto` (normal where there are enough, else mutual), or anything else for normal.
        shots: normal references that an image is compared with; one more is chosen where there is one, so that a
            reference image, too, has so many others to be compared with.
        count: mutual references.
        seed: which of the possible choices.
        max_pixels: larger images are passed over.

    Returns:
        Category -> {`mode`, `image_ids`, `sha256`}; a category without references (zero-shot) is absent.

    Raises:
        InputError: fewer normal images than shots; all such categories are named with what there is.
    """
    members: dict[str, list[int]] = {name: [] for name in categories}
    for row, name in enumerate(pool.categories):
        if name in members:
            members[name].append(row)

    def first_good(rows: list[int], most: int) -> dict[str, str]:
        good: dict[str, str] = {}
        for position in shuffled_order([pool.image_ids[row] for row in rows], seed):
            if len(good) == most:
                break
            image_id, image = pool.image_ids[rows[position]], pool.image(rows[position])
            try:
                decode_image(image, image_id, max_pixels=max_pixels)
            except ImageError:
                continue
            # A copy of an image that is chosen already would be no other image to be compared with.
            good.setdefault(content_hash(image), image_id)
        return good

    chosen: Chosen = {}
    short: list[str] = []
    for name, rows in members.items():
        if asked != "mutual" and shots == 0:
            continue
        mode, good = "mutual", {}
        if asked != "mutual":
            good = first_good([row for row in rows if pool.is_normal[row]], shots + 1)
            if len(good) >= shots or asked != "auto":
                mode = "normal"
            if len(good) < shots and asked != "auto":
                short.append(f"{name} has {len(good)}")
        if mode == "mutual":
            good = first_good(rows, count)
            if len(good) < 2:
                short.append(f"{name} has {len(good)} readable images in all, mutual scoring needs 2")
        chosen[name] = {"mode": mode, "image_ids": list(good.values()), "sha256": list(good)}
    if short:
        raise InputError(
            f"--references {asked} --shots {shots}: too few images to compare with{pool.where}: {'; '.join(short)}. "
            "Use fewer --shots, --references mutual (needs no normal images), --references auto, or --references FOLDER"
            " with normal images"
        )
    return chosen
