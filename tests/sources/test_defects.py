"""Masks and boxes of the sources against slow references that do not share a line with them."""

import itertools

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from agssp.data.images import ImageError
from agssp.errors import InputError
from agssp.sources.defects import MaskFile, MaskRuns, MaskShape, boxes_of_masks, parse_runs, read_masks


def flood_boxes(mask, smallest):
    """Boxes of 8-connected parts, found pixel by pixel."""
    left, boxes = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            part.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        if len(part) >= smallest:
            ys, xs = [y for y, _ in part], [x for _, x in part]
            boxes.append((min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1))
    return sorted(boxes)


def test_no_masks_and_empty_masks_give_no_boxes():
    assert read_masks([], (4, 5)) == []
    assert boxes_of_masks([], 1) == []
    assert boxes_of_masks([("pit", np.zeros((4, 5), bool))], 1) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("smallest", [1, 4])
def test_boxes_are_those_of_a_flood_fill(seed, smallest):
    generator = np.random.default_rng(seed)
    masks = [(name, generator.random((20, 31)) < 0.25) for name in ("pit", "crack")]
    boxes = boxes_of_masks(masks, smallest)
    for name, mask in masks:
        found = sorted(tuple(box.bbox) for box in boxes if box.defect_type == name)
        assert found == flood_boxes(mask, smallest)


def test_parts_of_one_class_in_two_files_are_one_defect():
    left, right = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    left[1, :3], right[1, 3:] = True, True
    assert [box.bbox for box in boxes_of_masks([("pit", left), ("pit", right)], 1)] == [(0, 1, 6, 1)]
    assert len(boxes_of_masks([("pit", left), ("crack", right)], 1)) == 2


@pytest.mark.parametrize("seed", range(4))
def test_runs_go_down_the_columns(seed):
    mask = np.random.default_rng(seed).random((7, 11)) < 0.4
    words, start = [], None
    flat = [bool(mask[y, x]) for x in range(11) for y in range(7)] + [False]
    for position, value in enumerate(flat):
        if value and start is None:
            start = position
        elif not value and start is not None:
            words += [start + 1, position - start]
            start = None
    ((name, read),) = MaskRuns(" ".join(map(str, words)), "pit", "row 2").read((7, 11))
    assert name == "pit"
    assert np.array_equal(read, mask)


@pytest.mark.parametrize("text", ["1", "1 2 3", "a b", "0 4", "3 0", "1.5 2", "-3 2"])
def test_malformed_runs_are_named(text):
    with pytest.raises(InputError, match=r"train\.csv:7: expected"):
        parse_runs(text, "train.csv:7")


def test_runs_beyond_the_image_are_named():
    assert MaskRuns("73 5", "pit", "x").read((7, 11))[0][1][2:, 10].all()
    with pytest.raises(ImageError, match=r"train\.csv:7: a run reaches beyond the image of 11 x 7 px"):
        MaskRuns("73 6", "pit", "train.csv:7").read((7, 11))


def test_outlines_are_those_of_pycocotools():
    polygons = [[2.5, 1, 9, 1, 9, 6.5, 2, 6], [12, 8, 18, 8, 15, 13]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 16, 24))).astype(bool)
    ((_, read),) = MaskShape(polygons, "pit", "a").read((16, 24))
    assert np.array_equal(read, expected)
    runs = coco_mask.encode(np.asfortranarray(expected.astype(np.uint8)))
    packed = {"size": [16, 24], "counts": runs["counts"].decode()}
    assert np.array_equal(MaskShape(packed, "pit", "a").read((16, 24))[0][1], expected)
    flat = expected.T.reshape(-1)
    edges = [0, *(np.flatnonzero(np.diff(flat.astype(int))) + 1).tolist(), flat.size]
    counts = [end - start for start, end in itertools.pairwise(edges)]
    unpacked = {"size": [16, 24], "counts": [0, *counts] if flat[0] else counts}
    assert np.array_equal(MaskShape(unpacked, "pit", "a").read((16, 24))[0][1], expected)


@pytest.mark.parametrize("outline", ["text", {"counts": "!"}, [[1, 2]], {"size": [5, 5], "counts": [25]}])
def test_what_is_no_outline_is_named(outline):
    with pytest.raises(ImageError, match=r"a\.json shape 3"):
        MaskShape(outline, "pit", "a.json shape 3").read((16, 24))


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_values_of_a_mask_are_classes(tmp_path, mode):
    values = np.zeros((6, 8), np.uint8)
    values[1:3, 1:4], values[4:6, 5:8], values[0, 0] = 1, 3, 9
    picture = Image.fromarray(values)
    if mode == "P":
        picture.putpalette([value for index in range(256) for value in (255 - index, index, 0)])
    elif mode == "RGB":
        picture = picture.convert("RGB")
    picture.save(tmp_path / "m.png")
    masks = MaskFile(tmp_path / "m.png", "defect", ((1, "inclusion"), (2, "patches"), (3, "scratches"))).read((6, 8))
    assert [(name, int(mask.sum())) for name, mask in masks] == [("inclusion", 6), ("patches", 0), ("scratches", 6)]
    boxes = boxes_of_masks(masks, 2)
    assert [(box.defect_type, box.bbox) for box in boxes] == [("inclusion", (1, 1, 3, 2)), ("scratches", (5, 4, 3, 2))]


@pytest.mark.parametrize("values", [(), ((1, "pit"),)])
def test_masks_that_do_not_fit_or_cannot_be_read_are_named(tmp_path, values):
    Image.new("L", (8, 6)).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=r"m\.png: is 8 x 6 px, its image 9 x 6"):
        MaskFile(tmp_path / "m.png", "pit", values).read((6, 9))
    (tmp_path / "m.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"m\.png"):
        MaskFile(tmp_path / "m.png", "pit", values).read((6, 8))
