"""Shared images are found in every orientation, size and slight crop among surfaces that look alike, and no others."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from agssp.data.overlap import COARSE, CROPS, THRESHOLD, Gallery, Look, cropped, signature
from agssp.data.picture_alignment import ORIENTATIONS, SIDE, local_contrast, oriented
from agssp.data.synthetic import add_defects

COUNT = 16


def strip(index, size=200):
    """Rolled strip: every image has the same bands and the same light, and only the grain and the defects differ."""
    shared, generator = np.random.default_rng(7), np.random.default_rng((1, index))
    bands = cv2.GaussianBlur(shared.normal(0, 1, (1, size)), (0, 0), size / 24) * np.ones((size, 1))
    grain = cv2.GaussianBlur(generator.normal(0, 1, (size, size)), (0, 0), sigmaX=1.2, sigmaY=4)
    light = np.linspace(-25, 25, size)[:, None]
    surface = (
        125 + 40 * bands / np.abs(bands).max() + 6 * grain / grain.std() + light + generator.normal(0, 2, (size, size))
    )
    image = np.clip(surface, 0, 255).astype(np.uint8)
    return add_defects(image, generator)[0] if index % 2 else image


def jpeg(image, quality=80):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def part(image, share, x, y):
    side = round(len(image) * share)
    top, left = round((len(image) - side) * y), round((len(image) - side) * x)
    return image[top : top + side, left : left + side]


def scaled(image, width, height):
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


CHANGES = {
    "re-encoded": lambda image: jpeg(image, 50),
    **{f"turned {turn}": lambda image, turn=turn: jpeg(oriented(image, turn)) for turn in range(1, 8)},
    "half": lambda image: jpeg(scaled(image, 100, 100)),
    "squashed": lambda image: jpeg(scaled(image, 200, 130)),
    "larger": lambda image: jpeg(cv2.resize(image, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC)),
    "brighter": lambda image: jpeg(np.clip(image * 1.15 + 10, 0, 255).astype(np.uint8)),
    "darker": lambda image: jpeg((image * 0.7).astype(np.uint8)),
    "corner": lambda image: jpeg(part(image, 0.94, 1, 0)),
    "middle": lambda image: jpeg(part(image, 0.9, 0.5, 0.5)),
    "off the middle": lambda image: jpeg(part(image, 0.92, 0.2, 0.7)),
    "everything": lambda image: jpeg(
        np.clip(scaled(oriented(part(image, 0.94, 0.3, 0), 5), 150, 150) * 1.1 + 6, 0, 255).astype(np.uint8), 65
    ),
}


def look(name, image):
    return Look.of(name, Image.fromarray(image).convert("RGB"))


@pytest.fixture(scope="module")
def gallery():
    return Gallery([look(str(index), strip(index)) for index in range(COUNT)])


def test_nothing_to_compare(gallery):
    assert list(Gallery([]).compare([look("a", strip(0))])) == []
    assert list(gallery.compare([])) == []


def test_the_eight_orientations_are_all_there_are():
    picture = np.arange(6).reshape(2, 3)
    every = {oriented(picture, turn).tobytes() + bytes(oriented(picture, turn).shape) for turn in range(8)}
    assert len(every) == len(ORIENTATIONS) == 8
    assert oriented(picture, 1).tolist() == [[2, 5], [1, 4], [0, 3]]
    assert oriented(picture, 4).tolist() == [[2, 1, 0], [5, 4, 3]]
    assert oriented(np.zeros((2, 3, 3)), 7).shape == (3, 2, 3)


@pytest.mark.parametrize("crop", CROPS)
def test_a_crop_is_what_cutting_and_resizing_gives(crop):
    share, x, y = crop
    rows, columns = np.mgrid[:1000, :1000].astype(np.float32)
    image = (columns / 8 + rows / 16).astype(np.float32)
    left, top = (1 - share) * 1000 * x, (1 - share) * 1000 * y
    cut = image[round(top) : round(top + 1000 * share), round(left) : round(left + 1000 * share)]
    expected = cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    inner = slice(2, -2)  # a warp has no values beyond the border to average with
    assert np.abs(cropped(small, crop) - expected)[inner, inner].max() < 0.2


def test_local_contrast_sees_neither_light_nor_gain():
    image = strip(3).astype(np.float32)
    slope = np.linspace(0, 40, image.shape[1])[None]
    inner = slice(20, -20)
    difference = local_contrast(image, 6) - local_contrast(image * 0.6 + slope, 6)
    assert np.abs(difference[inner, inner]).mean() < 0.08
    assert np.abs(local_contrast(np.full((32, 32), 77, np.uint8), 6)).max() < 1e-3


def test_an_image_that_shows_nothing_is_compared_by_its_pixels_alone():
    flat = look("flat", np.full((50, 60), 90, np.uint8))
    assert flat.is_flat
    assert signature(flat.thumbnail).shape == (COARSE**2,)
    other = look("other", np.full((50, 60), 91, np.uint8))
    same = look("same", np.full((50, 60), 90, np.uint8))
    found = list(Gallery([other, same]).compare([flat]))
    assert [(pair.validation_id, pair.kind) for pair in found] == [("same", "exact")]


def test_the_same_pixels_in_another_file_format_are_exact(gallery):
    copies = []
    for kind in ("PNG", "BMP"):
        file = io.BytesIO()
        Image.fromarray(strip(5)).save(file, kind)
        copies.append(Look.of(kind, Image.open(file).convert("RGB")))
    found = [pair for pair in gallery.compare(copies) if pair.kind == "exact"]
    assert [(pair.corpus_id, pair.validation_id, pair.similarity) for pair in found] == [
        ("PNG", "5", 1.0), ("BMP", "5", 1.0),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_planted_duplicates_are_found_and_no_look_alikes(gallery, change):
    copies = [look(str(index), CHANGES[change](strip(index))) for index in range(COUNT)]
    pairs = [pair for pair in gallery.compare(copies) if pair.similarity >= THRESHOLD]
    assert {pair.corpus_id for pair in pairs if pair.corpus_id == pair.validation_id} == {
        copy.image_id for copy in copies
    }
    assert all(pair.corpus_id == pair.validation_id for pair in pairs)


def test_other_photographs_of_the_same_strip_are_no_duplicates(gallery):
    others = [look(f"other {index}", strip(1000 + index)) for index in range(COUNT)]
    similar = [pair.similarity for pair in gallery.compare(others)]
    # The bands and the light are the same: plain correlation calls them all one image.
    plain = np.corrcoef([other.thumbnail.ravel() for other in others])
    assert np.median(plain) > 0.8
    assert len(similar) > COUNT
    assert max(similar) < THRESHOLD - 0.05


def test_what_was_done_is_said(gallery):
    image = strip(4)
    changed = {
        "turned": oriented(image, 6),
        "cropped": part(image, 0.9, 0, 0),
        "small": cv2.convertScaleAbs(scaled(image, 100, 100), alpha=0.7),
    }
    found = {pair.corpus_id: pair.transformation for pair in gallery.compare([look(*item) for item in changed.items()])
             if pair.similarity > THRESHOLD}  # fmt: skip
    assert found["turned"] == "mirrored and rotated by 180"
    assert found["cropped"].startswith("the corpus image is a crop of 0.9")
    assert found["small"] == "resized from 200 x 200 to 100 x 100, darker by 30%"


def test_the_larger_view_may_be_the_corpus_one():
    image = strip(2)
    gallery = Gallery([look("part", part(image, 0.9, 1, 1))])
    (pair,) = gallery.compare([look("whole", oriented(image, 1))])
    assert pair.similarity > THRESHOLD
    assert "rotated by" in pair.transformation
    assert "the validation image is a crop of 0.9" in pair.transformation
