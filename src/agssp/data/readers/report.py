"""What reading a data set found, changed and left out: one report, whichever reader made it."""

import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.data.image_notes import ImageNotes

logger = logging.getLogger(__name__)

EXAMPLES = 5
CAUSES: dict[str, tuple[str, str]] = {
    # What happened, and the sentence that follows the number of times.
    "clipped": ("clipped", "boxes reached beyond their image and were clipped"),
    "no_area": ("dropped", "boxes have no area inside their image and were dropped"),
    "damaged": ("dropped", "labelled images cannot be opened; their boxes were left out, and nothing is known of them"),
    "all_dropped": ("dropped", "images lost all of their boxes; nothing is known of them, they are not taken as sound"),
    "not_boxes": ("dropped", "shapes have no area (points, lines, whole-image tags) and were left out"),
    "flagged": ("dropped", "images have flags that are set, and no shapes; nothing is known of them"),
    "shape_flags": ("dropped", "files of labelme have flags that are set beside shapes; the flags were left out"),
    "deleted": ("dropped", "objects are marked as deleted in their file and were left out"),
    "unread_masks": ("dropped", "brush masks are not read and were left out; export them as COCO or as polygons"),
    "other_annotations": ("dropped", "tasks have more than one annotation, of which the newest was read"),
    "predictions": ("dropped", "tasks have predictions and no annotation; predictions are no labels"),
    "unannotated": ("dropped", "images have no labels yet; nothing is known of them"),
    "unlisted": ("dropped", "images lie in the folder but are not in its table of labels; they were left out"),
    "missing_images": ("dropped", "images of the tables of labels are not there"),
    "part_of_outlines": ("dropped", "images lack outlines of some of their boxes; their outlines were left out"),
    "outside_splits": ("dropped", "images lie in none of the folders that were read as splits and were left out"),
    "second_label_files": ("dropped", "label files are the second of their image, elsewhere, and were not read"),
    "other_labels": ("dropped", "images have labels of another tool alone, not read here; nothing is known of them"),
    "orphans": ("dropped", "annotation files have no image and were left out"),
    "extra_fields": ("dropped", "rows say more of their boxes than box, class, score and iscrowd; that was left out"),
    "unread_fields": (
        "dropped",
        "fields of tables may be labels and were not read; boxes belong into `objects`, masks into `mask_file_name`",
    ),
    "empty_classes": ("dropped", "classes without boxes were left out"),
    "ignored_tables": ("dropped", "other tables of labels lie there and were not read"),
    "unread_files": ("dropped", "files of labels lie there in a form, or in a place, that is not read"),
    "other_splits": ("dropped", "other splits lie there and were not read"),
    "keypoints": ("dropped", "rows have keypoints, of which the box alone was read"),
    "track_ids": ("dropped", "rows end with the number of a track, which was left out"),
    "scaled": ("scaled", "images have the proportions, not the size, that their labels state; boxes were scaled"),
    "turned": ("turned", "photos are turned by EXIF, their labels are of the stored pixels; boxes were turned"),
    "rotated": ("turned", "boxes are rotated; the upright box around each was taken"),
    "reversed": ("turned", "boxes had their corners in another order, which was put right"),
    "duplicates": ("deduplicated", "boxes stood there twice and count once"),
    "listed_twice": ("deduplicated", "images stand twice in the list of their split and count once"),
    "same_class": ("deduplicated", "categories stood there twice under one name and count as one class"),
    "turned_as_others": ("guessed", "photos turned by EXIF do not tell which way their labels are; as the others"),
    "turned_unknown": ("guessed", "photos turned by EXIF do not tell which way their labels are; taken as upright"),
    "found_by_name": ("guessed", "images were not where their labels say and were found by their own name"),
    "no_label_file": ("guessed", "images have no label file and are taken as images without defects"),
    "shared": ("guessed", "annotation files belong to more than one image, which all got their boxes"),
    "outlines": ("guessed", "boxes were drawn around an outline, where no box was given"),
    "crowds": ("guessed", "boxes are marked as crowds (iscrowd 1)"),
    "crowds_in_streams": ("guessed", "boxes are marked as crowds and ignored: a stream cannot tell if all boxes are"),
    "difficult": ("guessed", "boxes are marked as difficult and count as any other"),
    "scores": ("guessed", "rows have a sixth number between 0 and 1, which was taken as the score"),
    "numbered_classes": ("guessed", "boxes have the number of a class that has no name; that is called by its number"),
    "contrary_names": ("guessed", "lists of class names say otherwise than the table and were not read"),
    "class_gaps": ("guessed", "class numbers have no name in the table; no label uses them"),
    "data_elsewhere": ("guessed", "table has its data in another folder, by its `path`, which was read"),
    "outside_files": ("guessed", "pictures lie outside of the table's folder; it names them by their absolute paths"),
    "linked_folders": ("guessed", "links lead to folders elsewhere, whose files were read as the data set's own"),
    "numbers_as_places": ("guessed", "classes have numbers for names, taken as places in the asked list of classes"),
    "masks_aside": ("dropped", "pictures are masks by their names; boxes were read, and they were left out"),
    "unmatched_masks": ("dropped", "masks are named like no image or several, or share one, and were left out"),
    "same_stem": ("guessed", "images have the name of another beside them; if one is its mask, put it into `masks/`"),
    "other_pictures": ("dropped", "pictures are in files of a kind that is not read, by their suffix; save as PNG"),
    "defect_folders": ("guessed", "folders beside one of sound images are taken for types of defect, not for objects"),
    "split_by_default": ("guessed", "split was read of several, as none was asked for"),
}  # fmt: skip
"""Each cause of a change, by name. `clipped`, `dropped`, `scaled`, `turned`, `deduplicated` or `guessed`."""


@dataclass
class Cause:
    """How often something happened, and the first few places where it did."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class ReadReport:
    """What a reader found, changed and left out.

    Attributes:
        layout: one of `FORMATS`.
        labels_from: the file that labels were read from, or the first of several; empty where there is none.
        images: number of images.
        with_label_file: images for which something was written down, be it that they have no defects; None where the
            layout has no files of labels.
        with_boxes: images with boxes.
        sound: images known to have no defects.
        unknown: images of which nothing is known.
        boxes: number of boxes of each class, in the order of the classes.
        crowds: boxes that are crowd regions, which no class counts.
        with_mask: images with a mask; of a stream not counted.
        causes: what was changed or left out, by the names of `CAUSES`.
        shares: of each class the shorter side of each box as a share of its image's longer side.
        streamed: whether rows come one by one; then each cause is told at once, and the numbers grow with the rows.
        image_notes: what this process notices in the images when it decodes them, as of files with several pages.
    """

    layout: str = ""
    labels_from: str = ""
    images: int = 0
    with_label_file: int | None = None
    with_boxes: int = 0
    sound: int = 0
    unknown: int = 0
    boxes: dict[str, int] = field(default_factory=dict)
    crowds: int = 0
    with_mask: int = 0
    causes: dict[str, Cause] = field(default_factory=dict)
    shares: dict[str, array] = field(default_factory=dict)
    streamed: bool = False
    image_notes: ImageNotes | None = None

    def note(self, cause: str, example: str, count: int = 1) -> None:
        """Count a change.

        Args:
            cause: one of `CAUSES`.
            example: names the label line, file, box or image; the first few are kept.
            count: how often it happened there.
        """
        if cause not in CAUSES:
            raise KeyError(f"{cause!r} is not among the causes {', '.join(CAUSES)}")
        found = self.causes.setdefault(cause, Cause())
        if self.streamed and not found.count:
            logger.warning("%s; the first: %s", CAUSES[cause][1], example)
        found.count += count
        if len(found.examples) < EXAMPLES:
            found.examples.append(example)

    def take_back(self, cause: str, example: str) -> None:
        """Count a change once less, which turned out to be none."""
        found = self.causes.get(cause)
        if found is not None and found.count:
            found.count -= 1
            if example in found.examples:
                found.examples.remove(example)

    def note_all(self, cause: str, examples: Iterable[str]) -> None:
        """Count a change at each of several places."""
        for example in examples:
            self.note(cause, example)

    def keep_shares(self, name: str, shares: Iterable[float]) -> None:
        """Keep how large boxes of a class are: the shorter side of each as a share of its image's longer side."""
        self.shares.setdefault(name, array("f")).extend(shares)

    def share(self, owners: Mapping[Path, Sequence[str]]) -> None:
        """Note the annotation files that more than one image got its boxes from."""
        shared = [(file, ids) for file, ids in owners.items() if len(ids) > 1]
        for file, ids in sorted(shared):
            self.note("shared", f"{file} ({', '.join(ids)})")

    def count(self, cause: str) -> int:
        """How often something happened; 0 where it did not."""
        return self.causes[cause].count if cause in self.causes else 0

    def examples(self, cause: str) -> list[str]:
        """The first few places where something happened."""
        return self.causes[cause].examples if cause in self.causes else []

    def add_image(self, classes: Sequence[str] | None, is_normal: bool | None, crowds: int = 0) -> None:
        """Count one image.

        Args:
            classes: class of each box; None where the boxes are not known.
            is_normal: whether it is said to be sound.
            crowds: its crowd regions.
        """
        self.images += 1
        self.crowds += crowds
        if classes or crowds:
            self.with_boxes += 1
            for name, count in Counter(classes).items():
                self.boxes[name] = self.boxes.get(name, 0) + count
        elif is_normal is not False and (classes is not None or is_normal):
            self.sound += 1
        elif classes is None and is_normal is None:
            self.unknown += 1

    def origin(self) -> str:
        """In which layout the data set was read, and from which file its labels, in words."""
        return f"read as {self.layout or 'a data set'}{f', labels from {self.labels_from}' if self.labels_from else ''}"

    def summary(self) -> list[str]:
        """What was found, in a line or two."""
        parts = [f"{self.images} images"]
        if self.with_label_file is not None:
            parts.append(f"{self.with_label_file} with a label file")
        if self.with_mask:
            parts.append(f"{self.with_mask} with a mask")
        defective = self.images - self.with_boxes - self.sound - self.unknown
        known = (
            (self.with_boxes, "with boxes"),
            (defective, "said to be defective, without boxes"),
            (self.sound, "known to be sound"),
            (self.unknown, "of which nothing is known"),
        )
        parts += [f"{count} {what}" for count, what in known if count]
        lines = [f"{', '.join(parts)} ({self.origin()})"]
        if self.boxes or self.crowds:
            told = [f"{name} {count}" for name, count in self.boxes.items()]
            told += [f"and {self.crowds} crowd regions"] if self.crowds else []
            lines.append(f"boxes by class: {', '.join(told)}")
        return lines

    def lines(self) -> list[str]:
        """One sentence for each cause that happened: how often, and the first few places."""
        lines = []
        for cause, (_, sentence) in CAUSES.items():
            if self.count(cause):
                names = self.examples(cause)[:3]
                more = " ..." if self.count(cause) > len(names) else ""
                lines.append(f"{self.count(cause)} {sentence}: {', '.join(names)}{more}")
        return lines

    def log(self, source: str) -> None:
        """Log what was found as information, and warn of each cause once."""
        for line in self.summary():
            logger.info("%s: %s", source, line)
        for line in self.lines():
            logger.warning("%s: %s", source, line)

    def as_json(self, *, places: bool = True) -> dict[str, Any]:
        """What a run's record keeps: the numbers, and each cause with its kind, number and examples.

        Args:
            places: whether files and images are named, as they are not where a record is published.
        """
        noted = {} if self.image_notes is None else self.image_notes.as_json()
        return {
            "layout": self.layout,
            "labels_from": self.labels_from if places else "",
            "images": self.images,
            "with_label_file": self.with_label_file,
            "with_boxes": self.with_boxes,
            "sound": self.sound,
            "unknown": self.unknown,
            "boxes": dict(self.boxes),
            "crowds": self.crowds,
            "with_mask": self.with_mask,
            "changes": {
                cause: {
                    "kind": CAUSES[cause][0],
                    "count": found.count,
                    "examples": list(found.examples) if places else [],
                }
                for cause, found in self.causes.items()
                if found.count
            },
            "image_notes": noted if places else {kind: row | {"examples": []} for kind, row in noted.items()},
        }
