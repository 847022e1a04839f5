"""Outlines of sources follow the pixels of their images when these are scaled and turned."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from agssp.data.readers.geometry import Move
from agssp.sources.defects import MaskShape
from agssp.sources.outlines import move_outline

# A defect of px 2..6 across and 1..3 down, on 12 x 8 px.
RECTANGLE = [[2, 1, 7, 1, 7, 4, 2, 4]]


def drawn(outline, size):
    ((_, mask),) = MaskShape(outline, "pit", "here").read(size)
    return mask


def upright(mask, orientation):
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(picture)).astype(bool)


def runs_of(mask):
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(packed["size"]), "counts": packed["counts"].decode()}


@pytest.mark.parametrize("outline", [None, [], RECTANGLE, {"size": [2, 2], "counts": [4]}])
def test_what_stays_where_it_is_is_given_back_itself(outline):
    assert move_outline(outline, Move((1, 1), (12, 8), 1)) is outline


@pytest.mark.parametrize("orientation", range(2, 9))
def test_polygons_and_runs_turn_as_the_pixels_do(orientation):
    stored = np.zeros((8, 12), bool)
    stored[1:4, 2:7] = True
    expected = upright(stored, orientation)
    move = Move((1, 1), (12, 8), orientation)
    unpacked = {"size": [8, 12], "counts": [17, *[3, 5] * 4, 3, 44]}
    for outline in (RECTANGLE, RECTANGLE[0], runs_of(stored), unpacked):
        assert np.array_equal(drawn(move_outline(outline, move), expected.shape), expected), outline


def test_polygons_and_runs_are_scaled_to_the_image():
    stated = np.zeros((8, 12), bool)
    stated[1:4, 2:7] = True
    expected = np.zeros((16, 36), bool)
    expected[2:8, 6:21] = True
    move = Move((3, 2), (36, 16), 1)
    assert move_outline(RECTANGLE, move) == [[6, 2, 21, 2, 21, 8, 6, 8]]
    for outline in (RECTANGLE, runs_of(stated)):
        assert np.array_equal(drawn(move_outline(outline, move), (16, 36)), expected)


def test_runs_of_another_size_than_the_stated_one_stay():
    runs = runs_of(np.ones((16, 36), bool))
    assert move_outline(runs, Move((3, 2), (36, 16), 1)) is runs


@pytest.mark.parametrize("outline", ["text", {"counts": "!"}, [[1, 2, 3]], [["a", "b"]], 7])
def test_what_is_no_outline_is_given_back_to_be_named_where_it_is_drawn(outline):
    assert move_outline(outline, Move((1, 1), (12, 8), 6)) is outline
