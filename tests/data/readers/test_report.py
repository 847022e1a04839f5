import json
import logging
from pathlib import Path

import pytest

from agssp.data.readers.report import CAUSES, ReadReport


def test_nothing_read():
    report = ReadReport()
    assert report.summary() == ["0 images (read as a data set)"]
    assert report.lines() == []
    assert (report.count("clipped"), report.examples("clipped")) == (0, [])
    assert report.as_json() == {
        "layout": "", "labels_from": "",
        "images": 0, "with_label_file": None, "with_boxes": 0, "sound": 0, "unknown": 0, "boxes": {}, "crowds": 0,
        "with_mask": 0, "changes": {}, "image_notes": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "is_normal", "crowds", "counts"),
    [
        # with boxes, sound, unknown; what is left is said to be defective without boxes
        (["pit"], None, 0, (1, 0, 0)),
        (["pit"], False, 0, (1, 0, 0)),
        (["pit"], True, 0, (1, 0, 0)),
        ([], None, 1, (1, 0, 0)),
        ([], None, 0, (0, 1, 0)),
        ([], True, 0, (0, 1, 0)),
        ([], False, 0, (0, 0, 0)),
        (None, True, 0, (0, 1, 0)),
        (None, False, 0, (0, 0, 0)),
        (None, None, 0, (0, 0, 1)),
    ],
)
def test_what_is_known_of_an_image(classes, is_normal, crowds, counts):
    report = ReadReport()
    report.add_image(classes, is_normal, crowds)
    assert report.images == 1
    assert (report.with_boxes, report.sound, report.unknown) == counts


def test_summary():
    report = ReadReport("voc", "a.xml", with_label_file=3, boxes={"pit": 0, "scratch": 0})
    report.add_image(["scratch", "scratch", "dent"], None, 2)
    report.add_image([], None)
    report.add_image(None, False)
    report.add_image(None, None)
    assert report.summary() == [
        "4 images, 3 with a label file, 1 with boxes, 1 said to be defective, without boxes, 1 known to be sound, "
        "1 of which nothing is known (read as voc, labels from a.xml)",
        "boxes by class: pit 0, scratch 2, dent 1, and 2 crowd regions",
    ]


def test_causes_are_counted_and_the_first_places_named():
    report = ReadReport()
    report.note_all("no_area", [f"box {number}" for number in range(7)])
    report.note("clipped", "box 9", 3)
    assert report.count("no_area") == 7
    assert report.examples("no_area") == [f"box {number}" for number in range(5)]
    assert report.lines() == [
        "3 boxes reached beyond their image and were clipped: box 9 ...",
        "7 boxes have no area inside their image and were dropped: box 0, box 1, box 2 ...",
    ]
    changes = json.loads(json.dumps(report.as_json()))["changes"]
    assert changes["clipped"] == {"kind": "clipped", "count": 3, "examples": ["box 9"]}


def test_causes_that_are_none():
    with pytest.raises(KeyError, match="'lost' is not among the causes clipped, "):
        ReadReport().note("lost", "box 1")


def test_every_cause_has_a_kind_and_a_sentence():
    assert {kind for kind, _ in CAUSES.values()} == {
        "clipped", "dropped", "scaled", "turned", "deduplicated", "guessed",
    }  # fmt: skip
    sentences = [sentence for _, sentence in CAUSES.values()]
    assert len(set(sentences)) == len(sentences)


def test_files_that_several_images_share_are_named():
    report = ReadReport()
    report.share({Path("b.txt"): ["b.jpg", "b.png"], Path("a.txt"): ["a.jpg"]})
    assert report.examples("shared") == ["b.txt (b.jpg, b.png)"]


def test_numbers_are_information_and_causes_are_warnings(caplog):
    report = ReadReport("coco")
    report.add_image(["pit"], None)
    with caplog.at_level(logging.INFO):
        report.note("clipped", "box 1")
        assert caplog.messages == []
        report.log("SET")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "SET: 1 images, 1 with boxes (read as coco)"),
        ("INFO", "SET: boxes by class: pit 1"),
        ("WARNING", "SET: 1 boxes reached beyond their image and were clipped: box 1"),
    ]


def test_what_happens_to_the_rows_of_a_stream_is_told_once_and_at_once(caplog):
    report = ReadReport(streamed=True)
    for number in range(3):
        report.note("clipped", f"box {number}")
    report.note("no_area", "box 3")
    assert caplog.messages == [
        "boxes reached beyond their image and were clipped; the first: box 0",
        "boxes have no area inside their image and were dropped; the first: box 3",
    ]
    assert report.count("clipped") == 3
