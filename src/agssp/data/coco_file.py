"""The one writer of COCO files: an image and a box at a time, so that millions of them need no memory."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from agssp.files import open_whole

FIRST_COCO_ID = 1
"""Of categories, images and annotations in the COCO files that are written: some tools take 0 for none."""


def write_coco_file(
    path: str | Path,
    facts: Mapping[str, Any],
    images: Iterable[Mapping[str, Any]],
    annotations: Iterable[Mapping[str, Any]],
) -> None:
    """Write a COCO file in one step, one image or annotation a line.

    Args:
        path: of the file.
        facts: what stands before the images: `categories`, and `info` if wanted.
        images: gone through once, before the annotations.
        annotations: gone through once; the writer numbers them from `FIRST_COCO_ID` on.
    """
    with open_whole(path) as file:
        file.write("{" + "".join(f"{json.dumps(name)}: {_text(value)},\n" for name, value in facts.items()))
        file.write('"images": [')
        _write_list(file, images)
        file.write('],\n"annotations": [')
        _write_list(file, ({"id": number, **row} for number, row in enumerate(annotations, FIRST_COCO_ID)))
        file.write("]}\n")


def _write_list(file: IO[str], rows: Iterable[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows):
        file.write((",\n" if number else "\n") + _text(row))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
