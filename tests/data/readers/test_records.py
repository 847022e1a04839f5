import json
import logging

import pytest
from PIL import Image

from agssp.data.readers import ReadReport, read_dataset
from agssp.data.readers.listing import list_files
from agssp.data.readers.records import ImageRecord, MadeRecords, check_names, class_order
from agssp.errors import InputError

FORMATS = ("metadata", "coco", "yolo", "voc")


def picture(path, size=(40, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path, **options)


def labelled(root, style, boxes, names=("pit",), content=None, size=(40, 20)):
    """A folder with one image a.png and boxes xywh px in one of the formats of labels; `content` replaces the image."""
    folder = {"yolo": "images", "voc": "JPEGImages"}.get(style, "")
    picture(root / folder / "a.png", size)
    if content is not None:
        (root / folder / "a.png").write_bytes(content)
    if style == "metadata":
        objects = {"bbox": boxes, "category": [names[0]] * len(boxes)}
        (root / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects}))
    elif style == "coco":
        annotations = [{"id": index, "image_id": 1, "category_id": 0, "bbox": box} for index, box in enumerate(boxes)]
        categories = [{"id": index, "name": name} for index, name in enumerate(names)]
        table = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations, "categories": categories}
        (root / "labels.json").write_text(json.dumps(table))
    elif style == "yolo":
        width, height = size
        lines = [f"0 {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}" for x, y, w, h in boxes]
        (root / "labels").mkdir()
        (root / "labels/a.txt").write_text("\n".join(lines))
        (root / "data.yaml").write_text(json.dumps({"names": list(names)}))
    else:
        corners = [f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>" for x, y, w, h in boxes]
        nodes = [f"<object><name>{names[0]}</name><bndbox>{corner}</bndbox></object>" for corner in corners]
        (root / "Annotations").mkdir()
        (root / "Annotations/a.xml").write_text(f"<annotation>{''.join(nodes)}</annotation>")
    return root


def test_no_boxes():
    assert ReadReport().lines() == []


@pytest.mark.parametrize("style", FORMATS)
def test_labels_without_boxes_open_no_image(tmp_path, style):
    report = ReadReport()
    data = read_dataset(labelled(tmp_path, style, [], content=b""), report=report)
    assert len(data) == 1
    assert data[0]["objects"]["bbox"] == []
    assert report.lines() == []


@pytest.mark.parametrize("style", FORMATS)
def test_boxes_outside_and_of_zero_area(tmp_path, style):
    boxes = [[30, 10, 20, 20], [5, 5, 0, 3], [5, 5, 3, 0], [45, 5, 5, 5], [1, 1, 2, 2]]
    report = ReadReport()
    data = read_dataset(labelled(tmp_path, style, boxes), report=report)
    assert [[round(value, 3) for value in box] for box in data[0]["objects"]["bbox"]] == [
        [30, 10, 10, 10],
        [1, 1, 2, 2],
    ]
    assert (report.count("clipped"), report.count("no_area")) == (1, 3)


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\x89PNG\r\n\x1a\n\x00\x00"], ids=["empty", "no image", "cut off"]
)
def test_boxes_of_a_damaged_image_are_left_out_and_the_image_is_named(tmp_path, style, content):
    report = ReadReport()
    data = read_dataset(labelled(tmp_path, style, [[1, 1, 2, 2]], content=content), report=report)
    assert data[0]["objects"] is None
    assert "a.png" in report.examples("damaged")[0]
    assert (report.images, report.unknown) == (1, 1)


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (20_000, 2)])
def test_smallest_and_longest_image(tmp_path, style, size):
    data = read_dataset(labelled(tmp_path, style, [[0, 0, *size]], size=size))
    assert data[0]["objects"]["bbox"] == [[0, 0, *size]]


@pytest.mark.parametrize("style", FORMATS)
def test_boxes_of_a_turned_image_are_those_of_the_upright_one(tmp_path, style):
    root = labelled(tmp_path, style, [[5, 30, 10, 8]], size=(20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    (path,) = root.rglob("a.png")
    picture(path, (40, 20), exif=exif)
    report = ReadReport()
    data = read_dataset(root, report=report)
    assert data[0]["objects"]["bbox"] == [pytest.approx([5, 30, 10, 8], abs=1e-4)]
    # No size is stated, so nothing but the usual way tells what they are of.
    assert list(report.causes) == ["turned_unknown"]


@pytest.mark.parametrize("style", FORMATS)
def test_class_that_is_not_in_the_asked_list_shows_near_names(tmp_path, style):
    root = labelled(tmp_path, style, [[1, 1, 2, 2]], names=["scratches"])
    with pytest.raises(InputError, match=r"unknown class 'scratches'.*did you mean 'scratch'"):
        read_dataset(root, defect_types=["scratch", "pit"])


@pytest.mark.parametrize("style", FORMATS)
def test_category_that_is_not_in_the_asked_list_shows_near_names(tmp_path, style):
    root = labelled(tmp_path, style, [])
    with pytest.raises(InputError, match=r"unknown category 'stel', expected one of .*did you mean 'steel'"):
        read_dataset(root, category="stel", categories=["pipe", "steel"])
    assert read_dataset(root, category="steel", categories=["pipe", "steel"])[0]["category"] == 1


@pytest.mark.parametrize("style", FORMATS)
def test_corners_in_another_order_and_boxes_that_stand_there_twice(tmp_path, style):
    if style == "yolo":
        pytest.skip("its boxes have no corners")
    report = ReadReport()
    data = read_dataset(labelled(tmp_path, style, [[5, 6, 7, 8], [12, 14, -7, -8]]), report=report)
    assert data[0]["objects"]["bbox"] == [[5, 6, 7, 8]]
    assert (report.count("reversed"), report.count("duplicates")) == (1, 1)


def test_records_that_are_made_when_they_are_asked_for():
    made = []

    def make(number):
        made.append(number)
        return ImageRecord(f"{number}.png", str(number), "plate")

    assert list(MadeRecords(0, make)) == MadeRecords(0, make)[:2] == []
    records = MadeRecords(5, make)
    assert (len(records), made) == (5, [])
    assert [record.image_id for record in records] == ["0", "1", "2", "3", "4"]
    assert [record.image_id for record in records[1:4:2]] == ["1", "3"]
    assert records[-1] == make(4)
    assert records[0] is not records[0]
    with pytest.raises(IndexError):
        records[5]


def test_order_of_classes_that_nothing_tells():
    assert class_order([]) == []
    assert class_order(["pit", "Dent", "10", "9", "a1"]) == ["9", "10", "Dent", "a1", "pit"]


def test_names_far_from_all_show_the_list_alone():
    with pytest.raises(InputError, match=r"x: unknown class 'qqq', expected one of pit, scratch$"):
        check_names(["pit", "qqq"], ["pit", "scratch"], "x")


def test_folder_without_images(tmp_path):
    (tmp_path / "steel/normal").mkdir(parents=True)
    (tmp_path / "steel/notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"no images found; expected files with .*\.png, .*; there are 1 with \.txt$"):
        read_dataset(tmp_path)
    (tmp_path / "steel/notes.txt").unlink()
    with pytest.raises(InputError, match=r"; there is no file$"):
        read_dataset(tmp_path)


def test_links_back_and_forth_give_each_file_once(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        picture(tmp_path / "root" / name)
    root = tmp_path / "root"
    (root / "up").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (root / "a/self").symlink_to(root / "a")
    assert list_files(root) == ["a/1.png", "b/2.png"]
    assert read_dataset(root)["image_id"] == ["a/1.png", "b/2.png"]


def test_links_that_lead_to_each_other_end_with_unique_ids(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        picture(tmp_path / name)
    (tmp_path / "a/to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b/to_a").symlink_to(tmp_path / "a")
    ids = read_dataset(tmp_path)["image_id"]
    assert {"a/1.png", "b/2.png"} <= set(ids)
    assert len(set(ids)) == len(ids)
    assert "a/to_b/to_a/1.png" not in ids


def test_links_to_elsewhere_are_followed_once(tmp_path):
    picture(tmp_path / "elsewhere/1.png")
    (tmp_path / "root").mkdir()
    for name in ("x", "y"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "elsewhere")
    assert len(list_files(tmp_path / "root")) == 1


@pytest.mark.parametrize("style", ["yolo", "voc"])
def test_images_of_one_stem_share_their_labels_and_are_named(tmp_path, style, caplog):
    root = labelled(tmp_path, style, [[1, 1, 2, 2]])
    (folder,) = {path.parent for path in root.rglob("a.png")}
    picture(folder / "a.jpg")
    picture(folder / "b.jpg")
    with caplog.at_level(logging.WARNING):
        data = read_dataset(root)
    assert [len(row["objects"]["bbox"]) for row in data] == [1, 1, 0]
    name = folder.name
    assert "1 annotation files belong to more than one image, which all got their boxes" in caplog.text
    assert f"({name}/a.jpg, {name}/a.png)" in caplog.text


@pytest.mark.parametrize("style", ["yolo", "voc"])
def test_images_of_one_stem_without_boxes_are_nothing_to_warn_of(tmp_path, style):
    root = labelled(tmp_path, style, [])
    (folder,) = {path.parent for path in root.rglob("a.png")}
    picture(folder / "a.jpg")
    report = ReadReport()
    read_dataset(root, report=report)
    assert report.count("shared") == 0


def test_one_image_named_twice(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n{"file_name": "./a.png"}\n')
    with pytest.raises(InputError, match=r"two images have the id 'a.png'"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("word", ["nan", "inf", "-1", "1", "0.5"])
def test_yolo_class_ids_that_are_none(tmp_path, word):
    root = labelled(tmp_path, "yolo", [])
    (root / "labels/a.txt").write_text(f"{word} 0.5 0.5 0.1 0.1")
    with pytest.raises(InputError, match=rf"a.txt:1: class id {word} is beyond the list of 1 classes \(pit\)"):
        read_dataset(root)


def test_voc_in_an_encoding_that_xml_readers_lack(tmp_path):
    root = labelled(tmp_path, "voc", [])
    (root / "Annotations/a.xml").write_bytes(b'<?xml version="1.0" encoding="gb2312"?><annotation/>')
    with pytest.raises(InputError, match=r"a.xml: expected XML in UTF-8"):
        read_dataset(root)
