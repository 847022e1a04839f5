"""Heat and boxes land where they belong."""

import numpy as np
import pytest
from PIL import Image

from agssp.errors import InputError
from agssp.report import pictures

GREY = np.full((60, 90, 3), 128, np.uint8)


def test_no_boxes_leave_the_picture_as_it_is():
    drawn = pictures.draw_boxes(GREY, np.zeros((0, 4)))
    np.testing.assert_array_equal(np.asarray(drawn), GREY)


def test_boxes_colour_their_outline_and_nothing_inside():
    drawn = np.asarray(pictures.draw_boxes(GREY, np.array([[20, 10, 60, 50]]), colours="#ff0000"))
    assert (drawn[30, 20] == (255, 0, 0)).all()
    assert (drawn[30, 59] == (255, 0, 0)).all()
    assert (drawn[30, 40] == 128).all()
    assert (drawn[55, 80] == 128).all()


def test_dashed_boxes_have_gaps_on_every_side():
    box = np.array([[10, 10, 80, 50], [15, 15, 40, 40]])
    drawn = np.asarray(pictures.draw_boxes(GREY, box, colours="#ff0000", dashed=[True, False], text_size=14))
    red = (drawn == (255, 0, 0)).all(2)
    for side in (red[10, 10:81], red[50, 10:81], red[10:51, 10], red[10:51, 80]):
        assert side.any()
        assert not side.all()
    assert red[15, 15:41].all()
    assert not red[:9].any()
    assert not red[52:].any()


def test_a_box_outside_the_picture_is_drawn_at_its_edge():
    drawn = np.asarray(pictures.draw_boxes(GREY, np.array([[200.0, -5.0, 300.0, 500.0]]), names=["far"], scores=[0.5]))
    assert drawn.shape == GREY.shape
    assert (drawn != 128).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1)])
def test_tiny_pictures_can_be_drawn_on(size):
    picture = Image.new("RGB", size)
    drawn = pictures.tile(picture, anomaly_map=np.ones((2, 2)), boxes=np.array([[0, 0, 1, 1]]), names=["a"], side=64)
    assert drawn.width <= 64
    assert drawn.height <= 103


def test_heat_is_where_the_map_is_high():
    anomaly_map = np.zeros((4, 6), np.float16)
    anomaly_map[0, 0] = 1
    heated = np.asarray(pictures.heat_overlay(GREY, anomaly_map)).astype(int)
    assert heated[0, 0, 0] - heated[0, 0, 2] > 50  # more red than blue
    assert (heated[-1, -1] == 128).all()


def test_one_range_makes_maps_comparable():
    weak = pictures.heat_overlay(GREY, np.full((2, 2), 0.1), (0, 1))
    strong = pictures.heat_overlay(GREY, np.full((2, 2), 0.9), (0, 1))
    assert np.abs(np.asarray(weak).astype(int) - 128).max() < np.abs(np.asarray(strong).astype(int) - 128).max()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
def test_maps_without_contrast_stay_clear(value):
    heated = pictures.heat_overlay(GREY, np.full((3, 3), value, np.float32))
    np.testing.assert_array_equal(np.asarray(heated), GREY)


def test_masks_colour_what_they_cover_and_nothing_else():
    np.testing.assert_array_equal(np.asarray(pictures.mask_overlay(GREY, {})), GREY)
    mask = np.zeros((6, 9), bool)
    mask[0, 0] = mask[5, 8] = True
    drawn = np.asarray(pictures.mask_overlay(GREY, {"#ff0000": mask, "#0000ff": mask[::-1, ::-1] & (np.arange(9) > 4)}))
    assert drawn[5, 5, 0] > 190 > 60 > drawn[5, 5, 2]
    # The later of two masks is on top.
    assert drawn[55, 85, 2] > 190 > 60 > drawn[55, 85, 0]
    drawn = drawn.copy()
    drawn[:10, :10] = drawn[50:, 80:] = 128
    np.testing.assert_array_equal(drawn, GREY)


def test_wrong_shapes_are_named():
    with pytest.raises(InputError, match=r"\(3,\)"):
        pictures.heat_overlay(GREY, np.zeros(3))
    with pytest.raises(InputError, match="float32"):
        pictures.to_pil(np.zeros((3, 3, 3), np.float32))


def test_tile_scales_boxes_with_the_picture():
    drawn = np.asarray(pictures.tile(GREY, boxes=np.array([[30, 10, 60, 50]]), colours="#ff0000", side=180))
    assert drawn.shape == (120, 180, 3)
    assert (drawn[60, 60] == (255, 0, 0)).all()
    assert drawn[60, 90, 1] == 128
