"""What a stream tells and decides row by row."""

import logging
import pickle

import pyarrow.parquet as pq
import pytest
from test_table_objects import sized
from test_tables import png, row, stored, turned_png

from agssp.data.readers import ReadReport, read_dataset
from agssp.errors import InputError

NAMES = ["pit", "scratch"]


def stream(tmp_path, rows, sizes=None, **options):
    report = ReadReport()
    path = stored(tmp_path, "parquet", rows)
    if sizes is not None:
        pq.write_table(sized(rows, sizes), path)
        options |= {"category": "plate", "defect_types": NAMES}
    return read_dataset(path, streaming=True, report=report, **options), report


def bboxes(data):
    return [values["objects"] and values["objects"]["bbox"] for values in data]


def test_no_boxes_and_nothing_known(tmp_path):
    rows = [row("a", b"", []), row("b", b"", []) | {"objects": None}]
    data, report = stream(tmp_path, rows)
    assert (report.images, report.streamed) == (0, True)
    assert bboxes(data) == [[], None]
    assert (report.images, report.sound, report.unknown, report.lines()) == (2, 1, 1, [])


def test_rows_without_objects_are_counted(tmp_path):
    rows = [row("a", png(), []) | {"is_normal": normal} for normal in (True, False, None)]
    path = stored(tmp_path, "parquet", rows)
    pq.write_table(pq.read_table(path).drop_columns("objects"), path)
    report = ReadReport()
    data = read_dataset(path, streaming=True, category="plate", report=report)
    assert len(list(data)) == 3
    assert (report.images, report.with_boxes, report.sound, report.unknown) == (3, 0, 1, 1)


@pytest.mark.parametrize("given", [False, True])
def test_the_first_of_each_kind_is_told_at_once_and_the_numbers_grow(tmp_path, caplog, given):
    rows = [row(name, png((10, 10)), [[5, 5, 9, 9], [20, 20, 5, 5]]) for name in "abc"]
    path = stored(tmp_path, "parquet", rows)
    report = ReadReport() if given else None
    with caplog.at_level(logging.INFO, "agssp"):
        rows = iter(read_dataset(path, streaming=True, report=report))
        assert caplog.messages == []
        for number in (1, 2, 3):
            next(rows)
            assert caplog.messages == [
                f"boxes reached beyond their image and were clipped; the first: {path}: a box 0",
                f"boxes have no area inside their image and were dropped; the first: {path}: a box 1",
            ]
            if given:
                assert (report.images, report.count("clipped"), report.boxes["scratch"]) == (number, number, number)


def test_a_stream_can_be_sent_to_workers_each_of_which_reports_by_itself(tmp_path):
    data, report = stream(tmp_path, [row("a", png((10, 10)), [[5, 5, 9, 9]])], defect_types=[*NAMES, "dent"])
    sent = pickle.loads(pickle.dumps(data))
    assert bboxes(sent) == [[[5, 5, 5, 5]]]
    assert (report.images, report.lines()) == (0, [])
    assert bboxes(data) == [[[5, 5, 5, 5]]]
    assert (report.images, report.count("clipped")) == (1, 1)


@pytest.mark.parametrize(("mode", "crowds", "told"), [("auto", 1, True), ("ignore", 1, False), ("objects", 0, False)])
def test_crowds_of_a_stream_are_ignored_unless_objects_are_asked_for(tmp_path, mode, crowds, told, caplog):
    rows = [row(name, png(), [[1, 2, 3, 4]]) for name in "ab"]
    for values in rows:
        values["objects"]["iscrowd"] = [True]
    data, report = stream(tmp_path, rows, [(40, 20)] * 2, crowds=mode)
    assert [values["objects"]["iscrowd"] for values in data] == [[bool(crowds)]] * 2
    assert (report.crowds, report.boxes["scratch"]) == (2 * crowds, 2 - 2 * crowds)
    assert report.count("crowds_in_streams") == (2 if told else 0)
    assert sum("a stream cannot tell" in message for message in caplog.messages) == told


def test_crowds_of_a_stream_in_the_schema_were_decided_before(tmp_path):
    rows = [row("a", png(), [[1, 2, 3, 4]])]
    rows[0]["objects"]["iscrowd"] = [True]
    data, report = stream(tmp_path, rows)
    assert next(iter(data))["objects"]["iscrowd"] == [True]
    assert report.lines() == []


def test_a_photo_that_cannot_tell_is_taken_as_upright_until_one_contradicts(tmp_path):
    rows = [
        row("square", turned_png((20, 20)), [[0, 0, 5, 2]]),
        row("upright", turned_png((40, 20)), [[1, 2, 3, 4]]),
    ]
    data, report = stream(tmp_path, rows, [(20, 20), (20, 40)])
    assert bboxes(data) == [[[0, 0, 5, 2]], [[1, 2, 3, 4]]]
    assert report.examples("turned_unknown") == ["square"]
    data, _ = stream(tmp_path, rows, [(20, 20), (40, 20)])
    with pytest.raises(InputError, match=r"upright box 0: its boxes are of the stored pixels .* those of square,"):
        list(data)


def test_a_size_that_fits_in_no_way_names_the_row(tmp_path):
    data, _ = stream(tmp_path, [row("a", png(), [[1, 2, 3, 4]])], [(40, 40)])
    with pytest.raises(InputError, match=r"train.parquet: a box 0: the labels are for an image of 40 x 40 px, but a"):
        list(data)


def test_fractions_are_refused_until_a_box_is_in_px(tmp_path):
    small, large = row("small", png(), [[0.5, 0, 0.5, 1]]), row("large", png(), [[1, 2, 3, 4]])
    rows = iter(stream(tmp_path, [large, small])[0])
    assert [next(rows)["image_id"] for _ in range(2)] == ["large", "small"]
    rows = iter(stream(tmp_path, [small, large])[0])
    with pytest.raises(InputError, match="small box 0: expected a box in px"):
        next(rows)
