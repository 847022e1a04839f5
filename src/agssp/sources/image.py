"""One image of a source before it is opened, and what was left out on the way."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.data.readers.records import Box
from agssp.data.readers.report import ReadReport
from agssp.sources.defects import Mask
from agssp.sources.file_sizes import file_bytes


@dataclass
class SourceImage:
    """One image of a source, not opened yet.

    Attributes:
        path: its file.
        image_id: unique and stable: the path below the source's folder.
        category: the object category.
        split: `train`, `validation`, `test`; None where the source tells none.
        is_normal: None where only its masks tell, or nothing does.
        boxes: COCO xywh px; None where they are not told: then those of its masks.
        masks: None where they are not known; empty: it has no defects.
        smallest_component: px; smaller parts of its masks get no box.
    """

    path: Path
    image_id: str
    category: str
    split: str | None = None
    is_normal: bool | None = None
    boxes: list[Box] | None = None
    masks: Sequence[Mask] | None = None
    smallest_component: int = 1

    def describe(self) -> str:
        """What decides its row, wherever its files lie; raises as `file_bytes`."""
        boxes = None if self.boxes is None else [
            (box.bbox, box.defect_type, box.score, *(["crowd"] if box.iscrowd else [])) for box in self.boxes
        ]  # fmt: skip
        masks = None if self.masks is None else [mask.describe() for mask in self.masks]
        size = file_bytes(self.path)
        facts = (self.image_id, size, self.category, self.split, self.is_normal, boxes, masks, self.smallest_component)
        return "\t".join(map(str, facts))


@dataclass
class SourceReport:
    """What reading a source left out or changed, by name."""

    boxes: ReadReport = field(default_factory=ReadReport)
    unmatched: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One sentence for each kind of change that happened: how many, and the first few names."""
        kinds = (
            ("image files are no part of the layout and were left out", self.unmatched),
            ("images occur twice; the first was kept", self.repeated),
            ("images have no labels, though the source labels all, and were left out", self.unlabelled),
        )
        own = [f"{len(names)} {what}: {', '.join(names[:3])}{' ...' if names[3:] else ''}"
               for what, names in kinds if names]  # fmt: skip
        # Without files of labels masks alone tell, which are not opened yet.
        return (self.boxes.summary() if self.boxes.layout else []) + own + self.boxes.lines()

    def as_json(self, root: Path) -> dict[str, Any]:
        """What `dataset.json` keeps of it: the same wherever the source's folder, `root`, lies."""
        facts = self.boxes.as_json()
        for change in facts["changes"].values():
            change["examples"] = [example.replace(f"{root}/", "") for example in change["examples"]]
        return {
            **facts,
            "unmatched": len(self.unmatched),
            "repeated": len(self.repeated),
            "unlabelled": len(self.unlabelled),
        }


def fingerprint(images: Sequence[SourceImage]) -> str:
    """Hash of what decides the rows of these images, in order: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.describe().encode() + b"\n")
    return digest.hexdigest()[:16]
