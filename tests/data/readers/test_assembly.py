import random

import pyarrow as pa
import pytest
from datasets import Features, Image

from agssp.data.readers.assembly import files_array, objects_array
from agssp.data.readers.records import Box, objects_of
from agssp.data.schema import objects_feature

NAMES = ["pit", "dent", "scratch"]
FORM = Features({"objects": objects_feature(NAMES)}).arrow_schema.field("objects").type
INDEX = {name: number for number, name in enumerate(NAMES)}


def random_row(generator):
    """Boxes of an image: unknown, none, or a few."""
    if generator.random() < 0.3:
        return None
    return [
        Box(
            tuple(generator.choice([0.0, 0.1, 639.99, generator.uniform(0, 5000)]) for _ in range(4)),
            generator.choice(NAMES),
            generator.random(),
            generator.random() < 0.2,
        )
        for _ in range(generator.choice([0, 0, 1, 2, 7]))
    ]


@pytest.mark.parametrize("rows", [[], [None], [[]], [None, [], None]])
def test_objects_without_boxes(rows):
    expected = pa.array([None if row is None else objects_of(row, INDEX) for row in rows], FORM)
    assert objects_array(rows, INDEX, FORM).equals(expected)


@pytest.mark.parametrize("seed", range(20))
def test_objects_are_those_of_rows_one_by_one(seed):
    generator = random.Random(seed)
    rows = [random_row(generator) for _ in range(generator.choice([1, 5, 60]))]
    found = objects_array(rows, INDEX, FORM)
    expected = pa.array([None if row is None else objects_of(row, INDEX) for row in rows], FORM)
    found.validate(full=True)
    assert found.equals(expected)
    # Below null rows lie empty lists in both, which some functions of Arrow would count.
    assert [found.field(name).null_count for name in FORM.names] == [
        expected.field(name).null_count for name in FORM.names
    ]


def test_files():
    form = Image(decode=False).pa_type
    paths = ["/a/b.png", None, "/a/ü.png"]
    expected = pa.array([path and {"path": path, "bytes": None} for path in paths], form)
    assert files_array(paths, form).equals(expected)
    assert files_array([], form).equals(pa.array([], form))
