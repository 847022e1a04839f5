"""What reaches libraries that are not written in Python is checked before."""

import io

import numpy as np
import pytest
from datasets import Features, Image, List, Value
from PIL import Image as Pil
from pycocotools import mask as coco_mask

from agssp.data.image_headers import FORMATS
from agssp.data.images import ImageError, decode_image
from agssp.data.readers.table_schema import undecoded
from agssp.data.run_lengths import checked_polygons, checked_runs
from agssp.errors import InputError
from agssp.parsing import parse_yaml


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "PCX", "DIB", "SGI"])
def test_formats_that_are_not_listed_are_no_images(kind):
    file = io.BytesIO()
    Pil.new("RGB", (16, 16)).save(file, kind)
    assert kind not in FORMATS
    with pytest.raises(ImageError, match=r"plate: .*no known image format \(JPEG"):
        decode_image(file.getvalue(), "plate")


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_that_are_listed_are_images(kind):
    file = io.BytesIO()
    Pil.new("RGB", (16, 16)).save(file, kind)
    assert decode_image(file.getvalue()).size == (16, 16)


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_those_of_pycocotools(seed):
    generator = np.random.default_rng(seed)
    mask = generator.random(generator.integers(1, 50, 2)) < generator.random()
    packed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    runs = checked_runs(packed)
    assert sum(runs["counts"]) == mask.size
    assert (coco_mask.decode(coco_mask.frPyObjects(runs, *mask.shape)) == mask).all()
    assert checked_runs(runs) == runs


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        ([2, 3], [7], "a run of 7 px"),
        ([2, 3], [4, -1], "a run of -1 px"),
        ([2, 3], [2.5], "whole numbers"),
        ([2, 3], "\x7f", "as pycocotools writes"),
        ([2, 3], "P", "cut off"),
        ([10**6, 10**6], [], "1000000 x 1000000"),
        ([0, 3], [], "3 x 0"),
    ],
)
def test_run_lengths_that_do_not_fit_are_refused(size, counts, message):
    with pytest.raises(ValueError, match=message):
        checked_runs({"size": size, "counts": counts})


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([], "a polygon of 3 points"),
        ([[1, 2, 3, 4]], "a polygon of 3 points"),
        ([[1, 2, 3]], "pairs x, y"),
        ([[0, 0, 1e9, 0, 0, 1]], "points outside"),
        ([[0, 0, float("nan"), 0, 0, 1]], "points outside"),
        ([[0, 0, 90, 90] * 60_000], "outlines of more than"),
    ],
)
def test_polygons_that_cannot_be_drawn_are_refused(polygons, message):
    with pytest.raises(ValueError, match=message):
        checked_polygons(polygons, (10, 10))


def test_polygons_that_can_be_drawn():
    assert checked_polygons([[0, 0, 5, 0, 5, 5], [1, 1]], (10, 10)) == [[0, 0, 5, 0, 5, 5]]


def test_files_within_rows_are_never_decoded_however_deep_they_lie():
    features = Features({"a": Image(), "b": List({"c": Image()}), "d": Value("string")})
    assert undecoded(features) == Features(
        {"a": Image(decode=False), "b": List({"c": Image(decode=False)}), "d": Value("string")}
    )


def test_yaml_that_grows_or_holds_itself_is_refused():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]
    with pytest.raises(InputError, match=r"mine.yaml: .*over 200,000 values"):
        parse_yaml("\n".join(lines), "mine.yaml")
    with pytest.raises(InputError, match=r"mine.yaml: .*holds itself"):
        parse_yaml("a: &a [*a]", "mine.yaml")
    assert parse_yaml("a: &a [1]\nb: *a", "mine.yaml") == {"a": [1], "b": [1]}
