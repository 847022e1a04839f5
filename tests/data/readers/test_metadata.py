import json

import pytest
from PIL import Image

from agssp.data.readers import ReadReport, read_dataset
from agssp.data.schema import category_names, defect_names
from agssp.errors import InputError


def picture(path, size=(40, 20), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path, **options)


def folder(root, *rows, names=("a.png",), table="metadata.jsonl"):
    for name in names:
        picture(root / name)
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_text("\n".join(map(json.dumps, rows)))
    return root


def read(root, **options):
    report = ReadReport()
    return read_dataset(root, report=report, **options), report


def test_no_labels(tmp_path):
    data, report = read(folder(tmp_path, {"file_name": "a.png"}))
    assert "objects" not in data.features
    assert (report.images, report.unknown, report.lines()) == (1, 1, [])


def test_empty_table(tmp_path):
    with pytest.raises(InputError, match="no images found"):
        read(folder(tmp_path))


def test_all_that_a_line_may_say(tmp_path):
    objects = {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "category": ["pit", "dent"], "score": [0.5, 1], "iscrowd": [0, 1]}
    rows = [
        {"file_name": "x/a.png", "category": "steel", "is_normal": False, "mask_file_name": "m/a_mask.png"}
        | {"width": 40, "height": 20, "objects": objects},
        {"file_name": "x/b.png", "category": "brass", "is_normal": True},
        {"file_name": "x/c.png", "objects": None},
        {"file_name": "x/d.png", "category": None, "objects": {"bbox": [], "category": []}},
    ]
    names = ("x/a.png", "x/b.png", "x/c.png", "x/d.png", "m/a_mask.png")
    data, report = read(folder(tmp_path / "bolts", *rows, names=names))
    assert data["image_id"] == ["x/a.png", "x/b.png", "x/c.png", "x/d.png"]
    assert [category_names(data)[number] for number in data["category"]] == ["steel", "brass", "bolts", "bolts"]
    assert data["is_normal"] == [False, True, None, None]
    assert data[0]["objects"] == {
        "bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "category": [1, 0], "score": [0.5, 1], "iscrowd": [False, True],
    }  # fmt: skip
    assert [row and row["bbox"] for row in data["objects"]][1:] == [[], None, []]
    assert data[0]["mask"]["path"].endswith("m/a_mask.png")
    assert list(report.causes) == ["crowds"]
    assert (report.images, report.with_boxes, report.sound, report.unknown) == (4, 1, 2, 1)
    assert (report.boxes, report.crowds, report.labels_from) == ({"pit": 1}, 1, "metadata.jsonl")


def test_tables_in_several_folders_name_files_beside_them(tmp_path):
    for name in ("train", "more/deep"):
        folder(tmp_path / name, {"file_name": "a.png"})
    data, _ = read(tmp_path, format="metadata")
    assert data["image_id"] == ["more/deep/a.png", "train/a.png"]


def test_byte_order_mark_blank_lines_and_windows_ends(tmp_path):
    folder(tmp_path, names=("a.png", "b.png"))
    lines = ['{"file_name": "a.png"}', "", '{"file_name": "b.png"}', ""]
    (tmp_path / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert read(tmp_path)[0]["image_id"] == ["a.png", "b.png"]


def test_names_as_other_machines_write_them(tmp_path):
    rows = [
        {"file_name": "x\\a.png", "mask_file_name": "masks\\a.png"},
        {"file_name": "C:\\set\\x\\b.png"},
        {"file_name": str(tmp_path / "x/c%20d.png").replace("%20", " ")},
    ]
    data, report = read(folder(tmp_path, *rows, names=("x/a.png", "x/b.png", "x/c d.png", "masks/a.png")))
    assert data["image_id"] == ["x/a.png", "x/b.png", "x/c d.png"]
    assert report.count("found_by_name") == 1


@pytest.mark.parametrize("mask", ["../a.png", "/elsewhere/a.png", "gone.png"])
def test_a_mask_that_is_not_there_is_not_the_image_of_that_name(tmp_path, mask):
    root = folder(tmp_path / "set", {"file_name": "a.png", "mask_file_name": mask}, {"file_name": "b.png"})
    picture(root / "b.png")
    with pytest.raises(InputError, match=rf"metadata\.jsonl:1: names '{mask}'"):
        read(root)


def test_images_that_no_line_lists_are_told(tmp_path):
    names = ("a.png", "b.png", "masks/a.png")
    _, report = read(folder(tmp_path, {"file_name": "a.png"}, names=names))
    assert report.examples("unlisted") == ["b.png"]


def test_a_photo_by_the_size_of_its_line(tmp_path):
    rows = [
        {"file_name": "a.png", "width": 40, "height": 20, "objects": {"bbox": [[30, 4, 6, 2]], "category": ["pit"]}},
        {"file_name": "b.png", "width": 80, "height": 40, "objects": {"bbox": [[2, 4, 6, 8]], "category": ["pit"]}},
    ]
    root = folder(tmp_path, *rows, names=("b.png",))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(root / "a.png", exif=exif)
    data, report = read(root)
    assert [row["bbox"] for row in data["objects"]] == [[[14, 30, 2, 6]], [[1, 2, 3, 4]]]
    assert (report.count("turned"), report.count("scaled")) == (1, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('["a.png"]', "expected an object with a `file_name`"),
        ('{"name": 1}', "expected an object with a `file_name`"),
        ('{"file_name": "gone.png"}', "there is no such file"),
        ('{"file_name": "../secret.png"}', "points outside"),
        ('{"file_name": "/etc/a.png"}', "points outside"),
        ('{"file_name": "a.png", "mask_file_name": "../m.png"}', "points outside"),
        ('{"file_name": "a.png", "is_normal": 1}', "`is_normal` must be true, false or null, got 1"),
        ('{"file_name": "a.png", "category": 3}', "`category` must be the name of the object, got 3"),
        ('{"file_name": "a.png", "objects": {"bbox": [[1, 2, 3]], "category": ["x"]}}', "box 0: expected four numbers"),
        ('{"file_name": "a.png", "objects": [1]}', "box 0: expected objects ="),
        ('{"file_name": "a.png", "width": 40, "height": 40, "objects": [{"bbox": [1, 2, 3, 4], "label": "x"}]}',
         "box 0: the labels are for an image of 40 x 40 px"),
    ],
)  # fmt: skip
def test_bad_lines_are_named(tmp_path, line, message):
    root = folder(tmp_path)
    (root / "metadata.jsonl").write_text("\n" + line)
    with pytest.raises(InputError, match=rf"metadata\.jsonl:2:? .*{message}"):
        read(root)


def test_class_names_stay_as_they_were_where_all_boxes_of_one_are_dropped(tmp_path):
    objects = {"bbox": [[1, 2, 3, 4], [90, 90, 5, 5]], "category": ["pit", "dent"]}
    data, report = read(folder(tmp_path, {"file_name": "a.png", "objects": objects}))
    assert (defect_names(data), report.count("no_area")) == (["dent", "pit"], 1)
