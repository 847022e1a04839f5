"""Outlines in COCO's form, brought from px of the size that their file states to px of the upright image."""

from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from agssp.data.readers.geometry import Move
from agssp.data.readers.shapes import upright_box
from agssp.data.run_lengths import checked_runs


def move_outline(outline: Any, move: Move) -> Any:
    """Scale and turn an outline as the box of the same label.

    Args:
        outline: polygons `[[x, y, x, y, ...], ...]`, or run lengths `{"size", "counts"}` of the whole image.
        move: of the labels of its image.

    Returns:
        The outline in the same form. One that is malformed is given back as it is: it is named where it is drawn. So
        are run lengths that are not of the stated size, and are drawn if they are of the image's.
    """
    if move.scale == (1, 1) and move.turn == 1:
        return outline
    try:
        return _move_runs(outline, move) if isinstance(outline, dict) else _move_polygons(outline, move)
    except Exception:  # the decoder raises any kind on what is no outline
        return outline


def as_polygons(outline: Any) -> Any:
    """Polygons as a list of them, also where there is one alone: `[x, y, x, y, ...]`."""
    return outline if outline and isinstance(outline[0], (list, tuple)) else [outline]


def _move_polygons(polygons: Any, move: Move) -> list[list[float]]:
    moved = []
    for polygon in as_polygons(polygons):
        points = zip(polygon[::2], polygon[1::2], strict=True)
        scaled = [(float(x) * move.scale[0], float(y) * move.scale[1], 0.0, 0.0) for x, y in points]
        moved.append([value for point in scaled for value in upright_box(point, move.base, move.turn)[:2]])
    return moved


def _move_runs(runs: dict[str, Any], move: Move) -> dict[str, Any]:
    from faster_coco_eval.core import mask as coco_mask

    checked = checked_runs(runs)
    height, width = checked["size"]
    stated = [round(side / scale) for side, scale in zip(move.base, move.scale, strict=True)]
    if [width, height] != stated:
        return runs
    picture = Image.fromarray(coco_mask.decode(coco_mask.frPyObjects(checked, height, width)))
    picture = picture.resize((round(move.base[0]), round(move.base[1])), Image.Resampling.NEAREST)
    picture.getexif()[ExifTags.Base.Orientation] = move.turn
    moved = coco_mask.encode(np.asfortranarray(ImageOps.exif_transpose(picture)))
    counts = moved["counts"]
    return {"size": list(moved["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}
