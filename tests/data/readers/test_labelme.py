"""labelme's JSON files: kinds of shapes, which image a file is of, and what is known of images without one."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from tool_files import read, turned_exif, write

from agssp.data.readers.listing import Listing
from agssp.data.reading import read_labelled
from agssp.errors import InputError

DENT = ("dent", [24, 16, 24, 16])


def shape(kind="rectangle", points=((24, 16), (48, 32)), label="dent", **values):
    return {"label": label, "points": points, "shape_type": kind, **values}


def table(*shapes, image="a.png", size=(96, 64), **values):
    """A file for an image of this size."""
    content = {"version": "6.3.1", "flags": {}, "shapes": shapes or (), "imagePath": image, "imageData": None}
    return content | {"imageWidth": size[0], "imageHeight": size[1]} | values


def picture_in_base64(mask):
    with io.BytesIO() as stream:
        Image.fromarray(mask).save(stream, "PNG")
        return base64.b64encode(stream.getvalue()).decode()


def test_a_file_without_shapes_says_that_its_image_is_sound(tmp_path):
    found = read(write(tmp_path, {"a.png": None, "a.json": table()}))
    assert found.boxes == {"a.png": []}
    assert (found.report.layout, found.report.sound, found.report.with_label_file) == ("labelme", 1, 1)
    assert found.report.lines() == []


def test_of_an_image_without_a_file_nothing_is_known_and_that_is_told(tmp_path):
    found = read(write(tmp_path, {"a.png": None, "b.png": None, "a.json": table(shape())}))
    assert found.boxes == {"a.png": [DENT], "b.png": None}
    assert found.report.examples("unannotated") == ["b.png"]
    assert (found.report.unknown, found.report.sound) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "points", "expected"),
    [
        ("rectangle", [[24, 16], [48, 32]], [24, 16, 24, 16]),
        ("rectangle", [[48, 32], [24, 16]], [24, 16, 24, 16]),
        ("rectangle", [[24, 32], [48, 16]], [24, 16, 24, 16]),
        ("rectangle", [[24, 16], [48, 16], [48, 32], [24, 32]], [24, 16, 24, 16]),
        ("polygon", [[10, 10], [30, 20], [5.5, 40]], [5.5, 10, 24.5, 30]),
        (None, [[10, 10], [30, 20], [5.5, 40]], [5.5, 10, 24.5, 30]),
        ("circle", [[40, 30], [43, 34]], [35, 25, 10, 10]),
        ("oriented_rectangle", [[20, 10], [40, 25], [37, 29], [17, 14]], [17, 10, 23, 19]),
        ("rotation", [[20, 10], [40, 25], [37, 29], [17, 14]], [17, 10, 23, 19]),
        ("quadrilateral", [[20, 10], [40, 25], [37, 29], [17, 14]], [17, 10, 23, 19]),
        # Its points are its first and its last pixel.
        ("mask", [[10, 20], [19, 24]], [10, 20, 10, 5]),
    ],
)
def test_the_box_around_each_kind_of_shape(tmp_path, kind, points, expected):
    found = read(write(tmp_path, {"a.png": None, "a.json": table(shape(kind, points))}))
    assert found.boxes == {"a.png": [("dent", expected)]}


@pytest.mark.parametrize("values", [bool, np.uint8])
def test_a_mask_is_as_large_as_what_is_painted_in_it(tmp_path, values):
    mask = np.zeros((10, 15), values)
    mask[2:7, 5:9] = 1
    files = {"a.png": None, "a.json": table(shape("mask", [[5, 40], [19, 49]], mask=picture_in_base64(mask)))}
    assert read(write(tmp_path, files)).boxes == {"a.png": [("dent", [10, 42, 4, 5])]}


def test_a_mask_in_which_nothing_is_painted_is_no_sound_image(tmp_path):
    empty = picture_in_base64(np.zeros((10, 15), np.uint8))
    found = read(write(tmp_path, {"a.png": None, "a.json": table(shape("mask", [[5, 40], [19, 49]], mask=empty))}))
    assert found.boxes == {"a.png": None}
    assert found.report.count("no_area") == 1


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("no base64!", "picture in base64"),
        (base64.b64encode(b"no picture").decode(), "picture in base64"),
        (3, "picture in base64"),
        (picture_in_base64(np.ones((3, 3), np.uint8)), "mask has 3 x 3 px, but its points are 15 x 10 px apart"),
    ],
)
def test_bad_masks(tmp_path, mask, message):
    write(tmp_path, {"a.png": None, "a.json": table(shape("mask", [[5, 40], [19, 49]], mask=mask))})
    with pytest.raises(InputError, match=rf"a\.json shape 0: .*{message}"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip"])
def test_points_and_lines_are_left_out_and_counted(tmp_path, kind):
    found = read(write(tmp_path, {"a.png": None, "a.json": table(shape(kind, [[1, 2], [3, 4]]), shape())}))
    assert found.boxes == {"a.png": [DENT]}
    assert found.report.count("not_boxes") == 1


def test_an_image_with_points_alone_is_not_taken_as_sound(tmp_path):
    found = read(write(tmp_path, {"a.png": None, "a.json": table(shape("point", [[1, 2]]))}))
    assert found.boxes == {"a.png": None}
    assert found.report.examples("all_dropped") == ["a.png"]


@pytest.mark.parametrize(
    ("flags", "expected"), [({}, []), ({"good": True, "bad": False}, []), ({"good": False, "worn": True}, None)]
)
def test_flags_of_an_image_without_shapes(tmp_path, flags, expected):
    found = read(write(tmp_path, {"a.png": None, "a.json": table(flags=flags)}))
    assert found.boxes == {"a.png": expected}
    assert found.report.count("flagged") == (expected is None)
    assert read(write(tmp_path, {"a.json": table(shape(), flags=flags)})).boxes == {"a.png": [DENT]}


def test_boxes_beyond_the_image_are_clipped_and_rectangles_without_area_dropped(tmp_path):
    shapes = shape(points=[[80, 50], [120, 90]]), shape(points=[[5, 5], [5, 9]])
    found = read(write(tmp_path, {"a.png": None, "a.json": table(*shapes)}))
    assert found.boxes == {"a.png": [("dent", [80, 50, 16, 14])]}
    assert (found.report.count("clipped"), found.report.count("no_area")) == (1, 1)


def test_labels_for_a_larger_image_of_the_same_proportions_are_scaled(tmp_path):
    content = table(shape(points=[[240, 160], [480, 320]]), size=(960, 640))
    found = read(write(tmp_path, {"a.png": None, "a.json": content}))
    assert found.boxes == {"a.png": [DENT]}
    assert found.report.count("scaled") == 1


def test_labels_for_an_image_of_other_proportions_are_refused(tmp_path):
    write(tmp_path, {"a.png": None, "a.json": table(shape(), size=(100, 100))})
    with pytest.raises(InputError, match=r"a\.json shape 0: .*100 x 100 px, but a\.png is 96 x 64 px"):
        read(tmp_path)


@pytest.mark.parametrize(("size", "expected"), [((64, 96), [10, 20, 20, 40]), ((96, 64), [4, 10, 40, 20])])
def test_turned_photos_by_the_size_that_the_file_states(tmp_path, size, expected):
    # Stored 96 x 64 and turned clockwise: (x, y) of the stored pixels goes to (64 - y, x).
    content = table(shape(points=[[10, 20], [30, 60]]), size=size)
    found = read(write(tmp_path, {"a.jpg": turned_exif(), "a.json": content}))
    assert found.boxes == {"a.jpg": [("dent", expected)]}


@pytest.mark.parametrize(
    "image_path", ["../images/a.png", "..\\images\\a.png", "C:\\work\\a.png", "/home/me/images/a.png", "old.png", ""]
)
def test_files_elsewhere_in_the_folder_are_of_the_image_that_they_name(tmp_path, image_path):
    content = table(shape(), image=image_path)
    found = read(write(tmp_path, {"images/a.png": None, "images/b.png": None, "json/a.json": content}))
    assert found.boxes == {"images/a.png": [DENT], "images/b.png": None}
    assert found.report.count("found_by_name") == (not image_path.startswith(".."))


def test_a_renamed_pair_of_image_and_file_belongs_together(tmp_path):
    found = read(write(tmp_path, {"new.PNG": None, "new.JSON": table(shape(), image="old.png")}))
    assert found.boxes == {"new.PNG": [DENT]}
    assert found.report.lines() == []


def test_a_file_beside_one_image_that_names_another_is_told(tmp_path):
    found = read(write(tmp_path, {"a.png": None, "b.png": None, "a.json": table(shape(), image="b.png")}))
    assert found.boxes == {"a.png": [DENT], "b.png": None}
    assert "names b.png, lies beside a.png" in found.report.examples("found_by_name")[0]


def test_of_two_images_of_one_stem_the_file_says_which(tmp_path):
    files = {"a.png": None, "a.jpg": None, "a.json": table(shape(), image="..\\x\\a.png")}
    assert read(write(tmp_path, files)).boxes == {"a.jpg": None, "a.png": [DENT]}
    write(tmp_path, {"a.json": table(shape(), image="c.png")})
    with pytest.raises(InputError, match=r"a\.json: a\.jpg and a\.png have that name"):
        read(tmp_path)


def test_two_files_of_one_image_are_refused(tmp_path):
    files = {"a.png": None, "a.json": table(shape()), "json/b.json": table(shape(), image="../a.png")}
    with pytest.raises(InputError, match=r"b\.json: a\.png has labels in another file"):
        read(write(tmp_path, files))


def test_a_name_that_several_images_have_is_refused(tmp_path):
    files = {"x/a.png": None, "y/a.png": None, "json/b.json": table(shape())}
    with pytest.raises(InputError, match=r"b\.json: .*several files"):
        read(write(tmp_path, files))


def test_files_in_a_tree_like_that_of_the_images(tmp_path):
    files = {f"images/{line}/a.png": None for line in ("l1", "l2")}
    files |= {"labels/l1/a.json": table(shape()), "labels/l2/a.json": table()}
    found = read(write(tmp_path, files))
    assert found.boxes == {"images/l1/a.png": [DENT], "images/l2/a.png": []}
    assert found.report.lines() == []


def test_an_image_within_its_file_alone_is_named(tmp_path):
    write(tmp_path, {"b.png": None, "a.json": table(shape(), imageData="iVBOR")})
    with pytest.raises(InputError, match=r"a\.json: its image 'a\.png' .* within the file alone \(imageData\)"):
        read(tmp_path)


def test_files_without_an_image_are_told_and_refused_where_there_are_no_others(tmp_path):
    write(tmp_path, {"a.png": None, "z.json": table(shape(), image="z.png")})
    with pytest.raises(InputError, match=r"z\.json: its image 'z\.png' is not in"):
        read(tmp_path)
    found = read(write(tmp_path, {"a.json": table(shape())}))
    assert found.boxes == {"a.png": [DENT]}
    assert "z.json (of z.png)" in found.report.examples("orphans")[0]


def test_json_of_other_tools_lies_among_the_files(tmp_path):
    others = {f"about{index}.json": {"tool": "x"} for index in range(30)}
    found = read(write(tmp_path, {"p.png": None, "q.png": None, "p.json": table(shape(), image="p.png"), **others}))
    assert found.boxes == {"p.png": [DENT], "q.png": None}
    assert found.report.count("unread_files") == 0
    found = read(write(tmp_path, {"q.json": {"objects": [], "size": {}}}))
    assert [name.split("/")[-1] for name in found.report.examples("unread_files")] == ["q.json (beside labelme's)"]


@pytest.mark.parametrize("above", ["", "images/"])
def test_one_split_of_several_is_read(tmp_path, above):
    train, valid = f"{above}Train/a", f"{above}Valid/a"
    files = {f"{train}.png": None, f"{train}.json": table(shape()), f"{valid}.png": None, f"{valid}.json": table()}
    bad = {f"{above}Test/c.png": None, f"{above}Test/c.json": table(shape("line"))}
    assert read(write(tmp_path / "three", files | bad)).report.count("not_boxes") == 0
    tmp_path = tmp_path / "two"
    found = read(write(tmp_path, files))
    assert found.boxes == {f"{train}.png": [DENT]}
    assert found.report.count("split_by_default") == 1
    assert read(tmp_path, split="val").boxes == {f"{valid}.png": []}
    assert read(tmp_path, format="labelme").boxes == found.boxes
    with pytest.raises(InputError, match=r"split 'test'; it has Train, Valid"):
        read(tmp_path, split="test")


@pytest.mark.parametrize(
    "bad",
    [
        shape(label=None),
        shape(label=" "),
        shape("star"),
        shape("rectangle", [[1, 2]]),
        shape("polygon", [[1, 2], [3, 4]]),
        shape("circle", [[1, 2], [3, 4], [5, 6]]),
        shape(points=[[1, None], [3, 4]]),
        shape(points=[[1, 2, 3], [3, 4, 5]]),
        shape(points=[["one", 2], [3, 4]]),
        shape(points=[[10**400, 2], [3, 4]]),
        shape(points=3),
        {"label": "dent"},
        [1, 2],
        None,
        "dent",
    ],
)
def test_bad_shapes_are_named(tmp_path, bad):
    write(tmp_path, {"a.png": None, "a.json": table(shape(), bad)})
    with pytest.raises(InputError, match=r"a\.json shape 1"):
        read(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_nowhere_lose_their_box_with_a_word(tmp_path, value):
    points = [[value, 2], [value, 20]]
    found = read(write(tmp_path, {"a.png": None, "a.json": table(shape(points=points), shape())}))
    assert found.boxes == {"a.png": [DENT]}
    assert found.report.count("no_area") == 1


@pytest.mark.parametrize("content", [b"", b'{"shapes": [', b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    write(tmp_path, {"a.png": None, "a.json": table(shape()), "b.png": None, "b.json": content})
    with pytest.raises(InputError, match=r"b\.json: not valid JSON"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"shapes": [', [], {"shapes": None, "imagePath": None}, {"shapes": {}}])
def test_where_no_file_is_readable_the_error_names_one(tmp_path, content):
    write(tmp_path, {"a.png": None, "a.json": content})
    with pytest.raises(InputError, match=r"a\.json"):
        read_labelled(str(tmp_path))


@pytest.mark.parametrize("size", [("96", "64"), (None, None), (0, 0), ("wide", 3), (10**400, 64), ([], {})])
def test_sizes_that_are_none_are_no_sizes(tmp_path, size):
    assert read(write(tmp_path, {"a.png": None, "a.json": table(shape(), size=size)})).boxes == {"a.png": [DENT]}


def test_pictures_within_the_files_are_not_kept_in_memory(tmp_path):
    listing = Listing(write(tmp_path, {"a.png": None, "a.json": table(shape(), imageData="A" * 1000)}))
    assert listing.json("a.json")["imageData"] is True
    assert read(tmp_path).boxes == {"a.png": [DENT]}
