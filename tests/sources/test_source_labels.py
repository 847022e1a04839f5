"""Labels of sources: the same boxes as `--dataset` reads from the same files, and outlines that lie on them."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from agssp.data.readers import ReadReport, read_dataset
from agssp.data.schema import defect_names
from agssp.errors import InputError
from agssp.sources.image import SourceReport
from agssp.sources.labels import read_told, settle_labels
from agssp.sources.layout import read_source_images
from agssp.sources.table import Source

COCO = {"format": "coco", "tables": [{"file": "annotations/train.json", "images": "images", "split": "train"}]}
VOC = {"format": "voc", "file": "Annotations/{stem}.xml"}
LABELME = {"format": "labelme", "file": "images/{stem}.json"}


def source(labels, **changes):
    return Source("fake", "Fake", files=[{"match": r"images/(?P<stem>[^/]+)\.png"}], labels=labels, **changes)


def save(file, size=(24, 16), orientation=1):
    file.parent.mkdir(exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", size, 90).save(file, exif=exif)


def write(file, text):
    file.parent.mkdir(exist_ok=True)
    file.write_text(text if isinstance(text, str) else json.dumps(text))


def coco(images, annotations):
    """Images as (name, stated size); annotations as (number of the image, class, box, more)."""
    names = sorted({name for _, name, _, _ in annotations})
    return {
        "images": [
            {"id": number, "file_name": name, "width": size[0], "height": size[1]}
            for number, (name, size) in enumerate(images)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": names.index(name), "bbox": box, **more}
            for number, (image, name, box, more) in enumerate(annotations)
        ],
    }


def labelme(shapes, size, image="a.png"):
    rows = [{"label": "pit", "points": points, "shape_type": kind} for kind, points in shapes]
    return {"shapes": rows, "imagePath": image, "imageWidth": size[0], "imageHeight": size[1]}


def voc(*boxes, size=(24, 16)):
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for name, (left, top, right, bottom) in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"


def read(entry, root, report=None, crowds="auto"):
    images = read_source_images(entry, root, report or SourceReport(), crowds)
    return {image.path.stem: image for image in images}


def boxes_of(entry, root, report=None):
    """Boxes of each image as (box, class, crowd), held against those that `--dataset` reads from the same files."""
    found = {
        name: image.boxes and [(tuple(box.bbox), box.defect_type, box.iscrowd) for box in image.boxes]
        for name, image in read(entry, root, report).items()
    }
    told = ReadReport()
    dataset = read_dataset(root, report=told)
    names = defect_names(dataset)
    for row in dataset:
        objects = row["objects"]
        expected = objects and [
            (pytest.approx(box, abs=1e-4), names[label], crowd)
            for box, label, crowd in zip(objects["bbox"], objects["category"], objects["iscrowd"], strict=True)
        ]
        assert found[row["image_id"].split("/")[-1].removesuffix(".png")] == expected
    if report is not None:
        here, there = ({name: cause.count for name, cause in each.causes.items()} for each in (report.boxes, told))
        assert here == there
        assert report.boxes.boxes == told.boxes
    return found


def test_no_images_have_no_labels(tmp_path):
    write(tmp_path / "annotations/train.json", coco([], []))
    for entry in (source({}), source(VOC), source(LABELME), source(COCO)):
        assert read_told(entry, tmp_path, [], ReadReport()) == []
        assert settle_labels(entry, [], ReadReport()) == []


def test_coco_with_crowds_a_stated_size_and_rotated_boxes(tmp_path):
    for name in "ab":
        save(tmp_path / f"images/{name}.png")
    annotations = [
        (0, "pit", [4, 2, 8, 6], {"segmentation": [[4, 2, 12, 2, 12, 8, 4, 8]]}),
        (0, "pit", [4, 2, 8, 6], {"segmentation": [[4, 2, 12, 2, 12, 8, 4, 8]]}),
        (0, "rust", [40, 20, 20, 10], {"iscrowd": 1, "segmentation": [[40, 20, 60, 20, 60, 30, 40, 30]]}),
        (1, "rust", [6, 6, 8, 4], {"attributes": {"rotation": 90}}),
    ]
    write(tmp_path / "annotations/train.json", coco([("a.png", (48, 32)), ("b.png", (24, 16))], annotations))
    report = SourceReport()
    found = boxes_of(source(COCO), tmp_path, report)
    assert found == {
        "a": [((2, 1, 4, 3), "pit", False), ((20, 10, 4, 5), "rust", True)],
        "b": [((8, 4, 4, 8), "rust", False)],
    }
    assert {cause: report.boxes.count(cause) for cause in report.boxes.causes} == {
        "scaled": 1, "duplicates": 1, "clipped": 1, "rotated": 1, "crowds": 1
    }  # fmt: skip
    image = read(source(COCO), tmp_path)["a"]
    mask = sum(shape.read((16, 24))[0][1].astype(int) for shape in image.masks)
    expected = np.zeros((16, 24), int)
    expected[1:4, 2:6], expected[10:15, 20:24] = 2, 1
    assert np.array_equal(mask, expected)
    assert image.split == "train"


def test_labelme_with_a_circle_and_a_turned_photo(tmp_path):
    # Stored as 24 x 16 px, which a quarter turn clockwise makes 16 x 24.
    save(tmp_path / "images/a.png", orientation=6)
    save(tmp_path / "images/b.png")
    write(tmp_path / "images/a.json", labelme([("circle", [[8, 6], [8, 10]])], (24, 16)))
    write(tmp_path / "images/b.json", labelme([("rectangle", [[9, 7], [2, 1]])], (24, 16), "b.png"))
    report = SourceReport()
    found = boxes_of(source(LABELME), tmp_path, report)
    assert found == {"a": [((6, 4, 8, 8), "pit", False)], "b": [((2, 1, 7, 6), "pit", False)]}
    assert report.boxes.count("turned") == 1
    image = read(source(LABELME), tmp_path)["a"]
    ((_, mask),) = image.masks[0].read((24, 16))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 11, 6, 13)
    assert mask.sum() == pytest.approx(math.pi * 4**2, rel=0.1)


def test_photos_of_which_some_tell_decide_for_all_of_the_source(tmp_path):
    save(tmp_path / "images/a.png", orientation=6)
    save(tmp_path / "images/b.png", size=(16, 16), orientation=6)
    write(tmp_path / "Annotations/a.xml", voc(("pit", (2, 1, 7, 4))))
    write(tmp_path / "Annotations/b.xml", voc(("pit", (2, 1, 7, 4)), size=(16, 16)))
    report = SourceReport()
    # 16 - 1 - 3 = 12 px from the left, whichever of both it is.
    assert boxes_of(source(VOC), tmp_path, report) == {name: [((12, 2, 3, 5), "pit", False)] for name in "ab"}
    assert report.boxes.count("turned_as_others") == 1
    save(tmp_path / "images/c.png", orientation=6)
    write(tmp_path / "Annotations/c.xml", voc(("pit", (2, 1, 7, 4)), size=(16, 24)))
    with pytest.raises(InputError, match=r"is that of the stored pixels .* but that of images/c\.png"):
        read(source(VOC), tmp_path)


def test_voc_with_reversed_corners(tmp_path):
    save(tmp_path / "images/a.png")
    save(tmp_path / "images/b.png")
    write(tmp_path / "Annotations/a.xml", voc(("pit", (9, 7, 2, 1)), ("pit", (2, 1, 9, 7)), ("dent", (20, 3, 30, 5))))
    write(tmp_path / "Annotations/b.xml", voc())
    report = SourceReport()
    found = boxes_of(source(VOC), tmp_path, report)
    assert found == {"a": [((2, 1, 7, 6), "pit", False), ((20, 3, 4, 2), "dent", False)], "b": []}
    assert report.boxes.examples("reversed") == [f"{tmp_path / 'Annotations/a.xml'} object 0"]
    assert report.lines()[:2] == [
        "2 images, 2 with a label file, 1 with boxes, 1 known to be sound (read as voc, labels from Annotations/a.xml)",
        "boxes by class: pit 1, dent 1",
    ]
    kept = report.as_json(tmp_path)
    assert kept["changes"]["reversed"] == {"kind": "turned", "count": 1, "examples": ["Annotations/a.xml object 0"]}
    assert (kept["boxes"], kept["unmatched"]) == ({"pit": 1, "dent": 1}, 0)


def test_a_size_that_fits_in_no_way_is_an_error(tmp_path):
    save(tmp_path / "images/a.png")
    write(tmp_path / "Annotations/a.xml", voc(("pit", (2, 1, 9, 7)), size=(24, 24)))
    with pytest.raises(InputError, match=r"a\.xml object 0: the labels are for an image of 24 x 24 px"):
        read(source(VOC), tmp_path)


def test_classes_that_get_one_name_count_a_box_once_and_dropped_ones_never(tmp_path):
    save(tmp_path / "images/a.png")
    box = (2, 1, 9, 7)
    write(tmp_path / "Annotations/a.xml", voc(("pit", box), ("pitt", box), ("d", (1, 1, 5, 5))))
    names = {"pitt": "pit", "d": None}
    image = read(source(VOC, names=names, classes=["pit"]), tmp_path)["a"]
    assert [(box.bbox, box.defect_type) for box in image.boxes] == [((2, 1, 7, 6), "pit")]
    with pytest.raises(InputError, match=r"a\.xml object 1: unknown class 'pitt'"):
        read(source(VOC, names={"d": None}, classes=["pit"]), tmp_path)


def test_last_numbers_of_yolo_lines_are_decided_for_the_whole_source(tmp_path):
    labels = {"format": "yolo", "file": "labels/{stem}.txt"}
    for name, last in (("a", "1"), ("b", "0.5")):
        save(tmp_path / f"images/{name}.png")
        write(tmp_path / f"labels/{name}.txt", f"1 0.5 0.5 0.25 0.5 {last}\n0 0.25 0.25 0.5 0.25 0.5 0.5\n")
    entry = source(labels, classes=["pit", "dent"])
    found = read(entry, tmp_path)
    assert [(box.bbox, box.defect_type, box.score) for box in found["b"].boxes] == [
        ((9, 4, 6, 8), "dent", 0.5), ((6, 4, 6, 4), "pit", 1)
    ]  # fmt: skip
    assert [box.score for box in found["a"].boxes] == [1, 1]
    write(tmp_path / "labels/a.txt", "1 0.5 0.5 0.25 0.5 3\n")
    with pytest.raises(InputError, match="no score"):
        read(entry, tmp_path)


def test_each_table_decides_what_its_crowds_are(tmp_path):
    tables = [{**COCO["tables"][0], "file": f"annotations/{name}.json"} for name in ("train", "val")]
    for name in "ab":
        save(tmp_path / f"images/{name}.png")
    marked = (0, "pit", [2, 1, 4, 3], {"iscrowd": 1})
    write(tmp_path / "annotations/train.json", coco([("a.png", (24, 16))], [marked]))
    write(tmp_path / "annotations/val.json", coco([("b.png", (24, 16))], [marked, (0, "pit", [9, 9, 4, 3], {})]))
    entry = source({"format": "coco", "tables": tables})
    found = read(entry, tmp_path)
    assert [[box.iscrowd for box in found[name].boxes] for name in "ab"] == [[False], [True, False]]
    found = read(entry, tmp_path, crowds="ignore")
    assert [[box.iscrowd for box in found[name].boxes] for name in "ab"] == [[True], [True, False]]


def test_outlines_of_a_part_of_the_boxes_are_no_mask(tmp_path):
    for name in "ab":
        save(tmp_path / f"images/{name}.png")
    outline = {"segmentation": [[2, 1, 6, 1, 6, 4]]}
    rows = [(0, "pit", [2, 1, 4, 3], outline), (0, "dent", [9, 9, 4, 3], {}), (1, "pit", [2, 1, 4, 3], outline)]
    write(tmp_path / "annotations/train.json", coco([("a.png", (24, 16)), ("b.png", (24, 16))], rows))
    report = SourceReport()
    found = read(source(COCO), tmp_path, report)
    assert (found["a"].masks, len(found["a"].boxes), len(found["b"].masks)) == (None, 2, 1)
    assert report.boxes.examples("part_of_outlines") == ["images/a.png"]
    # Of classes that are not kept outlines are not missed.
    report = SourceReport()
    assert len(read(source(COCO, names={"dent": None}), tmp_path, report)["a"].masks) == 1
    assert report.boxes.causes == {}


def test_masks_of_labelme_leave_their_box(tmp_path):
    save(tmp_path / "images/a.png")
    write(tmp_path / "images/a.json", labelme([("mask", [[2, 1], [8, 6]])], (24, 16)))
    report = SourceReport()
    image = read(source(LABELME), tmp_path, report)["a"]
    assert ([box.bbox for box in image.boxes], image.masks) == ([(2, 1, 7, 6)], None)
    assert report.boxes.examples("part_of_outlines") == ["images/a.png"]


def test_nothing_said_is_not_nothing_there(tmp_path):
    save(tmp_path / "images/a.png")
    content = coco([("a.png", (24, 16))], [])
    write(tmp_path / "annotations/train.json", content)
    assert (read(source(COCO), tmp_path)["a"].is_normal, read(source(COCO), tmp_path)["a"].boxes) == (True, [])
    del content["annotations"]
    write(tmp_path / "annotations/train.json", content)
    image = read(source(COCO), tmp_path)["a"]
    assert (image.is_normal, image.boxes, image.masks, image.split) == (None, None, None, "train")
    write(tmp_path / "images/a.json", labelme([("point", [[2, 1]])], (24, 16)))
    image = read(source(LABELME), tmp_path)["a"]
    assert (image.is_normal, image.boxes, image.masks) == (None, None, None)


def test_images_of_a_table_that_are_missing_are_told_and_two_rows_of_one_are_an_error(tmp_path):
    save(tmp_path / "images/a.png")
    size = (24, 16)
    write(tmp_path / "annotations/train.json", coco([("a.png", size), ("gone.png", size)], []))
    report = SourceReport()
    assert list(read(source(COCO), tmp_path, report)) == ["a"]
    assert report.boxes.examples("missing_images") == ["images/gone.png"]
    write(tmp_path / "annotations/train.json", coco([("a.png", size), ("./a.png", size)], []))
    with pytest.raises(InputError, match=r"lists the image '\./a\.png' twice"):
        read(source(COCO), tmp_path)
    write(tmp_path / "annotations/train.json", "[" * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        read(source(COCO), tmp_path)
