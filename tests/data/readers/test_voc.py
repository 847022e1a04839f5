"""Pascal VOC: where tools put their XML files and lists, what they write into them, and what is refused."""

import math
from pathlib import Path

import pytest
from tool_files import read, turned_exif, write

from agssp.data.readers import find_splits, read_dataset
from agssp.errors import InputError

BNDBOX = "<bndbox><xmin>24</xmin><ymin>16</ymin><xmax>48</xmax><ymax>32</ymax></bndbox>"
DENT = ("dent", [24, 16, 24, 16])


def item(content=BNDBOX, name="dent"):
    return f"<object><name>{name}</name>{content}</object>"


def bndbox(*corners):
    names = ("xmin", "ymin", "xmax", "ymax")
    return (
        f"<bndbox>{''.join(f'<{name}>{value}</{name}>' for name, value in zip(names, corners, strict=True))}</bndbox>"
    )


def voc(*items, size=(96, 64), filename=None):
    about = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    about += f"<filename>{filename}</filename>" if filename else ""
    return f"<annotation>{about}{''.join(items)}</annotation>"


def one(tmp_path, *items, **options):
    """What is read of one image with this XML."""
    return read(write(tmp_path, {"JPEGImages/a.png": None, "Annotations/a.xml": voc(*items, **options)}))


def test_xml_without_objects_says_that_its_image_is_sound(tmp_path):
    found = one(tmp_path)
    assert found.boxes == {"JPEGImages/a.png": []}
    assert (found.report.layout, found.report.sound, found.report.with_label_file) == ("voc", 1, 1)
    assert found.report.lines() == []


@pytest.mark.slow
def test_images_without_xml_are_taken_as_sound_with_a_word(tmp_path):
    files = {"JPEGImages/a.png": None, "JPEGImages/b.png": None, "Annotations/a.xml": voc(item())}
    found = read(write(tmp_path, files))
    assert found.boxes == {"JPEGImages/a.png": [DENT], "JPEGImages/b.png": []}
    assert found.report.examples("no_label_file") == ["JPEGImages/b.png"]


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("JPEGImages/a.png", "Annotations/a.xml"),
        ("images/a.JPG", "annotations/a.XML"),
        ("images/a.png", "Annotations/Annotations/a.xml"),
        ("data/a.png", "labels/a.xml"),
        ("JPEGImages/day 1/a.b.png", "Annotations/day 1/a.b.xml"),
        ("VOC2007/JPEGImages/a.png", "VOC2007/Annotations/a.xml"),
        ("set/images/a.png", "set/xmls/a.xml"),
        ("a.png", "Annotations/a.xml"),
        ("a.png", "a.xml"),
        ("a.JPG", "a.XML"),
        ("deep/er/a.png", "deep/er/a.xml"),
        ("Train/a.png", "Train/a.xml"),
        ("train/images/a.png", "train/annotations/a.xml"),
        ("a.png", "Annotations/a.png.xml"),
        ("images/a.png", "Annotations/0001.xml"),
    ],
)
def test_where_images_and_xml_lie(tmp_path, image, xml):
    found = read(write(tmp_path, {image: None, xml: voc(item(), filename="C:\\x\\a.png")}))
    assert found.boxes == {image: [DENT]}


def test_files_of_one_name_in_several_folders_belong_to_the_image_of_their_folder(tmp_path):
    files = {f"set{index}/images/a.png": None for index in (1, 2)}
    files |= {"set1/labels/a.xml": voc(item()), "set2/labels/a.xml": voc(item(name="pit"))}
    found = read(write(tmp_path, files))
    assert found.boxes == {"set1/images/a.png": [DENT], "set2/images/a.png": [("pit", DENT[1])]}
    assert found.report.lines() == []


def test_xml_beside_some_images_and_in_annotations_for_others(tmp_path):
    files = {"a.png": None, "b.png": None, "Annotations/a.xml": voc(item()), "b.xml": voc(item(name="pit"))}
    assert read(write(tmp_path, files)).boxes == {"a.png": [DENT], "b.png": [("pit", DENT[1])]}
    found = read(write(tmp_path, {"Annotations/b.xml": voc()}))
    assert found.report.examples("second_label_files") == [str(tmp_path / "Annotations/b.xml")]


def test_xml_that_gives_another_name_is_told_and_never_taken_for_an_image_that_has_its_own(tmp_path):
    files = {"a.png": None, "b.png": None, "b.xml": voc(), "x.xml": voc(item(), filename="a.png")}
    found = read(write(tmp_path, files | {"y.xml": voc(item(), filename="b.png")}))
    assert found.boxes == {"a.png": [DENT], "b.png": []}
    assert found.report.examples("found_by_name") == [f"{tmp_path / 'x.xml'}: a.png is a.png"]
    assert found.report.examples("orphans") == [str(tmp_path / "y.xml")]


def test_files_of_which_none_has_an_image_are_an_error(tmp_path):
    write(tmp_path, {f"Annotations/{name}.xml": voc(item()) for name in "xyz"} | {"JPEGImages/a.png": None})
    with pytest.raises(InputError, match=r"Annotations/x\.xml: has no image of that name"):
        read(tmp_path)


def test_one_file_for_two_images_of_its_name_is_told(tmp_path):
    found = read(write(tmp_path, {"a.png": None, "a.jpg": None, "a.xml": voc(item())}))
    assert found.boxes == {"a.jpg": [DENT], "a.png": [DENT]}
    assert found.report.count("shared") == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bndbox(24, 16, 48, 32), [24, 16, 24, 16]),
        (bndbox(48, 32, 24, 16), [24, 16, 24, 16]),
        (bndbox(24, 32, 48, 16), [24, 16, 24, 16]),
        (bndbox("24.5", " 16.0\n", "4.8e1", "+32"), [24.5, 16, 23.5, 16]),
        (bndbox(-10, -10, 48, 100), [0, 0, 48, 64]),
        # 20 x 10 px around (50, 30), turned by 90 degrees.
        (
            f"<robndbox><cx>50</cx><cy>30</cy><w>20</w><h>10</h><angle>{math.pi / 2}</angle></robndbox>",
            [45, 20, 10, 20],
        ),
        ("<polygon><x1>5</x1><y1>6</y1><x2>25</x2><y2>6.5</y2><x3>9</x3><y3>36</y3></polygon>", [5, 6, 20, 30]),
        ("<polygon><pt><x>5</x><y>6</y></pt><pt><x>25</x><y>36</y></pt></polygon>", [5, 6, 20, 30]),
        (f"<polygon><x1>5</x1><y1>6</y1></polygon>{BNDBOX}", [24, 16, 24, 16]),
        ("<bndbox/><segmentation><x1>5</x1><y1>6</y1><x2>25</x2><y2>36</y2></segmentation>", [5, 6, 20, 30]),
        # CVAT gives the box before it is turned about its centre, here 40 x 10 around (40, 30).
        (
            f"{bndbox(20, 25, 60, 35)}<attributes><attribute><name>rotation</name><value>270.0</value></attribute>"
            "</attributes>",
            [35, 10, 10, 40],
        ),
        (f"<part><name>edge</name>{bndbox(1, 2, 3, 4)}</part>{BNDBOX}", [24, 16, 24, 16]),
    ],
)
def test_the_box_of_each_kind_of_object(tmp_path, content, expected):
    assert one(tmp_path, item(content)).boxes == {"JPEGImages/a.png": [("dent", expected)]}


def test_objects_that_are_marked_as_deleted_are_left_out_with_a_word(tmp_path):
    found = one(tmp_path, item("<deleted>1</deleted>" + BNDBOX, "pit"), item("<deleted>0</deleted>" + BNDBOX))
    assert found.boxes == {"JPEGImages/a.png": [DENT]}
    assert found.report.count("deleted") == 1


def test_boxes_without_area_or_beyond_all_numbers_are_dropped_with_a_word(tmp_path):
    items = [
        item(bndbox(*corners)) for corners in ((5, 5, 5, 9), ("nan", 1, 2, 3), (1, 2, "inf", 3), (1, 2, "1e999", 3))
    ]
    found = one(tmp_path, *items, item())
    assert found.boxes == {"JPEGImages/a.png": [DENT]}
    assert found.report.count("no_area") == 4


@pytest.mark.parametrize("size", [(0, 0), ("", ""), ("wide", 64), ("nan", "inf"), None])
def test_sizes_that_are_none_are_no_sizes(tmp_path, size):
    found = one(tmp_path, item(), size=size)
    assert found.boxes == {"JPEGImages/a.png": [DENT]}
    assert found.report.lines() == []


def test_a_stated_size_of_the_same_proportions_scales_and_another_is_refused(tmp_path):
    found = one(tmp_path, item(bndbox(240, 160, 480, 320)), size=(960, 640))
    assert found.boxes == {"JPEGImages/a.png": [DENT]}
    assert found.report.count("scaled") == 1
    with pytest.raises(InputError, match=r"a\.xml object 0: .*64 x 96 px, but JPEGImages/a\.png is 96 x 64 px"):
        one(tmp_path, item(), size=(64, 96))


@pytest.mark.parametrize(("size", "expected"), [((96, 64), [32, 24, 16, 24]), ((64, 96), [24, 16, 24, 16])])
def test_turned_photos_by_their_stated_size(tmp_path, size, expected):
    # Of the stored pixels (x, y) goes to (64 - y, x).
    found = read(write(tmp_path, {"a.jpg": turned_exif(), "a.xml": voc(item(), size=size)}))
    assert found.boxes == {"a.jpg": [("dent", expected)]}


def lists(tmp_path, **texts):
    """Five images, of which each has a class of its own, and these lists of them."""
    names = ("a", "plate 1", "c.d", "plate", "e")
    files = {f"JPEGImages/{name}.jpg": None for name in names}
    files |= {f"Annotations/{name}.xml": voc(item()) for name in names}
    return write(tmp_path, files | {f"ImageSets/Main/{name}.txt": text for name, text in texts.items()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nplate 1\n", ["a", "plate 1"]),
        ("\n  a  \r\n\r\nc.d\r\n", ["a", "c.d"]),
        ("\ufeffa.jpg\nplate 1.jpg\nc.d.jpg\n", ["a", "plate 1", "c.d"]),
        ("JPEGImages/a.jpg\n./JPEGImages/e.jpg\n", ["a", "e"]),
        ("/data/VOC/JPEGImages/a.jpg\nC:\\VOC\\e.JPG\n", ["a", "e"]),
        ("a  1\nc.d -1\ne  0\n", ["a", "c.d", "e"]),
        # What is the name of an image is that.
        ("plate 1\nplate\n", ["plate", "plate 1"]),
        ("a\na\n", ["a"]),
    ],
)
def test_lists_of_a_split(tmp_path, text, expected):
    found = read(lists(tmp_path, train=text))
    assert sorted(found.boxes) == sorted(f"JPEGImages/{name}.jpg" for name in expected)
    assert found.report.count("outside_splits") == 5 - len(expected)


def test_one_list_of_several_is_read_and_that_is_told(tmp_path):
    root = lists(tmp_path, Train="a\n", VAL="c.d\n", dent_train="plate 1\n", dent="e\n")
    found = read(root)
    assert list(found.boxes) == ["JPEGImages/a.jpg"]
    assert found.report.examples("split_by_default") == [f"Train of Train, VAL in {root}"]
    assert found.report.examples("outside_splits") == [f"JPEGImages/{name}.jpg" for name in ("e", "plate 1", "plate")]
    assert list(read(root, split="validation").boxes) == ["JPEGImages/c.d.jpg"]
    assert list(read(root, split="dent").boxes) == ["JPEGImages/e.jpg"]
    with pytest.raises(InputError, match="has no split 'test'; it has Train, VAL, dent"):
        read(root, split="test")


def test_of_trainval_and_test_it_is_trainval(tmp_path):
    root = lists(tmp_path, trainval="a\ne\n", test="c.d\n")
    assert list(read(root).boxes) == ["JPEGImages/a.jpg", "JPEGImages/e.jpg"]
    assert sorted(find_splits(root)) == ["test", "trainval"]


def test_splits_of_which_none_is_for_training_are_named(tmp_path):
    with pytest.raises(InputError, match="has the splits test, val; say which"):
        read(lists(tmp_path, val="a\n", test="e\n"))


def test_lists_with_names_of_their_own_are_never_merged_unasked(tmp_path):
    root = lists(tmp_path, line_1="a\n", line_2="e\nc.d\n")
    with pytest.raises(InputError, match="has the splits line_1, line_2; say which"):
        read(root)
    assert list(read(root, split="line_1").boxes) == ["JPEGImages/a.jpg"]


def test_the_only_list_of_a_name_of_its_own_is_no_split(tmp_path):
    root = lists(tmp_path, default="a\n")
    assert len(read(root).boxes) == 5
    assert list(read(root, split="default").boxes) == ["JPEGImages/a.jpg"]


def test_an_empty_list_is_named(tmp_path):
    with pytest.raises(InputError, match=r"train\.txt: lists no images"):
        read(lists(tmp_path, train="\n", val="a\n"))


@pytest.mark.parametrize("text", ["a\nzz\n", "a 1\nzz 1\n", "../../etc/passwd\n"])
def test_lists_that_name_what_is_not_there(tmp_path, text):
    with pytest.raises(InputError, match=r"train\.txt: lists an image that is not in .*(zz|passwd)"):
        read(lists(tmp_path, train=text))


def test_lists_in_a_folder_of_the_year_count_and_those_of_two_years_are_refused(tmp_path):
    files = {f"VOC2007/JPEGImages/{name}.jpg": None for name in "ab"}
    files |= {f"VOC2007/Annotations/{name}.xml": voc(item()) for name in "ab"}
    write(tmp_path, files | {"VOC2007/ImageSets/Main/train.txt": "a\n", "VOC2007/ImageSets/Main/val.txt": "b\n"})
    assert list(read(tmp_path).boxes) == ["VOC2007/JPEGImages/a.jpg"]
    write(tmp_path, {"VOC2012/ImageSets/Main/train.txt": "a\n"})
    with pytest.raises(InputError, match=r"VOC2007/, VOC2012/ have ImageSets of their own"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("images", "xml"),
    [("{}", "{}"), ("images/{}", "Annotations/{}"), ("{}/images", "{}/labels"), ("JPEGImages/{}", "Annotations")],
)
def test_splits_in_folders_are_never_merged_unasked(tmp_path, images, xml):
    files = {}
    for name, split in (("a", "Train"), ("b", "Valid")):
        files |= {f"{images.format(split)}/{name}.png": None, f"{xml.format(split)}/{name}.xml": voc(item())}
    write(tmp_path, files)
    found = read(tmp_path)
    assert list(found.boxes) == [f"{images.format('Train')}/a.png"]
    assert found.report.count("split_by_default") == 1
    assert read(tmp_path, split="val").boxes == {f"{images.format('Valid')}/b.png": [DENT]}
    assert read(tmp_path, format="voc").boxes == found.boxes


def test_masks_beside_boxes(tmp_path):
    files = {"JPEGImages/a.jpg": None, "Annotations/a.xml": voc(item()), "SegmentationClass/z.png": None}
    found = read(write(tmp_path, files | {"SegmentationClass/a.png": None}))
    assert found.boxes == {"JPEGImages/a.jpg": [DENT]}
    assert found.report.examples("unmatched_masks") == ["SegmentationClass/z.png"]


def test_of_masks_by_classes_and_by_objects_those_by_classes_are_read(tmp_path):
    files = {f"JPEGImages/{name}.jpg": None for name in "ab"} | {"Annotations/a.xml": voc(item())}
    files |= {f"Segmentation{kind}/a.png": None for kind in ("Class", "Object")} | {"SegmentationObject/b.png": None}
    root = write(tmp_path, files)
    assert [Path(row["mask"]["path"]).relative_to(root).as_posix() for row in read_dataset(root)] == [
        "SegmentationClass/a.png",
        "SegmentationObject/b.png",
    ]
    assert read(root).report.count("unmatched_masks") == 0


def test_xml_of_other_things_before_those_beside_images(tmp_path):
    others = {f"about/{index}.xml": "<!DOCTYPE plist><plist/>" for index in range(9)}
    found = read(write(tmp_path, {"line/a.png": None, "line/a.xml": voc(item()), **others}))
    assert found.boxes == {"line/a.png": [DENT]}


@pytest.mark.parametrize(
    "content",
    [
        "<object><name>dent</name></object>",
        f"<object>{BNDBOX}</object>",
        f"<object><name> </name>{BNDBOX}</object>",
        item(bndbox("one", 2, 3, 4)),
        item(bndbox("", 2, 3, 4)),
        item("<bndbox><xmin>1</xmin></bndbox>"),
        item("<robndbox><cx>50</cx></robndbox>"),
        item("<robndbox><cx>5</cx><cy>3</cy><w>2</w><h>1</h><angle>inf</angle></robndbox>"),
        item("<polygon></polygon>"),
        item("<polygon><x1>5</x1><x2>6</x2></polygon>"),
        item(f"{BNDBOX}<attributes><attribute><name>rotation</name><value>left</value></attribute></attributes>"),
    ],
)
def test_bad_objects_are_named(tmp_path, content):
    with pytest.raises(InputError, match=r"a\.xml object 1"):
        one(tmp_path, item(), content)


@pytest.mark.parametrize(
    "content", [b"", b"<annotation><object>", b"{}", b"<annotations/>", b"<annotation>\xff</annotation>"]
)
def test_a_file_that_is_no_xml_of_voc_is_named(tmp_path, content):
    write(tmp_path, {"a.png": None, "a.xml": voc(item()), "b.png": None, "b.xml": content})
    with pytest.raises(InputError, match=r"b\.xml"):
        read(tmp_path)


def test_a_photo_that_cannot_be_opened_keeps_no_other_from_being_read(tmp_path):
    write(tmp_path, {"a.png": None, "a.xml": voc(item()), "b.xml": voc(item())})
    (tmp_path / "b.png").write_bytes(b"no picture")
    found = read(tmp_path)
    assert found.boxes == {"a.png": [DENT], "b.png": None}
    assert found.report.count("damaged") == 1
