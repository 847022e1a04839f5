"""Files of labels that are too large are refused by name before they are read; here they take no room on the disk."""

import os

import pytest
from tool_files import read, write

from agssp.data.readers import label_studio, labelme, listing, metadata, xml_files, yolo_labels
from agssp.data.readers.labelme import read_labelme_file
from agssp.data.readers.listing import read_text
from agssp.data.readers.report import ReadReport
from agssp.data.readers.xml_files import read_xml
from agssp.errors import InputError
from agssp.parsing import check_size

NAMES = "names: [dent]\ntrain: images\n"
LABELS = {
    "metadata.jsonl": (metadata.MOST_BYTES, {"a.png": None, "metadata.jsonl": ""}, "folders of their own"),
    "labels/a.txt": (
        yolo_labels.MOST_BYTES,
        {"images/a.png": None, "labels/a.txt": "0 0.5 0.5 0.1 0.1", "data.yaml": NAMES},
        "the labels of one image",
    ),
    "classes.txt": (
        listing.MOST_TEXT_BYTES,
        {"images/a.png": None, "labels/a.txt": "0 0.5 0.5 0.1 0.1", "classes.txt": "dent"},
        "bytes of text",
    ),
    "tasks.json": (label_studio.MOST_BYTES, {"a.png": None, "tasks.json": []}, "tasks in JSON.*export COCO"),
    "b.json": (
        labelme.MOST_BYTES,
        {"a.png": None, "a.json": {"shapes": [], "imagePath": "a.png"}, "b.png": None, "b.json": {}},
        "without its image",
    ),
    "Annotations/a.xml": (
        xml_files.MOST_BYTES,
        {"JPEGImages/a.png": None, "Annotations/a.xml": "<annotation></annotation>"},
        "bytes of XML",
    ),
}
"""File -> bytes that it may have, the data set it belongs to, and what is said."""


def test_an_empty_file_is_not_too_large(tmp_path):
    (tmp_path / "a").touch()
    check_size(tmp_path / "a", 0, "text")
    assert read_text(tmp_path / "a", 0) == ""


@pytest.mark.parametrize("name", LABELS)
def test_a_file_of_labels_over_its_limit_is_refused_by_name(tmp_path, name):
    most, files, told = LABELS[name]
    root = write(tmp_path, files)
    os.truncate(root / name, most + 1)
    with pytest.raises(
        InputError, match=rf"{name}: {most + 1:,} bytes of.*expected {most:,} at most.*|{told}"
    ) as refused:
        read(root)
    assert told.split(".*")[-1] in str(refused.value)


def test_labels_of_a_public_source_are_held_to_the_same_limits(tmp_path):
    for name, most, reader in (
        ("a.json", labelme.MOST_BYTES, lambda file: read_labelme_file(file, ReadReport())),
        ("a.xml", xml_files.MOST_BYTES, read_xml),
        ("a.csv", listing.MOST_TEXT_BYTES, read_text),
    ):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, most + 1)
        with pytest.raises(InputError, match=rf"{name}: {most + 1:,} bytes"):
            reader(tmp_path / name)


def test_a_file_at_its_limit_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("abc")
    assert read_text(tmp_path / "a.txt", 3) == "abc"
    with pytest.raises(InputError, match=r"a\.txt: 3 bytes of text; expected 2 at most; split it"):
        read_text(tmp_path / "a.txt", 2, "split it")
