"""CVAT for images 1.1: shapes, subsets, where the file and its images lie, and what is refused."""

import pytest
from tool_files import read, turned_exif, write

from agssp.errors import InputError

BOX = '<box label="dent" xtl="24" ytl="16" xbr="48" ybr="32"/>'
DENT = ("dent", [24, 16, 24, 16])


def image(*shapes, name="a.png", size=(96, 64), subset=None):
    of = f' subset="{subset}"' if subset else ""
    return f'<image id="0" name="{name}"{of} width="{size[0]}" height="{size[1]}">{"".join(shapes)}</image>'


def cvat(*images, labels=()):
    meta = "".join(f"<label><name>{name}</name></label>" for name in labels)
    meta = f"<meta><task><labels>{meta}</labels></task></meta>"
    body = f"<version>1.1</version>{meta}{''.join(images)}"
    return f'<?xml version="1.0" encoding="utf-8"?><annotations>{body}</annotations>'


def one(tmp_path, *shapes, **options):
    """What is read of one image with these shapes."""
    return read(write(tmp_path, {"images/a.png": None, "annotations.xml": cvat(image(*shapes, **options))}))


def test_an_image_without_shapes_is_sound(tmp_path):
    found = one(tmp_path)
    assert found.boxes == {"images/a.png": []}
    assert (found.report.layout, found.report.labels_from, found.report.sound) == ("cvat", "annotations.xml", 1)
    assert found.report.lines() == []


def test_a_file_without_images_is_an_error(tmp_path):
    write(tmp_path, {"images/a.png": None, "annotations.xml": cvat()})
    with pytest.raises(InputError, match=r"annotations\.xml: lists no images"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (BOX, [24, 16, 24, 16]),
        ('<box label="dent" xtl="48" ytl="32" xbr="24" ybr="16"/>', [24, 16, 24, 16]),
        ('<box label=" dent " xtl="24.50" ytl="16" xbr="48" ybr="32" rotation="360"/>', [24.5, 16, 23.5, 16]),
        # 40 x 10 around (40, 30), turned by a right angle, and its corners the other way round.
        ('<box label="dent" xtl="20" ytl="25" xbr="60" ybr="35" rotation="90.00"/>', [35, 10, 10, 40]),
        ('<box label="dent" xtl="60" ytl="35" xbr="20" ybr="25" rotation="270"/>', [35, 10, 10, 40]),
        ('<polygon label="dent" points="10.00,12.00;30.50,20.00;5.00,40.00"/>', [5, 12, 25.5, 28]),
        ('<ellipse label="dent" cx="40" cy="30" rx="20" ry="5"/>', [20, 25, 40, 10]),
        ('<ellipse label="dent" cx="40" cy="30" rx="20" ry="5" rotation="90"/>', [35, 10, 10, 40]),
        # At 45 degrees a radius is sqrt((15**2 + 5**2) / 2), 11.180 px; a circle stays what it is.
        ('<ellipse label="dent" cx="40" cy="30" rx="8" ry="8" rotation="45"/>', [32, 22, 16, 16]),
        ('<ellipse label="dent" cx="40" cy="30" rx="15" ry="5" rotation="45"/>', [28.82, 18.82, 22.361, 22.361]),
        # 4 x 3 px at (10, 20), of which the middle row's 2nd and 3rd are painted.
        ('<mask label="dent" rle="5, 2, 5" left="10" top="20" width="4" height="3"/>', [11, 21, 2, 1]),
        # A run over the end of a row reaches both sides; the first run may be empty.
        ('<mask label="dent" rle="3, 2, 7" left="10" top="20" width="4" height="3"/>', [10, 20, 4, 2]),
        ('<mask label="dent" rle="0, 12" left="10" top="20" width="4" height="3"/>', [10, 20, 4, 3]),
        # The whole image as the mask's place: row 1 from the 6th px, row 2 from the 7th.
        ('<mask label="dent" rle="101, 3, 94, 2, 5944" left="0" top="0" width="96" height="64"/>', [5, 1, 3, 2]),
        (
            '<cuboid label="dent" xtl1="10" ytl1="10" xbl1="10" ybl1="30" xtr1="20" ytr1="12" xbr1="20" ybr1="28" '
            'xtl2="25" ytl2="9" xbl2="25" ybl2="27" xtr2="15" ytr2="8" xbr2="15" ybr2="29"/>',
            [10, 8, 15, 22],
        ),
    ],
)
def test_the_box_around_each_kind_of_shape(tmp_path, shape, expected):
    assert one(tmp_path, shape).boxes == {"images/a.png": [("dent", expected)]}


@pytest.mark.parametrize("kind", ["points", "polyline", "tag", "skeleton", "of_the_future"])
def test_shapes_without_area_are_told_and_make_no_image_sound(tmp_path, kind):
    shape = f'<{kind} label="dent" points="1,2;3,4"/>'
    found = one(tmp_path, shape, BOX)
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.count("not_boxes") == 1
    found = one(tmp_path, shape)
    assert found.boxes == {"images/a.png": None}
    assert found.report.examples("all_dropped") == ["images/a.png"]


def test_classes_are_those_of_the_file_in_its_order(tmp_path):
    content = cvat(image(BOX, BOX.replace("dent", "pit")), labels=("rust", " dent"))
    assert read(write(tmp_path, {"images/a.png": None, "annotations.xml": content})).names == ["rust", "dent", "pit"]


@pytest.mark.parametrize(
    ("picture", "xml", "name"),
    [
        ("a.png", "annotations.xml", "a.png"),
        ("images/a.png", "annotations.xml", "images/a.png"),
        ("images/a.png", "export.XML", "a.png"),
        ("images/default/a.png", "annotations/default.xml", "a.png"),
        ("images/a.png", "annotations/default.xml", "a.png"),
        ("images/line 7/a.png", "annotations.xml", "line 7\\a.png"),
        ("data/line 7/a.png", "annotations.xml", "C:\\work\\line 7\\a.png"),
    ],
)
@pytest.mark.parametrize("itself", [False, True])
def test_where_the_file_and_its_images_lie(tmp_path, picture, xml, name, itself):
    write(tmp_path, {picture: None, xml: cvat(image(BOX, name=name))})
    found = read(tmp_path / xml if itself else tmp_path)
    assert list(found.boxes.values()) == [[DENT]]
    assert found.report.layout == "cvat"


def subsets(tmp_path, *names):
    files = {f"images/{name}/a.png": None for name in names}
    images = [image(BOX.replace("dent", f"dent {name}"), subset=name) for name in names]
    return write(tmp_path, files | {"annotations.xml": cvat(*images)})


def test_of_several_subsets_one_is_read_and_that_is_told(tmp_path):
    found = read(subsets(tmp_path, "Train", "Validation"))
    assert found.boxes == {"images/Train/a.png": [("dent Train", DENT[1])]}
    assert found.report.count("split_by_default") == 1
    assert found.report.count("unlisted") == 0
    assert list(read(tmp_path, split="val").boxes) == ["images/Validation/a.png"]
    with pytest.raises(InputError, match="has no subset 'test'; it has 'Train', 'Validation'"):
        read(tmp_path, split="test")


def test_subsets_of_which_none_is_for_training_are_named(tmp_path):
    with pytest.raises(InputError, match="has the subsets 'monday', 'tuesday'; say which"):
        read(subsets(tmp_path, "monday", "tuesday"))


def test_of_several_files_the_one_for_training_is_read_and_that_is_told(tmp_path):
    files = {f"images/{name}.png": None for name in "abc"}
    files["annotations/Train.xml"] = cvat(image(BOX, name="a.png"))
    files["annotations/val.xml"] = cvat(image(BOX, name="b.png"))
    found = read(write(tmp_path, files))
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.count("split_by_default") == 1
    assert found.report.examples("unlisted") == ["images/c.png"]
    assert read(tmp_path, split="valid").boxes == {"images/b.png": [DENT]}
    write(tmp_path, {"annotations/train2.xml": cvat(image(BOX, name="c.png"))})
    with pytest.raises(InputError, match=r"expected one XML file of CVAT, found annotations/Train\.xml"):
        read(tmp_path)


def test_images_that_the_file_does_not_list_are_told(tmp_path):
    found = read(write(tmp_path, {"images/b.png": None, "images/a.png": None, "annotations.xml": cvat(image(BOX))}))
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.examples("unlisted") == ["images/b.png"]


def test_an_image_that_is_missing_or_listed_twice_is_named(tmp_path):
    write(tmp_path, {"images/a.png": None, "annotations.xml": cvat(image(BOX), image(BOX, name="z.png"))})
    with pytest.raises(InputError, match=r"annotations\.xml image z\.png: names 'z\.png'"):
        read(tmp_path)
    write(tmp_path, {"annotations.xml": cvat(image(BOX), image(BOX))})
    with pytest.raises(InputError, match=r"image a\.png: images/a\.png is listed twice"):
        read(tmp_path)


def test_video_is_refused(tmp_path):
    content = f'<annotations><track id="0" label="dent">{BOX}</track></annotations>'
    write(tmp_path, {"images/a.png": None, "annotations.xml": content})
    with pytest.raises(InputError, match=r"annotations\.xml: is CVAT for video, .*; export it as `CVAT for images"):
        read(tmp_path)


def test_document_types_are_refused(tmp_path):
    content = '<!DOCTYPE annotations [<!ENTITY word "dent">]>' + cvat(image(BOX)).split("?>")[1]
    write(tmp_path, {"images/a.png": None, "annotations.xml": content})
    with pytest.raises(InputError, match=r"annotations\.xml: declares a document type"):
        read(tmp_path)


@pytest.mark.parametrize(("size", "expected"), [((96, 64), [32, 24, 16, 24]), ((64, 96), [24, 16, 24, 16])])
def test_turned_photos_by_their_stated_size(tmp_path, size, expected):
    # Of the stored pixels (x, y) goes to (64 - y, x).
    content = cvat(image(BOX, name="a.jpg", size=size))
    found = read(write(tmp_path, {"a.jpg": turned_exif(), "annotations.xml": content}))
    assert found.boxes == {"a.jpg": [("dent", expected)]}


def test_a_size_of_the_same_proportions_scales(tmp_path):
    found = one(tmp_path, '<box label="dent" xtl="240" ytl="160" xbr="480" ybr="320"/>', size=(960, 640))
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.count("scaled") == 1


@pytest.mark.parametrize(
    "shape",
    [
        '<box xtl="1" ytl="2" xbr="3" ybr="4"/>',
        '<box label="" xtl="1" ytl="2" xbr="3" ybr="4"/>',
        '<box label="dent" xtl="1" ytl="2" xbr="3"/>',
        '<box label="dent" xtl="one" ytl="2" xbr="3" ybr="4"/>',
        '<box label="dent" xtl="1" ytl="2" xbr="3" ybr="4" rotation="left"/>',
        '<polygon label="dent" points=""/>',
        '<polygon label="dent"/>',
        '<polygon label="dent" points="1,2;3"/>',
        '<polygon label="dent" points="1,2,3;4,5,6"/>',
        '<ellipse label="dent" cx="40" cy="30" rx="20"/>',
        '<mask label="dent" left="10" top="20" width="4" height="3"/>',
        '<mask label="dent" rle="a, b" left="10" top="20" width="4" height="3"/>',
        '<mask label="dent" rle="5, 2" left="10" top="20" width="4" height="3"/>',
        '<mask label="dent" rle="15, -3" left="10" top="20" width="4" height="3"/>',
        '<mask label="dent" rle="12" left="10" top="20" width="-4" height="-3"/>',
        '<mask label="dent" rle="12" left="10" top="inf" width="4" height="nan"/>',
        f'<mask label="dent" rle="{10**30}" left="10" top="20" width="4" height="3"/>',
        f'<mask label="dent" rle="12" left="10" top="20" width="{10**9}" height="{10**9}"/>',
        f'<mask label="dent" rle="{2**62}, {2**62}, {2**62}, {2**62}, 12" left="1" top="2" width="4" height="3"/>',
        '<cuboid label="dent"/>',
    ],
)
def test_bad_shapes_are_named(tmp_path, shape):
    with pytest.raises(InputError, match=r"annotations\.xml image a\.png shape 1"):
        one(tmp_path, BOX, shape)


@pytest.mark.parametrize("value", ["nan", "inf", "1e999"])
def test_boxes_that_are_nowhere_are_dropped_with_a_word(tmp_path, value):
    found = one(tmp_path, f'<box label="dent" xtl="1" ytl="2" xbr="{value}" ybr="9" rotation="30"/>', BOX)
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.count("no_area") == 1


@pytest.mark.parametrize("content", [b"", b"<annotations><image", b"<other/>", b"{}"])
@pytest.mark.parametrize("options", [{}, {"format": "cvat"}])
def test_a_file_that_is_none_of_cvat_is_named(tmp_path, content, options):
    write(tmp_path, {"images/a.png": None, "annotations.xml": content})
    with pytest.raises(InputError, match=r"annotations\.xml"):
        read(tmp_path / "annotations.xml", **options)
