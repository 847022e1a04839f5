import random

import pytest

from agssp.data.readers.box_columns import BoxColumns, box_columns
from agssp.data.readers.records import Box


def random_rows(generator):
    """The boxes of a few images: unknown, none, or some."""
    return [
        generator.choice(
            [
                None,
                [],
                [
                    Box(
                        tuple(generator.uniform(0, 5000) for _ in range(4)),
                        generator.choice(["pit", "dent", "scratch"]),
                        generator.random(),
                        generator.random() < 0.3,
                    )
                    for _ in range(generator.randrange(5))
                ],
            ]
        )
        for _ in range(generator.choice([1, 4, 30]))
    ]


def test_nothing():
    boxes = BoxColumns()
    assert (list(boxes), len(boxes), boxes.names, boxes.of_classes(), boxes[:2]) == ([], 0, [], {}, [])
    assert boxes.starts.tolist() == [0]
    assert (boxes.known.shape, boxes.bboxes.shape, boxes.crowds.shape) == ((0,), (0, 4), (0,))
    assert boxes == []
    assert BoxColumns([None, []]) == [None, []]
    assert BoxColumns([None]) != [[]]


@pytest.mark.parametrize("seed", range(20))
def test_boxes_come_back_as_they_were(seed):
    rows = random_rows(random.Random(seed))
    boxes = box_columns(rows)
    assert box_columns(boxes) is boxes
    assert boxes == rows
    assert list(boxes) == [boxes[number] for number in range(len(rows))] == rows
    assert (boxes[-1], boxes[1:3]) == (rows[-1], rows[1:3])
    with pytest.raises(IndexError):
        boxes[len(rows)]
    flat = [box for row in rows for box in row or ()]
    assert boxes.known.tolist() == [row is not None for row in rows]
    assert boxes.bboxes.tolist() == [list(box.bbox) for box in flat]
    assert boxes.scores.tolist() == [box.score for box in flat]
    assert boxes.crowds.tolist() == [box.iscrowd for box in flat]
    assert [boxes.names[number] for number in boxes.classes] == [box.defect_type for box in flat]


@pytest.mark.parametrize("seed", range(20))
def test_places_of_each_class_in_the_order_in_which_they_come(seed):
    rows = random_rows(random.Random(seed))
    flat = [box for row in rows for box in row or ()]
    expected = {}
    for place, box in enumerate(flat):
        if not box.iscrowd:
            expected.setdefault(box.defect_type, []).append(place)
    found = BoxColumns(rows).of_classes()
    assert {name: places.tolist() for name, places in found.items()} == expected
    assert list(found) == list(expected)


def test_without_crowds_the_others_stay_as_they_were():
    rows = [[Box((1, 2, 3, 4), "pit", 0.5, True), Box((1, 2, 3, 4), "dent")], None]
    boxes = BoxColumns(rows)
    assert boxes.without_crowds() == [[Box((1, 2, 3, 4), "pit", 0.5), Box((1, 2, 3, 4), "dent")], None]
    assert boxes == rows
