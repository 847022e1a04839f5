"""YOLO's layouts as the tools write them: which images, which label files, which classes, which boxes."""

import logging

import pytest
from PIL import Image

from agssp.data.readers import ReadReport, find_format, read_dataset
from agssp.data.schema import defect_names
from agssp.errors import InputError

LINE = "0 0.5 0.5 0.2 0.4"
BOX = [40, 15, 20, 20]  # LINE on an image of 100 x 50 px
OTHER = "1 0.1 0.2 0.2 0.4"
OTHER_BOX = [0, 0, 20, 20]
TABLE = "names: [dent, rust]\n"


def write(root, files):
    """Files by their path: images of 100 x 50 px where the suffix says so, else texts."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg"):
            Image.new("L", (100, 50), 90).save(path)
        else:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def read(source, report=None, **options):
    """(class, rounded box) of each image, None where nothing is known of it."""
    data = read_dataset(source, report=report or ReadReport(), **options)
    names = defect_names(data) if "objects" in data.features else []
    found = {}
    for row in data:
        objects = row.get("objects")
        found[row["image_id"]] = objects and [
            (names[label], [round(value, 3) for value in bbox])
            for label, bbox in zip(objects["category"], objects["bbox"], strict=True)
        ]
    return found


def one(tmp_path, labels, table="train: images\n" + TABLE):
    """A data set of one image, images/a.png."""
    return write(tmp_path, {"images/a.png": "", "labels/a.txt": labels, "data.yaml": table})


def test_no_images(tmp_path):
    write(tmp_path, {"images/readme": "", "data.yaml": f"train: images\n{TABLE}"})
    with pytest.raises(InputError, match=r"data.yaml: there are no images to read"):
        read(tmp_path / "data.yaml")


def test_no_label_file_for_any_image_is_not_the_same_as_no_defects(tmp_path):
    write(tmp_path, {"images/a.png": "", "labels/other.txt": LINE, "data.yaml": f"train: images\n{TABLE}"})
    for source in (tmp_path, tmp_path / "data.yaml"):
        report = ReadReport()
        assert read(source, report) == {"images/a.png": None}
        assert (report.with_label_file, report.unknown, report.count("no_label_file")) == (0, 1, 0)
        assert report.examples("orphans") == [str(tmp_path / "labels/other.txt")]


# Where labels lie: each layout as its tool writes it, with the images that are read and their first box.
LAYOUTS = {
    "beside, data.yaml": {"train/a.png": "", "train/a.txt": LINE, "data.yaml": f"train: train\n{TABLE}"},
    "beside, LabelImg": {"a.png": "", "a.txt": LINE, "classes.txt": "dent\nrust\n"},
    "beside, darknet": {"img/a.png": "", "img/a.txt": LINE, "obj.names": "dent\nrust\n"},
    "Labels in capitals": {"Images/a.JPG": "", "Labels/a.TXT": LINE, "data.yaml": f"train: Images\n{TABLE}"},
    "JPEGImages": {"JPEGImages/a.jpg": "", "labels/a.txt": LINE, "data.yaml": f"train: JPEGImages\n{TABLE}"},
    "flat labels": {"images/train/a.png": "", "labels/a.txt": LINE, "data.yaml": f"train: images/train\n{TABLE}"},
    "labels inside": {"a.png": "", "labels/a.txt": LINE, "classes.txt": "dent\nrust\n"},
    "names in labels": {"images/a.png": "", "labels/a.txt": LINE, "labels/classes.txt": "dent\nrust\n"},
    "no folder of images": {"photos/a.png": "", "labels/a.txt": LINE, "data.yaml": f"train: photos\n{TABLE}"},
    "only names": {"images/a.png": "", "labels/a.txt": LINE, "data.yaml": TABLE},
    "Roboflow": {
        "train/images/a.jpg": "", "train/labels/a.txt": LINE, "README.dataset.txt": "# metal",
        "data.yaml": f"train: ../train/images\nval: ../valid/images\nnc: 2\n{TABLE}",
    },
    "Roboflow's darknet": {"train/a.jpg": "", "train/a.txt": LINE, "train/_darknet.labels": "dent\nrust"},
    "Label Studio": {
        "images/1a2b-a.png": "", "labels/1a2b-a.txt": LINE, "classes.txt": "dent\nrust\n", "notes.json": "{}",
    },
    "FiftyOne": {
        "images/val/a.jpg": "", "labels/val/a.txt": LINE,
        "dataset.yaml": "names:\n  0: dent\n  1: rust\npath: /somewhere/else\nval: ./images/val/\n",
    },
    "CVAT, YOLO 1.1": {
        "obj_train_data/my a.png": "", "obj_train_data/my a.txt": LINE, "obj.names": "dent\nrust\n",
        "train.txt": "data/obj_train_data/my a.png\n",
        "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
    },
    "CVAT, Ultralytics": {
        "images/Train/d/a.png": "", "labels/Train/d/a.txt": LINE, "Train.txt": "data/images/Train/d/a.png\n",
        "data.yaml": "Train: Train.txt\nnames:\n  0: dent\n  1: rust\npath: .\n",
    },
    "darknet's data folder": {
        "obj/a.png": "", "obj/a.txt": LINE, "train.txt": "build/x64/data/obj/a.png\r\n", "names.list": "",
        "my.data": "classes=2 # two\ntrain=data/train.txt\nnames=data/my.names\n", "my.names": "dent\nrust\n",
    },
}  # fmt: skip


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path, files):
    root = write(tmp_path / "set", files)
    ids = [name for name in files if name.lower().endswith((".png", ".jpg"))]
    report = ReadReport()
    assert read(root, report) == {ids[0]: [("dent", BOX)]}
    assert list(report.boxes) == ["dent", "rust"]
    assert report.count("orphans") == report.count("unlisted") == 0
    tables = [name for name in files if name.endswith((".yaml", ".data"))]
    if tables:
        assert read(root / tables[0]) == {ids[0]: [("dent", BOX)]}


def test_texts_that_are_no_labels(tmp_path):
    captions = {f"{name}.txt": "a photo of a steel plate, 3 dents" for name in "abcdefg"}
    files = {f"{name}.png": "" for name in "abcdefg"} | captions | {"README.txt": "0 means dent"}
    assert find_format(write(tmp_path / "captions", files)) == "imagefolder"
    write(tmp_path / "captions", {"classes.txt": "dent\n"})
    assert find_format(tmp_path / "captions") == "imagefolder"
    # Captions beside images whose labels lie in a folder of their own.
    root = write(tmp_path / "both", files | {"labels/a.txt": LINE, "data.yaml": TABLE})
    assert read(root)["a.png"] == [("dent", BOX)]
    assert read(root)["b.png"] == []
    assert find_format(write(tmp_path / "one", {"a.png": "", "a.txt": LINE})) == "yolo"


def test_folder_of_which_the_first_label_files_are_empty(tmp_path):
    files = {f"{number:02d}.png": "" for number in range(12)} | {f"{number:02d}.txt": "" for number in range(11)}
    assert find_format(write(tmp_path, files)) == "imagefolder"
    assert find_format(write(tmp_path, {"11.txt": f"\n {LINE}"})) == "yolo"


def test_malformed_lines_do_not_make_a_table_no_table(tmp_path):
    write(tmp_path, {"train/a.png": "", "train/a.txt": "dent 0.5 0.5 0.1 0.1", "data.yaml": f"train: train\n{TABLE}"})
    with pytest.raises(InputError, match=r"a.txt:1: expected `class cx cy w h`, all of them numbers"):
        read(tmp_path)


def test_images_without_label_file_count_as_sound_and_label_files_without_image_are_told(tmp_path):
    write(one(tmp_path, LINE), {"images/b.png": "", "images/c.png": "", "labels/c.txt": "\n", "labels/d.txt": LINE})
    report = ReadReport()
    assert read(tmp_path, report) == {"images/a.png": [("dent", BOX)], "images/b.png": [], "images/c.png": []}
    assert (report.with_label_file, report.sound) == (2, 2)
    assert report.examples("no_label_file") == ["images/b.png"]
    assert report.examples("orphans") == [str(tmp_path / "labels/d.txt")]


def test_label_files_of_other_splits_are_no_orphans(tmp_path):
    write(
        tmp_path,
        {"images/train/a.png": "", "images/val/b.png": "", "labels/a.txt": LINE, "labels/b.txt": LINE}
        | {"data.yaml": f"train: images/train\nval: images/val\n{TABLE}"},
    )
    report = ReadReport()
    assert read(tmp_path, report) == {"images/train/a.png": [("dent", BOX)]}
    assert report.count("orphans") == report.count("unlisted") == 0
    assert report.count("split_by_default") == 1


def test_flat_labels_of_two_images_of_one_name_in_different_folders(tmp_path):
    write(tmp_path, {"images/train/a.png": "", "images/val/a.png": "", "labels/a.txt": LINE, "data.yaml": TABLE})
    with pytest.raises(InputError, match=r"labels/a.txt: is the label file of images/train/a.png or of images/val/a"):
        read(tmp_path)


def test_second_label_file_of_an_image(tmp_path):
    write(one(tmp_path, LINE), {"images/a.txt": OTHER})
    report = ReadReport()
    assert read(tmp_path, report) == {"images/a.png": [("dent", BOX)]}
    assert report.examples("second_label_files") == [str(tmp_path / "images/a.txt")]


def test_label_files_that_differ_in_the_case_of_their_suffix(tmp_path):
    write(one(tmp_path, LINE), {"labels/a.TXT": LINE})
    report = ReadReport()
    assert read(tmp_path, report) == {"images/a.png": [("dent", BOX)]}
    assert report.count("orphans") == 1


def test_links_to_nowhere(tmp_path):
    one(tmp_path, LINE)
    for name in ("labels/a.txt", "data.yaml"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(tmp_path / "gone")
        with pytest.raises(InputError, match=f"{name}: cannot be opened"):
            read(tmp_path)


def test_masks_and_pictures_that_lie_about_are_no_part(tmp_path):
    write(tmp_path, {"images/a.png": "", "labels/a.txt": LINE, "masks/a.png": "", "plot.png": "", "data.yaml": TABLE})
    report = ReadReport()
    assert list(read(tmp_path, report)) == ["images/a.png"]
    assert report.examples("outside_splits") == ["plot.png"]


# Splits: which one is read where none is asked for, and what is told.


@pytest.mark.parametrize("asked", ["val", "valid", "Validation"])
@pytest.mark.parametrize("key", ["val", "valid", "validation", "Val"])
def test_names_of_splits_in_any_spelling(tmp_path, key, asked):
    write(
        tmp_path,
        {"images/t/a.png": "", "images/v/b.png": "", "labels/t/a.txt": LINE, "labels/v/b.txt": OTHER}
        | {"data.yaml": f"train: images/t\n{key}: images/v\ntest:\n{TABLE}"},
    )
    assert read(tmp_path, split=asked) == {"images/v/b.png": [("rust", OTHER_BOX)]}
    assert read(tmp_path, split="Train") == read(tmp_path) == {"images/t/a.png": [("dent", BOX)]}
    with pytest.raises(InputError, match=rf"has no split 'test'; it has train, {key}"):
        read(tmp_path, split="test")


@pytest.mark.parametrize("form", ["images/{}/{}.png labels/{}/{}.txt", "{}/images/{}.png {}/labels/{}.txt"])
@pytest.mark.parametrize("table", ["data.yaml", "classes.txt"])
def test_splits_that_folders_tell_are_never_merged(tmp_path, form, table):
    files = {table: TABLE if table == "data.yaml" else "dent\nrust\n"}
    for split, name, line in (("train", "a", LINE), ("Valid", "b", OTHER)):
        image, labels = (text.format(split, name) for text in form.split())
        files |= {image: "", labels: line}
    report = ReadReport()
    found = read(write(tmp_path, files), report)
    assert list(found.values()) == [[("dent", BOX)]]
    assert report.count("split_by_default") == 1
    assert list(read(tmp_path, split="val").values()) == [[("rust", OTHER_BOX)]]


def test_splits_of_which_none_is_for_training(tmp_path):
    write(tmp_path, {"images/val/a.png": "", "labels/val/a.txt": LINE, "data.yaml": TABLE})
    assert list(read(tmp_path)) == ["images/val/a.png"]
    write(tmp_path, {"images/test/b.png": "", "labels/test/b.txt": LINE})
    with pytest.raises(InputError, match="has the splits test, val; say which one is to be read"):
        read(tmp_path)


def test_two_spellings_of_one_split_are_two(tmp_path):
    write(tmp_path, {"images/val/a.png": "", "images/valid/b.png": "", "labels/val/a.txt": LINE, "data.yaml": TABLE})
    assert list(read(tmp_path, split="valid")) == ["images/valid/b.png"]
    with pytest.raises(InputError, match="has several splits 'validation'; it has val, valid"):
        read(tmp_path, split="validation")


def test_images_outside_of_splits_are_told(tmp_path):
    write(
        tmp_path,
        {
            "images/train/a.png": "",
            "labels/train/a.txt": LINE,
            "images/b.png": "",
            "labels/b.txt": LINE,
            "data.yaml": TABLE,
        },
    )
    report = ReadReport()
    assert list(read(tmp_path, report)) == ["images/train/a.png"]
    assert report.examples("outside_splits") == ["images/b.png"]


def test_labelled_images_beside_a_folder_for_testing_are_the_ones_to_learn_from(tmp_path):
    write(tmp_path, {"images/a.png": "", "labels/a.txt": LINE, "images/test/b.png": "", "labels/test/b.txt": OTHER})
    write(tmp_path, {"data.yaml": TABLE})
    report = ReadReport()
    assert list(read(tmp_path, report)) == ["images/a.png"]
    assert report.count("other_splits") == 1
    assert list(read(tmp_path, split="test")) == ["images/test/b.png"]


def test_splits_that_lists_beside_the_names_tell(tmp_path):
    write(tmp_path, {"d/a.png": "", "d/a.txt": LINE, "d/b.png": "", "d/b.txt": OTHER, "obj.names": "dent\nrust\n"})
    write(tmp_path, {"train.txt": "d/a.png\n", "valid.txt": "d/b.png\n"})
    assert read(tmp_path) == {"d/a.png": [("dent", BOX)]}
    assert read(tmp_path, split="val") == {"d/b.png": [("rust", OTHER_BOX)]}


def test_cvats_subsets_without_lists(tmp_path):
    write(tmp_path, {"obj_train_data/a.png": "", "obj_train_data/a.txt": LINE, "obj.names": "dent\nrust\n"})
    write(tmp_path, {"obj_Validation_data/b.png": "", "obj_Validation_data/b.txt": OTHER})
    assert list(read(tmp_path)) == ["obj_train_data/a.png"]
    assert read(tmp_path, split="val") == {"obj_Validation_data/b.png": [("rust", OTHER_BOX)]}


# Entries of a table: folders, lists, and where they may point.


def two(root):
    return write(root, {"d/images/a.png": "", "d/labels/a.txt": LINE, "e/images/b.png": "", "e/labels/b.txt": OTHER})


def test_a_list_of_folders_and_one_image_named_twice(tmp_path):
    write(two(tmp_path), {"data.yaml": f"train: [d/images, e/images, ./d]\n{TABLE}"})
    report = ReadReport()
    assert read(tmp_path, report) == {"d/images/a.png": [("dent", BOX)], "e/images/b.png": [("rust", OTHER_BOX)]}
    assert report.count("listed_twice") == 1


@pytest.mark.parametrize(
    "line",
    ["d/images/a.png", "./d/images/a.png", "../d/images/a.png", "{root}/d/images/a.png", "d\\images\\a.png",
     "C:\\work\\set\\d\\images\\a.png", "/home/who/d/images/a.png", "  d/images/a.png  "],
)  # fmt: skip
def test_lines_of_a_list(tmp_path, line):
    write(two(tmp_path), {"data.yaml": f"train: lists/train.txt\n{TABLE}"})
    write(tmp_path, {"lists/train.txt": "\ufeff" + line.format(root=tmp_path) + "\r\n\r\n"})
    report = ReadReport()
    assert read(tmp_path, report) == {"d/images/a.png": [("dent", BOX)]}
    assert report.examples("unlisted") == ["e/images/b.png"]


def test_a_line_that_names_nothing(tmp_path):
    write(two(tmp_path), {"data.yaml": f"train: train.txt\n{TABLE}", "train.txt": "d/images/a.png\n\nd/images/c.png\n"})
    with pytest.raises(InputError, match=r"train.txt:3: names 'd/images/c.png', but there is no such file"):
        read(tmp_path)


@pytest.mark.parametrize("entry", ["{root}/d/images", "/content/set/d/images", "C:\\set\\d\\images", "set/d/images"])
def test_folders_of_a_table_wherever_it_was_written(tmp_path, entry):
    root = two(tmp_path / "set")
    write(root, {"data.yaml": f"train: '{entry.format(root=root)}'\npath: ''\n{TABLE}"})
    report = ReadReport()
    assert read(root, report) == {"d/images/a.png": [("dent", BOX)]}
    assert report.count("found_by_name") == (not entry.startswith("{root}"))


def test_a_folder_that_is_not_there(tmp_path):
    write(two(tmp_path), {"data.yaml": f"train: d/pictures\nval: e/images\n{TABLE}"})
    with pytest.raises(InputError, match=r"data.yaml: train: there is no folder 'd/pictures' with files below"):
        read(tmp_path)
    assert list(read(tmp_path, split="val")) == ["e/images/b.png"]


@pytest.mark.parametrize("path", ["{data}", "../data", "../data/."])
def test_a_table_apart_from_its_data(tmp_path, path):
    two(tmp_path / "data")
    write(tmp_path, {"configs/line.yaml": f"path: {path.format(data=tmp_path / 'data')}\ntrain: d/images\n{TABLE}"})
    report = ReadReport()
    assert read(tmp_path / "configs/line.yaml", report) == {"d/images/a.png": [("dent", BOX)]}
    assert report.examples("data_elsewhere") == [f"{tmp_path / 'configs/line.yaml'}: {tmp_path / 'data'}"]


def test_a_path_below_the_working_folder(tmp_path, monkeypatch):
    two(tmp_path / "work/data")
    write(tmp_path, {"configs/line.yaml": f"path: data\ntrain: d/images\n{TABLE}"})
    monkeypatch.chdir(tmp_path / "work")
    assert read(tmp_path / "configs/line.yaml") == {"d/images/a.png": [("dent", BOX)]}
    # What lies beside the table comes first.
    write(tmp_path, {"configs/data/d/images/c.png": "", "configs/data/d/labels/c.txt": OTHER})
    assert read(tmp_path / "configs/line.yaml") == {"data/d/images/c.png": [("rust", OTHER_BOX)]}


def test_a_folder_is_never_left(tmp_path):
    two(tmp_path / "data")
    root = write(tmp_path / "set", {"photos/z.png": "", "labels/z.txt": LINE})
    for table in (
        f"path: {tmp_path}/data\ntrain: d/images\n",
        f"train: {tmp_path}/data/d/images\n",
        "train: ../data\n",
    ):
        write(root, {"data.yaml": table + TABLE})
        with pytest.raises(InputError, match=r"data.yaml: train: there is no folder"):
            read(root)
    write(root, {"data.yaml": f"train: train.txt\n{TABLE}", "train.txt": f"{tmp_path}/data/d/images/a.png\n"})
    with pytest.raises(InputError, match="points outside of that folder"):
        read(root)


def test_path_of_the_table_inside_its_folder(tmp_path):
    two(tmp_path / "sub")
    for path in ("sub", "./sub/", f"{tmp_path}/sub"):
        write(
            tmp_path,
            {"data.yaml": f"path: {path}\ntrain: d/images\nval: e.txt\n{TABLE}", "sub/e.txt": "e/images/b.png"},
        )
        for source in (tmp_path, tmp_path / "data.yaml"):
            assert read(source) == {"sub/d/images/a.png": [("dent", BOX)]}
            assert read(source, split="val") == {"sub/e/images/b.png": [("rust", OTHER_BOX)]}


def test_brackets_and_blanks_in_names_of_folders(tmp_path):
    root = write(two(tmp_path / "line [3] *?"), {"data.yaml": f"train: d/images\n{TABLE}"})
    assert read(root) == {"d/images/a.png": [("dent", BOX)]}


# Tables: names of classes.


@pytest.mark.parametrize(
    ("names", "label", "expected"),
    [
        ("{'0': dent, '1': rust}", 1, "rust"),
        ("{1: rust, 0: dent}", 1, "rust"),
        ("[yes, no]", 1, "no"),
        ("{0: on, 1: off}", 0, "on"),
        ("[0, 007]", 1, "007"),
        ("[1.50, null]", 0, "1.50"),
        ("[1e3, 2020-01-02, 12:30]", 2, "12:30"),
        ("['a: b', \"c, d\"]", 1, "c, d"),
        ("[ dent , Kratzer-Öl]", 1, "Kratzer-Öl"),
        ("{1: dent, 2: rust}", 2, "rust"),
    ],
)
def test_names_are_the_text_of_the_file(tmp_path, names, label, expected):
    one(tmp_path, f"{label} 0.5 0.5 0.2 0.4", f"train: images\nnames: {names}\n")
    assert read(tmp_path) == {"images/a.png": [(expected, BOX)]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("names: [dent, dent]", "a class name occurs twice in `names`: dent, dent"),
        ("names: dent", r"got the text 'dent'; one class is `names: \[dent\]`"),
        ("names: {dent: 0}", "expected `names`, the list of classes or a table of them by number, got 'dent': '0'"),
        ("names: [[dent]]", "or a table of them by number, got '0'"),
        ("names: {0: dent, 0: rust}", "not valid YAML: a key occurs twice"),
        ("names: {0: dent, '00': rust}", "a class number occurs twice"),
        ("names: [dent, rust]\nnc: 3", "says that there are 3 classes, but its names are 2: dent, rust"),
        ("names: [dent]\nnc: many", r"expected the number of classes \(`nc`\), a whole number from 1 on, got 'many'"),
        ("names:", "no names for these; expected a data.yaml with `names`, or a classes.txt"),
        ("names: [dent", "not valid YAML"),
        ("- dent", "expected a table with `names`, got list"),
        ("names: [dent]\nkpt_shape: 3", r"expected kpt_shape = \[number of keypoints, 2 or 3\], got '3'"),
        ("names: [dent]\ntrain: {a: b}", "train: expected a folder, a list of folders or a .txt list"),
    ],
)
def test_tables_that_are_none(tmp_path, table, message):
    one(tmp_path, LINE, f"{table}\n")
    for source in (tmp_path, tmp_path / "data.yaml"):
        with pytest.raises(InputError, match=message) as error:
            read(source)
        assert "data.yaml" in str(error.value)


def test_a_gap_in_the_numbers_is_told_and_an_error_where_a_label_uses_it(tmp_path):
    one(tmp_path, "2 0.5 0.5 0.2 0.4", "names: {0: dent, 2: rust}\n")
    report = ReadReport()
    assert read(tmp_path, report) == {"images/a.png": [("rust", BOX)]}
    assert report.examples("class_gaps") == [f"1 in {tmp_path / 'data.yaml'}"]
    write(tmp_path, {"labels/a.txt": f"{LINE}\n1 0.5 0.5 0.2 0.4"})
    with pytest.raises(InputError, match=r"a.txt:2: class id 1 has no name in .*data.yaml, which names 0 dent, 2 rust"):
        read(tmp_path)


def test_only_the_number_of_classes(tmp_path):
    report = ReadReport()
    assert read(one(tmp_path, OTHER, "train: images\nnc: 2\n"), report) == {"images/a.png": [("1", OTHER_BOX)]}
    assert (list(report.boxes), report.count("numbered_classes")) == (["0", "1"], 1)
    # Numbers are places in the list that is asked for.
    assert read(tmp_path, defect_types=["dent", "rust"]) == {"images/a.png": [("rust", OTHER_BOX)]}
    write(tmp_path, {"classes.txt": "dent\nrust\n"})
    assert read(tmp_path) == {"images/a.png": [("rust", OTHER_BOX)]}
    write(tmp_path, {"classes.txt": "dent\nrust\npit\n"})
    with pytest.raises(
        InputError, match=r"classes.txt: has 3 class names, but the table says that there are 2 classes"
    ):
        read(tmp_path)


def test_a_blank_line_in_a_list_of_names_moves_no_class(tmp_path):
    files = {"a.png": "", "a.txt": "2 0.5 0.5 0.2 0.4", "classes.txt": b"\xef\xbb\xbfdent\r\n\r\nrust \r\n\r\n"}
    assert read(write(tmp_path, files)) == {"a.png": [("rust", BOX)]}


def test_lists_of_names_that_differ(tmp_path):
    files = {
        "images/a.png": "",
        "labels/a.txt": LINE,
        "labels/classes.txt": "dent\nrust\n",
        "classes.txt": "rust\ndent\n",
    }
    with pytest.raises(InputError, match=r"classes.txt and .*classes.txt: the lists of class names differ"):
        read(write(tmp_path, files))
    # A table settles it.
    assert read(write(tmp_path, {"data.yaml": TABLE})) == {"images/a.png": [("dent", BOX)]}


def test_labels_without_any_names(tmp_path):
    with pytest.raises(InputError, match="labels have class numbers, but there are no names for these"):
        read(write(tmp_path, {"a.png": "", "a.txt": LINE}))


def test_which_of_several_tables(tmp_path):
    write(one(tmp_path, LINE), {"config.yaml": "names: [x]\n", "obj.data": "classes = 1\nnames = obj.names\n"})
    report = ReadReport()
    assert read(tmp_path, report) == {"images/a.png": [("dent", BOX)]}
    assert report.examples("ignored_tables") == [str(tmp_path / "config.yaml"), str(tmp_path / "obj.data")]
    (tmp_path / "data.yaml").rename(tmp_path / "steel.yaml")
    with pytest.raises(InputError, match=r"expected one table of YOLO data, found config.yaml, steel.yaml"):
        read(tmp_path)
    assert read(tmp_path / "steel.yaml") == {"images/a.png": [("dent", BOX)]}


# Lines.


@pytest.mark.parametrize(
    ("line", "box"),
    [
        (LINE, BOX),
        ("\ufeff0\t0.5 0.5  0.2\t0.4 \r\n\r\n \t\r\n", BOX),
        ("0.0 .5 5e-1 0.2 0.4", BOX),
        ("0 0.5 0.5 -0.2 0.4", BOX),
        ("0 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7", BOX),
        ("0 0.5 0.3 0.6 0.5 0.5 0.7 0.4 0.5", BOX),
        ("0 0.4 0.7 0.6 0.7 0.5 0.3", BOX),
    ],
    ids=["box", "blanks", "numbers", "negative width", "oriented box", "turned box", "triangle"],
)
def test_lines(tmp_path, line, box):
    assert read(one(tmp_path, line)) == {"images/a.png": [("dent", box)]}


def test_boxes_and_polygons_in_one_file(tmp_path):
    report = ReadReport()
    assert read(one(tmp_path, f"{LINE}\n1 0 0 0.2 0 0.2 0.4 0 0.4\n"), report) == {
        "images/a.png": [("dent", BOX), ("rust", OTHER_BOX)]
    }
    assert report.examples("outlines") == [f"{tmp_path / 'labels/a.txt'}:2"]


def test_line_ends_of_old_macs(tmp_path):
    lines = "\r".join(f"0 0.5 0.5 0.2 {size}" for size in ("0.2", "0.4", "0.8"))
    assert [box for _, box in read(one(tmp_path, lines))["images/a.png"]] == [
        [40, 20, 20, 10], BOX, [40, 5, 20, 40],
    ]  # fmt: skip


def test_one_line_twice_is_one_box(tmp_path):
    report = ReadReport()
    assert read(one(tmp_path, f"{LINE}\n{LINE}\n"), report) == {"images/a.png": [("dent", BOX)]}
    assert report.count("duplicates") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "expected `class cx cy w h` .* or a polygon .*, got 3 numbers: '0 0.5 0.5 0.1'"),
        ("0 0.1 0.1 0.3 0.1 0.3 0.3 0.1", "got 7 numbers"),
        ("0 0,5 0,5 0,1 0,1", "all of them numbers, got '0 0,5 0,5 0,1 0,1'; numbers are written with a point"),
        ("0,0.5,0.5,0.1,0.1", "numbers are written with a point, and blanks between them"),
        ("dent 0.5 0.5 0.1 0.1", "all of them numbers, got 'dent 0.5 0.5 0.1 0.1'"),
        ("0 0.5 nan 0.1 0.1", "expected fractions of the image, 0 to 1, got 0.5 nan"),
        ("0 48 32 10 10", "got 48 32 10 10; are these pixels"),
        ("0 0.5 0.5 0.2 0.4 0.3 0.3 2 0.4 0.4 2", "or keypoints, for which the table must have a `kpt_shape`"),
        ("3 0.5 0.5 0.1 0.1", r"class id 3 is beyond the list of 2 classes \(dent, rust\)"),
    ],
)
def test_lines_that_are_none(tmp_path, line, message):
    one(tmp_path, f"{LINE}\n\n{line}\n")
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path)
    assert f"{tmp_path / 'labels/a.txt'}:3: " in str(error.value)


def test_label_file_of_utf_16_is_read_and_one_that_is_no_text_is_named(tmp_path):
    one(tmp_path, f"{LINE}\n".encode("utf-16"))
    assert read(tmp_path) == {"images/a.png": [("dent", BOX)]}
    one(tmp_path, f"{LINE}\n\xff".encode("latin-1"))
    with pytest.raises(InputError, match=r"a.txt: expected UTF-8 text, .*; save it in UTF-8"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("shape", "rest"), [("[2, 2]", "0.3 0.3 0.45 0.45"), ("[2, 3]", "0.3 0.3 2 0.45 0.45 0"), ("[1, 2]", "0 0")]
)
def test_keypoints_are_left_out_and_told(tmp_path, shape, rest):
    report = ReadReport()
    root = one(tmp_path, f"{LINE} {rest}\n{OTHER}\n", f"train: images\nkpt_shape: {shape}\n{TABLE}")
    assert read(root, report) == {"images/a.png": [("dent", BOX), ("rust", OTHER_BOX)]}
    assert report.examples("keypoints") == [f"{tmp_path / 'labels/a.txt'}:1"]
    assert report.count("outlines") == 0
    write(root, {"labels/a.txt": f"{LINE} {rest} 0.5"})
    with pytest.raises(InputError, match=r"or these and \d of keypoints \(`kpt_shape`\), got"):
        read(root)


def sixth(tmp_path, *values):
    """Two label files with one number after each box; "" for none."""
    lines = [f"0 0.{index + 3} 0.5 0.2 0.4 {value}" for index, value in enumerate(values)]
    files = {"images/a.png": "", "images/b.png": "", "labels/a.txt": lines[0], "labels/b.txt": "\n".join(lines[1:])}
    return write(tmp_path, files | {"data.yaml": TABLE})


@pytest.mark.parametrize(
    ("values", "cause", "scores"),
    [
        (("0.9", "0.25", "1"), "scores", [0.9, 0.25, 1]),
        (("1", "1", "0"), "scores", [1, 1, 0]),
        (("0.5", "", "0.5"), "scores", [0.5, 1, 0.5]),
        (("1", "7", "0"), "track_ids", [1, 1, 1]),
        (("12", "13.0", "-1"), "track_ids", [1, 1, 1]),
    ],
)
def test_a_sixth_number_is_a_score_or_a_track(tmp_path, values, cause, scores):
    report = ReadReport()
    data = read_dataset(sixth(tmp_path, *values), report=report)
    assert [round(score, 3) for row in data["objects"] for score in row["score"]] == scores
    assert report.count(cause) == len([value for value in values if value])
    assert report.count("scores") + report.count("track_ids") == report.count(cause)


@pytest.mark.parametrize(
    ("values", "rows"), [(("0.5", "1", "3"), "b.txt:2 a.txt:1"), (("1.57", "1", "1"), "a.txt:1 a.txt:1")]
)
def test_sixth_numbers_that_are_neither_across_files(tmp_path, values, rows):
    beyond, part = rows.split()
    with pytest.raises(
        InputError, match=rf"{beyond}: ends with .* no score \(0 to 1\), and .*{part} ends with .* no track"
    ):
        read(sixth(tmp_path, *values))


def test_what_was_guessed_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_dataset(sixth(tmp_path, "0.5", "0.5"))
    assert "2 rows have a sixth number between 0 and 1, which was taken as the score" in caplog.text
