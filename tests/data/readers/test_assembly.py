import random
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Features, Image

from agssp.data.readers.assembly import files_array, objects_array, to_dataset
from agssp.data.readers.records import Box, ImageRecord, Label, MadeRecords, objects_of
from agssp.data.schema import objects_feature
from agssp.errors import InputError

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
    assert files_array(pa.array(paths), form).equals(expected)


def random_records(generator, count):
    """Records, some with a mask, in two categories, and the boxes of each."""
    rows = [random_row(generator) for _ in range(count)]
    records = [
        ImageRecord(
            Path(f"/d/{number}.png"),
            f"{number}.png",
            generator.choice(["plate", "bar"]),
            generator.choice([True, False, None]),
            generator.choice([None, Path(f"/d/masks/{number}.png")]),
            None if row is None else [Label(box.bbox, box.defect_type, "here") for box in row],
        )
        for number, row in enumerate(rows)
    ]
    return records, rows


@pytest.mark.parametrize("seed", range(5))
def test_the_data_set_does_not_depend_on_how_many_records_are_held(seed):
    records, rows = random_records(random.Random(seed), 23)
    whole = to_dataset(records, rows, "made up", NAMES)
    known = [[] if row is None and record.is_normal else row for record, row in zip(records, rows, strict=True)]
    assert whole["image_id"][:] == [record.image_id for record in records]
    objects = [None if row is None else objects_of(row, INDEX) for row in known]
    assert whole["objects"][:] == pa.array(objects, FORM).to_pylist()
    assert [whole.features["category"].names[number] for number in whole["category"]] == [
        record.category for record in records
    ]
    assert [row and row["path"] for row in whole["mask"]] == [record.mask and str(record.mask) for record in records]
    for part in (1, 2, 22, 23, 24):
        found = to_dataset(MadeRecords(len(records), records.__getitem__), rows, "made up", NAMES, part)
        assert found.data.table.equals(whole.data.table)
        assert found._fingerprint == whole._fingerprint


def test_data_sets_that_differ_have_other_fingerprints():
    records, rows = random_records(random.Random(0), 4)
    whole = to_dataset(records, rows, "made up", NAMES)._fingerprint
    records[3].category = "other"
    others = [to_dataset(records, rows, "made up", NAMES)._fingerprint]
    others.append(to_dataset(records[:3], rows[:3], "made up", NAMES)._fingerprint)
    others.append(to_dataset(records, rows, "made up", NAMES[::-1])._fingerprint)
    many = [f"class {number}" for number in range(300)]
    for names in (many, [*many[:-1], "other"]):
        others.append(to_dataset(records, [[] for _ in rows], "made up", [*NAMES, *names])._fingerprint)
    assert len({whole, *others}) == 6


def test_two_images_of_one_id_are_named():
    records = [ImageRecord(Path(f"/d/{number}.png"), "a.png", "plate") for number in range(2)]
    with pytest.raises(InputError, match=r"made up: two images have the id 'a\.png'; ids must be unique"):
        to_dataset(records, [None, None], "made up", part=1)


def test_paths_that_are_texts_are_made_absolute():
    records = [ImageRecord(path, str(path), "plate") for path in ("a.png", Path("b.png"), "/c/d.png")]
    paths = [row["path"] for row in to_dataset(records, [None] * 3, "made up")["image"]]
    assert paths == [str(Path("a.png").absolute()), str(Path("b.png").absolute()), "/c/d.png"]
