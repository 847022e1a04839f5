import random

import pytest

from agssp.data.readers.label_columns import LabelColumns, class_names
from agssp.data.readers.records import Label


def where(mark):
    return f"l.json annotation {mark}"


def grouped(rows, count):
    """Columns of rows (image, bbox, class, mark, score, iscrowd)."""
    columns = LabelColumns(where)
    for row in rows:
        columns.add(*row)
    columns.group(count)
    return columns


def test_no_labels():
    grouped([], 0)
    columns = grouped([], 2)
    for image in range(2):
        labels = columns.of(image)
        assert (len(labels), list(labels), labels[:1], list(class_names(labels)), bool(labels)) == (
            0,
            [],
            [],
            [],
            False,
        )
        assert labels == []
        with pytest.raises(IndexError):
            labels[0]


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_labels_of_each_image_as_they_were_added(seed, in_order):
    generator = random.Random(seed)
    count = generator.choice([1, 2, 10])
    marks = [0, -1, 2**63 - 1, -(2**63), 2**63, 1.5, True, None, "a1", {"a": 1}]
    rows = [
        (
            generator.randrange(count),
            tuple(generator.uniform(-5, 5000) for _ in range(4)),
            generator.choice(["pit", "dent", "\u00e4"]),
            generator.choice(marks),
            generator.random(),
            generator.random() < 0.3,
        )
        for _ in range(generator.choice([1, 3, 40]))
    ]
    rows = sorted(rows, key=lambda row: row[0]) if in_order else rows
    columns = grouped(rows, count)
    for image in range(count):
        expected = [
            Label(bbox, name, where(mark), *more) for number, bbox, name, mark, *more in rows if number == image
        ]
        labels = columns.of(image)
        assert list(labels) == [labels[place] for place in range(len(labels))] == expected
        assert labels == expected
        assert labels != [*expected, 1]
        assert labels[-2:] == expected[-2:]
        assert list(class_names(labels)) == list(class_names(expected)) == [label.defect_type for label in expected]


def test_a_crowd_is_a_bool():
    labels = grouped([(0, (1, 2, 3, 4), "pit", 0, 1, True), (0, (1, 2, 3, 4), "pit", 1, 1, False)], 1).of(0)
    assert [label.iscrowd for label in labels] == [True, False]
    assert all(type(label.iscrowd) is bool for label in labels)
    assert all(type(side) is float for label in labels for side in label.bbox)
