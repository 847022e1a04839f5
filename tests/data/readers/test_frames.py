from pathlib import Path

import pytest
from PIL import Image

from agssp.data.readers import ReadReport
from agssp.data.readers.frames import StatedImages
from agssp.data.readers.geometry import Frame, StatedLabels
from agssp.data.readers.records import ImageRecord, Label, MadeRecords

LABELS = [Label((1, 2, 3, 4), "pit", "here")]


def test_no_records():
    images = StatedImages([], ReadReport())
    assert (len(images), list(images), images[:1]) == (0, [], [])


@pytest.mark.parametrize("made", [True, False])
def test_headers_are_read_once_and_damaged_images_told_once(tmp_path, made):
    for name, size in (("a.png", (4, 3)), ("b.png", (4, 3)), ("c.png", (9, 2))):
        Image.new("L", size).save(tmp_path / name)
    (tmp_path / "d.png").write_bytes(b"none")
    records = [ImageRecord(tmp_path / f"{name}.png", name, "plate", labels=LABELS) for name in "abcd"]
    records.append(ImageRecord(Path("not there"), "e", "plate"))
    records = MadeRecords(len(records), records.__getitem__) if made else records
    report = ReadReport()
    images = StatedImages(records, report)
    assert report.causes == {}
    frames = [Frame((4, 3)), Frame((4, 3)), Frame((9, 2)), None, None]
    expected = [
        StatedLabels(record.image_id, record.labels, frame) for record, frame in zip(records, frames, strict=True)
    ]
    for _ in range(2):
        assert list(images) == [images[number] for number in range(5)] == images[:] == expected
        (tmp_path / "a.png").unlink(missing_ok=True)
    assert images[-3] == expected[-3]
    assert images[0].frame is images[1].frame
    assert report.count("damaged") == 1
