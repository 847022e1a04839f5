"""COCO files as tools write them; `exact` boxes were read off the drawings by hand."""

import json
import random
import tracemalloc

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from agssp.data.readers import ReadReport, read_dataset
from agssp.data.readers.coco import box_of_segmentation, parse_coco
from agssp.data.readers.json_rows import load_rows
from agssp.data.schema import defect_names
from agssp.errors import InputError

CATEGORIES = [{"id": 7, "name": "pit"}, {"id": 2, "name": "scratch"}]


def picture(path, size=(40, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path, **options)


def content(names=("a.png", "b.png"), boxes=((1, 7, [1, 2, 3, 4]),), categories=CATEGORIES, **changes):
    """A COCO file of images numbered from 0, with annotations (image, category, bbox)."""
    return {
        "images": [{"id": index, "file_name": name, "width": 40, "height": 20} for index, name in enumerate(names)],
        "categories": list(categories),
        "annotations": [
            {"id": index, "image_id": image, "category_id": label, "bbox": bbox, "area": 1, "iscrowd": 0}
            for index, (image, label, bbox) in enumerate(boxes)
        ],
    } | changes


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table))
    return path


def folder(root, table, images=("a.png", "b.png"), file="labels.json"):
    for name in images:
        picture(root / name)
    write(root / file, table)
    return root


def read(source, **options):
    report = ReadReport()
    return read_dataset(source, report=report, **options), report


def objects(data):
    """[(class, box)] of each image by its id."""
    names = defect_names(data)
    return {
        row["image_id"]: row.get("objects")
        and [
            (names[label], [round(value, 3) for value in bbox])
            for label, bbox in zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)
        ]
        for row in data
    }


def test_no_annotations(tmp_path):
    data, report = read(folder(tmp_path, content(boxes=())))
    assert objects(data) == {"a.png": [], "b.png": []}
    assert defect_names(data) == ["scratch", "pit"]
    assert (report.sound, report.boxes, report.lines()) == (2, {"scratch": 0, "pit": 0}, [])


def test_no_key_of_annotations_is_not_to_have_none(tmp_path):
    table = content()
    del table["annotations"]
    data, report = read(folder(tmp_path, table))
    assert objects(data) == {"a.png": None, "b.png": None}
    assert (report.images, report.unknown) == (2, 2)
    data, _ = read(folder(tmp_path / "null", content(annotations=None)))
    assert objects(data) == {"a.png": None, "b.png": None}


def test_classes_in_the_order_of_their_ids(tmp_path):
    data, report = read(folder(tmp_path, content(boxes=[(1, 7, [1, 2, 3, 4]), (1, 2, [5, 6, 7, 8])])))
    assert defect_names(data) == ["scratch", "pit"]
    assert objects(data) == {"a.png": [], "b.png": [("pit", [1, 2, 3, 4]), ("scratch", [5, 6, 7, 8])]}
    assert (report.lines(), report.boxes) == ([], {"scratch": 1, "pit": 1})


LAYOUTS = {
    "beside": (("a.png", "b.png"), "anything.json", ("a.png", "b.png")),
    "images": (("images/a.png", "images/b.png"), "annotations.json", ("a.png", "b.png")),
    "fiftyone": (("data/a.png", "data/x/b.png"), "labels.json", ("a.png", "x/b.png")),
    "cvat": (("images/a.png", "images/b.png"), "annotations/instances_default.json", ("a.png", "b.png")),
    "cvat subset": (
        ("images/Train/Data/a.png", "images/Train/Data/b.png"), "annotations/instances_Train.json", ("a.png", "b.png"),
    ),
    "cvat names below": (
        ("images/Train/Data/a.png", "images/Train/Data/b.png"), "annotations/instances_Train.json",
        ("Data/a.png", "Data/b.png"),
    ),
    "coco": (("train2017/a.png", "train2017/b.png"), "annotations/instances_train2017.json", ("a.png", "b.png")),
    "another spelling": (("Images/Val/a.png", "Images/Val/b.png"), "annotations/Validation.json", ("a.png", "b.png")),
    "whole paths": (("images/x/a.png", "images/x/b.png"), "labels/l.json", ("images/x/a.png", "images/x/b.png")),
    "backslashes": (("images/x/a.png", "images/x/b.png"), "l.json", ("x\\a.png", "images\\x\\b.png")),
}  # fmt: skip


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_tools_put_images(tmp_path, layout, itself):
    images, file, names = LAYOUTS[layout]
    root = folder(tmp_path / "set", content(names), images, file)
    data, report = read(root / file if itself else root)
    assert [row["image"]["path"] for row in data] == [str(root / name) for name in images]
    assert [row and row["bbox"] for row in data["objects"]] == [[], [[1, 2, 3, 4]]]
    assert report.lines() == []


def test_images_of_one_name_in_two_splits(tmp_path):
    for split, box in (("Train", [1, 2, 3, 4]), ("Val", [5, 6, 7, 8])):
        images = [f"images/{split}/Data/{name}.png" for name in "ab"]
        folder(tmp_path, content(boxes=[(0, 7, box)]), images, f"annotations/instances_{split}.json")
    data, report = read(tmp_path)
    assert objects(data)["a.png"] == [("pit", [1, 2, 3, 4])]
    assert report.count("split_by_default") == 1
    data, report = read(tmp_path, split="validation")
    assert objects(data)["a.png"] == [("pit", [5, 6, 7, 8])]
    assert "images/Val/Data" in data[0]["image"]["path"]
    assert report.lines() == []


@pytest.mark.parametrize(
    ("files", "split", "chosen"),
    [
        (["instances_train2017.json", "instances_val2017.json"], None, 0),
        (["instances_Test.json", "instances_Train.json"], None, 1),
        (["instances_Test.json", "instances_Train.json"], "test", 0),
        (["fold1.json", "fold2.json"], "fold2", 1),
        (["latest.json"], None, 0),
        (["latest.json", "train.json"], "train", 1),
    ],
)
def test_several_files(tmp_path, files, split, chosen):
    for index, file in enumerate(files):
        folder(tmp_path, content([f"{index}.png"], boxes=[]), [f"{index}.png"], file)
    assert read(tmp_path, split=split)[0]["image_id"] == [f"{chosen}.png"]


@pytest.mark.parametrize(
    ("files", "split"),
    [
        (["latest.json", "contest.json"], "test"),
        (["instances_val.json", "instances_test.json"], None),
        (["a.json", "b.json"], None),
        (["train_a.json", "train_b.json"], None),
    ],
)
def test_several_files_of_which_none_is_meant_are_named(tmp_path, files, split):
    for file in files:
        folder(tmp_path, content(), file=file)
    with pytest.raises(InputError, match=rf"expected one COCO \.json.*({files[0]}.*{files[1]}|{files[1]}.*{files[0]})"):
        read(tmp_path, split=split)


def roots(*rows):
    return [{"id": number, "name": name, "supercategory": above} for number, name, above in rows]


@pytest.mark.parametrize(
    ("categories", "used", "classes", "causes"),
    [
        # Roboflow: a root that has no boxes is none, of the same name as a class it is that class.
        (roots((0, "bad", "none"), (1, "pit", "bad"), (2, "dent", "bad")), [1], ["pit", "dent"], ["empty_classes"]),
        (roots((0, "pit", "none"), (1, "pit", "pit")), [1], ["pit"], ["same_class"]),
        (roots((0, "pit", "none"), (1, "pit", "pit"), (2, "dent", "pit")), [1, 2], ["pit", "dent"], ["same_class"]),
        (roots((0, "pit", "none"), (1, "pit", "pit")), [0, 1], ["pit"], ["same_class"]),
        (roots((0, "pit", "none"), (1, "pit", "pit")), [], ["pit"], ["same_class"]),
        # One that has boxes is a class; so is one without that stands above none but itself.
        (roots((0, "defects", "none"), (1, "pit", "defects")), [0, 1], ["defects", "pit"], []),
        (roots((1, "pit", "pit"), (2, "dent", "dent")), [1], ["pit", "dent"], []),
        (roots((1, "pit", ""), (2, "dent", None)), [1], ["pit", "dent"], []),
    ],
)  # fmt: skip
def test_categories_that_stand_above_others(tmp_path, categories, used, classes, causes):
    boxes = [(0, label, [1 + index, 2, 3, 4]) for index, label in enumerate(used)]
    data, report = read(folder(tmp_path, content(categories=categories, boxes=boxes)))
    assert (defect_names(data), list(report.causes)) == (classes, causes)
    names = {row["id"]: row["name"] for row in categories}
    assert [name for name, _ in objects(data)["a.png"]] == [names[label] for label in used]


def test_two_categories_of_one_name_that_are_no_root(tmp_path):
    categories = roots((1, "pit", "none"), (2, "pit", "none"))
    with pytest.raises(InputError, match="categories 1, 2 share the name 'pit'"):
        read(folder(tmp_path, content(categories=categories, boxes=[])))


def test_classes_without_boxes_are_kept_and_left_out_where_a_list_is_asked_for(tmp_path):
    root = folder(tmp_path, content())
    assert defect_names(read(root)[0]) == ["scratch", "pit"]
    data, report = read(root, defect_types=["dent", "pit"])
    assert objects(data)["b.png"] == [("pit", [1, 2, 3, 4])]
    assert report.examples("empty_classes") == [f"scratch of {root}"]
    assert report.boxes == {"dent": 0, "pit": 1}
    with pytest.raises(InputError, match=r"unknown class 'pit', expected one of scratch, pits; did you mean 'pits'"):
        read(root, defect_types=["scratch", "pits"])


POLYGON = [[5.0, 4.0, 15.0, 4.0, 10.0, 12.5]]


def runs(compressed):
    pixels = np.zeros((20, 40), np.uint8, order="F")
    pixels[3:9, 10:25] = 1
    if compressed:
        encoded = coco_mask.encode(pixels)
        return {"size": [20, 40], "counts": encoded["counts"].decode()}
    flat = pixels.ravel(order="F")
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    return {"size": [20, 40], "counts": np.diff(ends).tolist()}


@pytest.mark.parametrize("bbox", [None, [], [0, 0, 0, 0]])
@pytest.mark.parametrize(
    ("outline", "box"),
    [
        (POLYGON, [5, 4, 10, 8.5]),
        (POLYGON[0], [5, 4, 10, 8.5]),
        ([[[5, 4], [15, 4], [10, 12.5]]], [5, 4, 10, 8.5]),
        ([[5, 4, 6, 4, 6, 5], [30, 10, 35, 10, 35, 18]], [5, 4, 30, 14]),
        (runs(False), [10, 3, 15, 6]),
        (runs(True), [10, 3, 15, 6]),
    ],
    ids=["polygon", "flat", "points", "two parts", "runs", "compressed runs"],
)
def test_an_outline_without_a_box(tmp_path, outline, box, bbox):
    table = content()
    table["annotations"][0] |= {"segmentation": outline, "bbox": bbox, "attributes": {"rotation": 45}}
    data, report = read(folder(tmp_path, table))
    assert objects(data)["b.png"] == [("pit", box)]
    assert list(report.causes) == ["outlines"]


@pytest.mark.parametrize(
    ("outline", "error", "message"),
    [
        (None, TypeError, "'NoneType' object is not iterable"),
        ([], ValueError, "expected pairs x, y, got 0 numbers"),
        ([[]], ValueError, "expected pairs x, y, got 0 numbers"),
        ([[1, 2, 3]], ValueError, "expected pairs x, y, got 3 numbers"),
        ({}, KeyError, "size"),
        ({"size": [20, 40]}, KeyError, "counts"),
        ({"size": [10**6, 10**6], "counts": "a"}, ValueError, "run lengths of an image of 1000000 x 1000000 px"),
        ("text", ValueError, "could not convert string to float: 't'"),
        (7, TypeError, "'int' object is not iterable"),
    ],
)
def test_outlines_that_are_none(outline, error, message):
    with pytest.raises(error, match=message):
        box_of_segmentation(outline)


def test_a_box_without_area_and_without_an_outline_is_dropped(tmp_path):
    _, report = read(folder(tmp_path, content(boxes=[(0, 7, [5, 5, 0, 0])])))
    assert report.count("no_area") == 1


@pytest.mark.parametrize(
    ("attributes", "box", "turned"),
    [
        # 20 x 4 around (20, 10)
        ({"rotation": 0.0}, [10, 8, 20, 4], 0),
        ({"rotation": 360}, [10, 8, 20, 4], 0),
        ({"rotation": 90.0, "occluded": False}, [18, 0, 4, 20], 1),
        ({"rotation": "270"}, [18, 0, 4, 20], 1),
        ({"rotation": 45}, [11.515, 1.515, 16.971, 16.971], 1),  # sides (20 + 4) / sqrt(2)
        ({"rotation": "left"}, [10, 8, 20, 4], 0),
        ({"rotation": None}, [10, 8, 20, 4], 0),
        ([], [10, 8, 20, 4], 0),
    ],
)
def test_rotation_among_the_attributes(tmp_path, attributes, box, turned):
    table = content(boxes=[(1, 7, [10, 8, 20, 4])])
    table["annotations"][0] |= {"attributes": attributes, "segmentation": []}
    data, report = read(folder(tmp_path, table))
    assert objects(data)["b.png"] == [("pit", pytest.approx(box, abs=1e-3))]
    assert report.count("rotated") == turned


@pytest.mark.parametrize("kind", [str, float, " {} ".format])
def test_ids_as_text_or_with_a_point(tmp_path, kind):
    table = content(boxes=[(1, 7, [1, 2, 3, 4]), (0, 2, [5, 6, 7, 8])])
    for row in table["annotations"]:
        row["image_id"], row["category_id"] = kind(row["image_id"]), kind(row["category_id"])
    data, _ = read(folder(tmp_path, table))
    assert objects(data) == {"a.png": [("scratch", [5, 6, 7, 8])], "b.png": [("pit", [1, 2, 3, 4])]}
    assert defect_names(data) == ["scratch", "pit"]


def test_ids_that_are_words(tmp_path):
    images = [{"id": "first", "file_name": "a.png"}, {"id": "second", "file_name": "b.png"}]
    table = content(boxes=[("second", "p", [1, 2, 3, 4])], categories=[{"id": "p", "name": "pit"}], images=images)
    assert objects(read(folder(tmp_path, table))[0]) == {"a.png": [], "b.png": [("pit", [1, 2, 3, 4])]}


@pytest.mark.parametrize(("flag", "crowd"), [("0", False), (0, False), (None, False), ("1", True), (True, True)])
def test_crowds_in_the_ways_tools_write_them(tmp_path, flag, crowd):
    table = content(boxes=[(1, 7, [1, 2, 3, 4]), (1, 7, [5, 6, 7, 8])])
    table["annotations"][0]["iscrowd"] = flag
    assert read(folder(tmp_path, table))[0][1]["objects"]["iscrowd"] == [crowd, False]


def test_images_that_no_file_lists_are_told(tmp_path):
    root = folder(tmp_path, content(["a.png"], boxes=[]), ["images/a.png", "images/x/b.png", "masks/a.png", "c.png"])
    assert read(root)[1].examples("unlisted") == ["images/x/b.png"]
    # Those of another split are listed elsewhere.
    folder(root, content(["b.png"], boxes=[]), [], "val.json")
    (root / "labels.json").rename(root / "train.json")
    assert "unlisted" not in read(root)[1].causes


def test_annotations_that_stand_there_twice_count_once(tmp_path):
    data, report = read(folder(tmp_path, content(boxes=[(1, 7, [1, 2, 3, 4]), (1, 7, [4, 6, -3, -4])])))
    assert objects(data)["b.png"] == [("pit", [1, 2, 3, 4])]
    assert (report.count("duplicates"), report.count("reversed")) == (1, 1)


def test_scores_are_kept(tmp_path):
    table = content()
    table["annotations"][0]["score"] = 0.25
    assert read(folder(tmp_path, table))[0][1]["objects"]["score"] == [0.25]


def test_photo_labelled_as_it_is_stored(tmp_path):
    root = folder(tmp_path, content(["a.jpg"], boxes=[(0, 7, [30, 4, 6, 2])]), [])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(root / "a.jpg", exif=exif)
    data, report = read(root)
    assert objects(data) == {"a.jpg": [("pit", [14, 30, 2, 6])]}
    assert report.examples("turned") == ["a.jpg (stored 40 x 20 px, upright 20 x 40 px)"]


def annotation(**changes):
    return {"annotations": [{"id": 9, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]} | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (annotation(image_id=4), "annotation 9: image_id 4 is not among"),
        (annotation(category_id=1), r"9: category_id 1 is not among the 2 categories \(2 scratch, 7 pit\)"),
        (annotation(image_id=[1]), r"annotation 9: image_id \[1\] is not among"),
        (annotation(category_id=[7]), r"annotation 9: category_id \[7\] is not among"),
        (annotation(category_id=True), "annotation 9: category_id True is not among"),
        (annotation(bbox=[1]), "annotation 9: expected bbox"),
        (annotation(bbox="abcd"), "annotation 9: expected bbox"),
        (annotation(bbox=7), "annotation 9: expected bbox"),
        (annotation(bbox=None, segmentation=[[1, 2, 3], [4, 5, 6]]), r"9: expected bbox .* or a segmentation"),
        (annotation(score="x"), "annotation 9: expected a number as its score, got 'x'"),
        (annotation(iscrowd=3), "annotation 9: iscrowd must be 0 or 1, got 3"),
        ({"annotations": [7]}, "annotation 0: expected an object, got 7"),
        ({"annotations": {}}, "expected annotations to be a list, got dict"),
        ({"images": [], "annotations": []}, "lists no images"),
        ({"images": [{"id": 1, "file_name": "a.png"}] * 2}, "two images share an id"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": "1", "file_name": "b.png"}]}, "two images share an id"),
        ({"images": [{"id": 1}]}, "expected a COCO file"),
        ({"images": [{"id": 1, "file_name": "../a.png"}], "annotations": []}, "points outside"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "c.png"}], "annotations": []},
         "1 of its 2 images"),
        ({"images": [{"id": 1, "file_name": "c.png"}, {"id": 2, "file_name": "d.png"}], "annotations": []},
         "its image 'c.png' was not found; looked in"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "x/a.png"}], "annotations": []},
         "both seem to be a.png"),
        ({"categories": CATEGORIES * 2}, "two categories share an id"),
        ({"categories": [{"id": 7}]}, "expected a COCO file"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read(folder(tmp_path, content(**changes)))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"images": 3, "categories": []}', '{"images": [], "boxes": []}'])
def test_files_that_are_no_coco(tmp_path, text):
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(InputError, match=r"l\.json: (not valid JSON|expected a COCO file|lists no images)"):
        read(tmp_path / "l.json")


def test_what_a_file_says_without_looking_for_its_images():
    table = content(["x/a.png"], boxes=[(0, 7, [1, 2, 3, 4])])
    table["annotations"][0]["segmentation"] = POLYGON
    images, classes = parse_coco(table, "l.json", ReadReport())
    assert classes == ["scratch", "pit"]
    (image,) = images.values()
    assert (image.file_name, image.size, image.outlines) == ("x/a.png", (40, 20), [POLYGON])
    assert [(label.bbox, label.defect_type, label.where) for label in image.labels] == [
        ((1, 2, 3, 4), "pit", "l.json annotation 0")
    ]


@pytest.mark.parametrize("place", ["", "train/"])
def test_the_json_is_parsed_once(tmp_path, monkeypatch, place):
    folder(tmp_path, content(), [f"{place}a.png", f"{place}b.png"], f"{place}labels.json")
    text, parsed = (tmp_path / place / "labels.json").read_bytes(), []
    monkeypatch.setattr("json.loads", lambda given, loads=json.loads: parsed.append(given) or loads(given))
    assert len(read_dataset(tmp_path)) == 2
    assert parsed.count(text) == 1


def odd_content(generator, count):
    """A COCO file with all that tools write in their own ways, its annotations in any order."""
    table = content([f"{number}.png" for number in range(count)], [])
    for row in table["images"]:
        row["id"] = generator.choice([row["id"], str(row["id"]), float(row["id"])])
    for number in range(4 * count):
        bbox = [
            generator.uniform(-2, 40),
            generator.uniform(-2, 20),
            generator.uniform(-3, 20),
            generator.uniform(0, 9),
        ]
        row = {"id": generator.choice([number, f"a{number}", 2**70, None]), "image_id": generator.randrange(count)}
        row |= {"category_id": generator.choice([7, "2"]), "bbox": bbox, "iscrowd": generator.choice([0, 0, 1, "1"])}
        row |= generator.choice([{}, {}, {"score": 0.5}, {"attributes": {"rotation": 30, "t": "}, {"}}])
        row |= generator.choice([{}, {}, {"segmentation": POLYGON}, {"segmentation": POLYGON, "bbox": []}])
        table["annotations"].append(row)
    return table


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("seed", range(3))
def test_a_large_file_is_read_as_a_small_one(tmp_path, monkeypatch, seed, indent):
    generator = random.Random(seed)
    table = odd_content(generator, 30)
    folder(tmp_path, table, [f"{number}.png" for number in range(30)])
    (tmp_path / "labels.json").write_text(json.dumps(table, indent=indent))
    small, told = read(tmp_path)
    monkeypatch.setattr("agssp.data.readers.listing.MOST_HELD", 0)
    monkeypatch.setattr("agssp.data.readers.json_rows.load_rows.__defaults__", (100,))
    for source in (tmp_path, tmp_path / "labels.json"):
        large, told_of_large = read(source)
        assert large.to_list() == small.to_list()
        assert (large.features, large._fingerprint) == (small.features, small._fingerprint)
        assert told_of_large.as_json() == told.as_json()
        assert told_of_large.shares == told.shares


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, r"l\.json annotation 77: image_id 9 is not among"),
        ({"category_id": 9}, r"l\.json annotation 77: category_id 9 is not among the 2 categories"),
        ({"bbox": [1, 2]}, r"l\.json annotation 77: expected bbox"),
        ({"score": "x"}, r"l\.json annotation 77: expected a number as its score"),
        ({"iscrowd": 5}, r"l\.json annotation 77: iscrowd must be 0 or 1"),
    ],
)
def test_an_annotation_of_a_large_file_is_named(tmp_path, monkeypatch, change, message):
    monkeypatch.setattr("agssp.data.readers.listing.MOST_HELD", 0)
    table = content(boxes=[(0, 7, [1, 2, 3, 4])] * 9)
    table["annotations"][5] |= {"id": 77} | change
    folder(tmp_path, table, file="l.json")
    with pytest.raises(InputError, match=message):
        read(tmp_path)
    table["annotations"][5] = 3
    write(tmp_path / "l.json", table)
    with pytest.raises(InputError, match=r"l\.json annotation 5: expected an object, got 3"):
        read(tmp_path)


@pytest.mark.parametrize(
    "text", ['{"images": [', '{"images": [], "annotations": [], "categories": []} x', "[" * 100_000]
)
def test_a_large_file_that_is_no_json(tmp_path, monkeypatch, text):
    monkeypatch.setattr("agssp.data.readers.listing.MOST_HELD", 0)
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(InputError, match=r"l\.json: not valid JSON"):
        read(tmp_path / "l.json")


@pytest.mark.parametrize("keys", [("annotations", "categories"), ("annotations", "images"), ("annotations",)])
def test_a_large_file_that_lacks_a_list_is_told(tmp_path, monkeypatch, keys):
    picture(tmp_path / "a.png")
    table = content()
    write(tmp_path / "l.json", {key: table[key] for key in keys})
    small = read(tmp_path)[1].as_json()
    assert small["changes"]["unread_files"]["count"] == 1
    monkeypatch.setattr("agssp.data.readers.listing.MOST_HELD", 0)
    assert read(tmp_path)[1].as_json() == small


def test_the_labels_of_images_fill_no_memory_as_objects(tmp_path):
    count = 3000
    table = content([f"{number}.png" for number in range(count)], [(n, 7, [1, 2, 3, 4]) for n in range(count)] * 3)
    path = write(tmp_path / "l.json", table)
    rows = load_rows(str(path), ("images", "annotations"))
    tracemalloc.start()
    try:
        images, _ = parse_coco(rows, "l.json", ReadReport(), with_outlines=False)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert sum(len(image.labels) for image in images.values()) == 3 * count
    assert held / count < 600
