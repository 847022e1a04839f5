"""What could be lost without a word, whichever reader reads: splits, masks, files, fields, names spelt otherwise."""

import re
import unicodedata

import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from tool_files import read, write

from agssp.data.readers.folder_masks import find_masks
from agssp.data.readers.listing import composed, plain_stem
from agssp.errors import InputError

DENT = ("dent", [24, 16, 24, 16])
LINE = "0 0.375 0.375 0.25 0.25\n"
APART = unicodedata.normalize("NFD", "Mäh")
TOGETHER = unicodedata.normalize("NFC", "Mäh")
BNDBOX = "<bndbox><xmin>24</xmin><ymin>16</ymin><xmax>48</xmax><ymax>32</ymax></bndbox>"


def voc(name, content=f"<name>dent</name>{BNDBOX}"):
    return f"<annotation><filename>{name}</filename><object>{content}</object></annotation>"


def coco(*names, **changes):
    """A COCO file with one dent on each of these images."""
    return {
        "images": [{"id": index, "file_name": name, "width": 96, "height": 64} for index, name in enumerate(names)],
        "annotations": [
            {"id": index, "image_id": index, "category_id": 1, "bbox": [24, 16, 24, 16]} for index in range(len(names))
        ],
        "categories": [{"id": 1, "name": "dent"}],
    } | changes


def labelme(name, **changes):
    shape = {"label": "dent", "points": [[24, 16], [48, 32]], "shape_type": "rectangle"}
    return {"shapes": [shape], "imagePath": name, "imageWidth": 96, "imageHeight": 64} | changes


def rows(picture):
    """A table of one labelled image."""
    objects = {"bbox": List(List(Value("float32"))), "category": List(Value("string"))}
    values = {"image": [str(picture)], "objects": [{"bbox": [[24, 16, 24, 16]], "category": ["dent"]}]}
    return Dataset.from_dict(values, features=Features({"image": Image(), "objects": objects}))


def test_no_images_have_no_masks():
    assert find_masks([]) == set()


# Files of Parquet, the split that is read unasked, those that another spelling finds, and how many rows it has.
PARQUET = [
    (["any.parquet", "part-1.parquet"], None, 2),
    (["Train.parquet", "Validation.parquet"], "val", 1),
    (["train_0.parquet", "train_1.parquet", "test_0.parquet"], "Testing", 1),
    (["data/train-00000-of-00001.parquet", "data/valid-00000-of-00001.parquet"], "validation", 1),
    (["train/0.parquet", "train/1.parquet", "test/0.parquet"], "test", 1),
    (["train2017/0.parquet", "val2017/0.PARQUET"], "valid", 1),
]


@pytest.mark.parametrize(("files", "other", "count"), PARQUET)
def test_splits_of_parquet_are_never_merged(tmp_path, files, other, count):
    table = rows(write(tmp_path, {"set/p.png": None}) / "set/p.png")
    for file in files:
        (tmp_path / "set" / file).parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(tmp_path / "set" / file)
    found = read(tmp_path / "set")
    assert len(found.boxes) == sum(other is None or file.lower().startswith(("train", "data/train")) for file in files)
    assert found.report.count("split_by_default") == (other is not None)
    if other is not None:
        assert len(read(tmp_path / "set", split=other).boxes) == count


def test_splits_of_a_saved_table_in_another_spelling(tmp_path):
    table = rows(write(tmp_path, {"p.png": None}) / "p.png")
    DatasetDict({"Train": table, "valid": table}).save_to_disk(tmp_path / "set")
    found = read(tmp_path / "set")
    assert found.report.examples("split_by_default") == [f"Train of Train, valid in {tmp_path / 'set'}"]
    assert len(read(tmp_path / "set", split="val").boxes) == 1
    with pytest.raises(InputError, match="has no split 'test'; it has Train, valid; say which one is to be read"):
        read(tmp_path / "set", split="test")


def test_images_beside_a_table_are_told(tmp_path):
    rows(write(tmp_path, {"p.png": None}) / "p.png").to_parquet(tmp_path / "train.parquet")
    assert read(tmp_path).report.examples("unlisted") == ["p.png"]


def test_what_lies_outside_of_the_labelled_splits_is_told(tmp_path):
    files = {"valid/a.png": None, "valid/_annotations.coco.json": coco("a.png"), "b.png": None, "more/c.png": None}
    files |= {"train/d.png": None, "train/_annotations.coco.json": "{", "masks/a.png": None}
    found = read(write(tmp_path, files))
    assert found.boxes == {"valid/a.png": [DENT]}
    assert found.report.examples("other_splits") == [f"train in {tmp_path}, without labels that are read"]
    assert found.report.examples("outside_splits") == ["b.png", "more/c.png"]
    assert found.report.examples("unread_files")[0].startswith(
        f"{tmp_path}/train/_annotations.coco.json (no valid JSON"
    )


def test_a_broken_table_beside_a_good_one_is_told(tmp_path):
    files = {"a.png": None, "annotations/instances_val.json": coco("a.png"), "annotations/instances_train.json": "{"}
    found = read(write(tmp_path, files | {"settings.json": "{"}))
    assert found.boxes == {"a.png": [DENT]}
    assert found.report.count("unread_files") == 1
    assert found.report.examples("unread_files")[0].startswith(f"{tmp_path}/annotations/instances_train.json")


# Images and masks as published sets have them: image -> its mask.
MASKS = [
    {"kos01/Part0.jpg": "kos01/Part0_label.bmp"},
    {"train/2000.png": "train/2000_GT.png"},
    {"a.jpg": "a_mask.png", "b.jpg": "b_mask.png"},
    {"Class1/Train/0001.PNG": "Class1/Train/Label/0001_label.PNG"},
    {"images/a.jpg": "labels/a.png"},
    {"images/a.jpg": "annotations/trimaps/a.png"},
    {"img_dir/train/a.jpg": "ann_dir/train/a.png"},
    {"JPEGImages/a.jpg": "SegmentationClass/a.png"},
    {"train/a.jpg": "train_mask/a.png"},
    {"test/broken/000.png": "ground_truth/broken/000_mask.png"},
]


@pytest.mark.parametrize("masks", MASKS, ids=lambda masks: next(iter(masks.values())))
def test_masks_beside_images_are_no_images(tmp_path, masks):
    found = read(write(tmp_path, dict.fromkeys((*masks, *masks.values()))))
    assert set(found.boxes) == set(masks)
    assert found.report.with_mask == len(masks)
    assert f"{len(masks)} with a mask" in found.report.summary()[0]
    assert found.report.count("unmatched_masks") == 0


@pytest.mark.parametrize(
    "names", [("labels/a.png",), ("a_mask.png",), ("annotations/a.png", "b/c.png"), ("Label/0.png",)]
)
def test_images_without_a_partner_are_no_masks(names):
    assert find_masks(names) == set()


def test_images_of_one_name_are_told(tmp_path):
    found = read(write(tmp_path, {"MT_Crack/Imgs/a.jpg": None, "MT_Crack/Imgs/a.png": None, "b.png": None}))
    assert found.report.examples("same_stem") == ["MT_Crack/Imgs/a.jpg", "MT_Crack/Imgs/a.png"]


def test_masks_beside_boxes_are_left_out_with_a_word(tmp_path):
    files = {"images/a.png": None, "images/a_mask.png": None, "labels/a.txt": LINE, "classes.txt": "dent\n"}
    found = read(write(tmp_path, files))
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.examples("masks_aside") == ["images/a_mask.png"]


def test_pictures_of_kinds_that_are_not_read_are_told_and_jfif_is_read(tmp_path):
    pictures = ("b.heic", "c.GIF", "d.dcm", "e.avif")
    write(tmp_path, {"a.jpg": None} | dict.fromkeys(pictures, b"x"))
    (tmp_path / "a.jpg").rename(tmp_path / "a.jfif")
    found = read(tmp_path)
    assert list(found.boxes) == ["a.jfif"]
    assert sorted(found.report.examples("other_pictures")) == sorted(pictures)


@pytest.mark.parametrize(
    ("stem", "plain"),
    [
        ("", ""), ("a", "a"), ("A", "a"), ("a%20b", "a b"), ("a.jpg", "a"), ("a.b", "a.b"),
        (APART, TOGETHER.casefold()), ("ab12cd34-a", "a"), ("ab12cd34-", "ab12cd34-"), ("part-a", "part-a"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_stem(stem, plain):
    assert plain_stem(stem) == plain
    assert composed(stem).isascii() == stem.isascii()


SPELT = {
    "COCO": ("x.json", lambda name: coco(f"{name}.png", "b.png")),
    "metadata": (
        "metadata.jsonl",
        lambda name: f'{{"file_name": "{name}.png", "objects": {{"bbox": [[24, 16, 24, 16]], "category": ["dent"]}}}}',
    ),
}


@pytest.mark.parametrize("tool", SPELT)
@pytest.mark.parametrize(("here", "there"), [(APART, TOGETHER), (TOGETHER, APART)])
def test_letters_whose_accents_stand_apart_in_a_table(tmp_path, tool, here, there):
    name, table = SPELT[tool]
    found = read(write(tmp_path, {f"{here}.png": None, "b.png": None, name: table(there)}))
    assert found.boxes[f"{here}.png"] == [DENT]


@pytest.mark.parametrize(
    ("image", "labels"),
    [(TOGETHER, APART), (APART, TOGETHER), ("A", "a"), ("a b", "a%20b"), ("a", "a.png"), ("a", "ab12cd34-a")],
)
@pytest.mark.parametrize("tool", ["yolo", "yolo beside", "voc", "labelme"])
def test_label_files_that_are_spelt_otherwise_than_their_image(tmp_path, tool, image, labels):
    files = {
        "yolo": {f"images/{image}.png": None, f"labels/{labels}.txt": LINE, "classes.txt": "dent\n"},
        "yolo beside": {
            f"images/{image}.png": None, f"images/{labels}.txt": LINE, "images/b.png": None, "images/b.txt": LINE,
            "data.yaml": "names: [dent]\n",
        },
        "voc": {f"images/{image}.png": None, f"Annotations/{labels}.xml": voc(f"{labels}.png")},
        "labelme": {f"{image}.png": None, f"{labels}.json": labelme(f"{image}.png")},
    }[tool]  # fmt: skip
    found = read(write(tmp_path, files))
    assert next(row for name, row in found.boxes.items() if image in name) == [DENT]
    assert found.report.count("orphans") == found.report.count("no_label_file") == 0


def test_a_label_file_that_could_be_of_two_images_is_of_none(tmp_path):
    files = {"images/a.png": None, "images/A.png": None, "images/b.png": None, "labels/b.txt": LINE}
    found = read(write(tmp_path, files | {"labels/a.PNG.txt": LINE, "classes.txt": "dent\n"}))
    assert found.boxes == {"images/a.png": [], "images/A.png": [], "images/b.png": [DENT]}
    assert found.report.examples("orphans") == [f"{tmp_path}/labels/a.PNG.txt"]


def test_images_with_labels_of_another_tool_are_not_taken_as_sound(tmp_path):
    files = {"a.png": None, "a.json": labelme("a.png"), "b.png": None, "b.xml": voc("b.png"), "c.png": None}
    found = read(write(tmp_path, files | {"c.txt": LINE, "d.png": None}))
    assert found.boxes == {"a.png": None, "b.png": [DENT], "c.png": None, "d.png": []}
    assert found.report.examples("other_labels") == ["a.png", "c.png"]
    assert found.report.examples("no_label_file") == ["d.png"]


def test_lists_of_classes_that_contradict_the_table_are_told(tmp_path):
    files = {"images/a.png": None, "labels/a.txt": LINE, "data.yaml": "train: images\nnames: [dent]\n"}
    assert read(write(tmp_path, files | {"classes.txt": "dent\n"})).report.count("contrary_names") == 0
    found = read(write(tmp_path, {"classes.txt": "rust\ndent\n"}))
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.examples("contrary_names") == [
        f"{tmp_path}/classes.txt (the names of {tmp_path}/data.yaml count)"
    ]


@pytest.mark.parametrize("field", ["bbox", "bboxes", "annotations", "Label", "mask"])
def test_fields_of_a_table_that_may_be_labels_are_told(tmp_path, field):
    write(tmp_path, {"a.png": None, "metadata.jsonl": f'{{"file_name": "a.png", "{field}": [1], "camera": 3}}'})
    assert read(tmp_path).report.examples("unread_fields") == [f"{field} ({tmp_path}/metadata.jsonl:1)"]


def test_columns_of_a_table_that_may_be_labels_are_told(tmp_path):
    table = rows(write(tmp_path, {"set/p.png": None}) / "set/p.png").add_column("annotations", ["x"])
    table = table.add_column("line", [3])
    table.to_parquet(tmp_path / "set/x.parquet")
    assert read(tmp_path / "set").report.examples("unread_fields") == [f"column annotations of {tmp_path / 'set'}"]


def test_a_table_that_names_images_by_file_says_what_to_write(tmp_path):
    Dataset.from_dict({"file_name": ["a.png"]}).to_parquet(tmp_path / "metadata.parquet")
    with pytest.raises(InputError, match=r"names images by `file_name` .*write it as metadata.jsonl"):
        read(tmp_path)


@pytest.mark.parametrize("score", ["NaN", "1e400", '"high"'])
def test_scores_that_are_no_numbers_are_refused(tmp_path, score):
    text = f'{{"bbox": [[1, 2, 3, 4]], "category": ["dent"], "score": [{score}]}}'
    write(tmp_path, {"a.png": None, "metadata.jsonl": f'{{"file_name": "a.png", "objects": {text}}}'})
    with pytest.raises(InputError, match=r"metadata.jsonl:1 box 0: expected a number as its score"):
        read(tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    write(tmp_path, {"x.json": str(coco("a.png")).replace("'", '"').replace('"bbox"', f'"score": {score}, "bbox"')})
    with pytest.raises(InputError, match=r"x.json annotation 0: expected a number as its score"):
        read(tmp_path)


def test_images_that_stand_in_several_rows_name_the_rows(tmp_path):
    line = '{"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": ["dent"]}}'
    write(tmp_path, {"a.png": None, "metadata.jsonl": f"{line}\n{line}\n"})
    where = re.escape(f"({tmp_path}/metadata.jsonl:1 box 0, {tmp_path}/metadata.jsonl:2 box 0)")
    with pytest.raises(InputError, match=f"two images have the id 'a.png' {where}; .*put all of its boxes into one"):
        read(tmp_path)


def test_two_boxes_of_one_object_are_refused_and_difficult_ones_told(tmp_path):
    write(tmp_path, {"a.png": None, "a.xml": voc("a.png", f"<name>dent</name>{BNDBOX}{BNDBOX}")})
    with pytest.raises(InputError, match=r"a.xml object 0: has 2 bndbox; expected one"):
        read(tmp_path)
    write(tmp_path, {"a.xml": voc("a.png", f"<name>dent</name><difficult>1</difficult>{BNDBOX}")})
    assert read(tmp_path).report.examples("difficult") == [f"{tmp_path}/a.xml object 0"]


def test_flags_of_labelme_beside_shapes_are_told(tmp_path):
    table = labelme("a.png", flags={"bad": True, "dark": False, "good": True})
    table["shapes"][0]["flags"] = {"occluded": True}
    found = read(write(tmp_path, {"a.png": None, "a.json": table}))
    assert found.boxes == {"a.png": [DENT]}
    assert found.report.examples("shape_flags") == [f"bad, occluded ({tmp_path}/a.json)"]


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ({"size": [96, 64], "counts": [0, 10]}, "its run lengths are of 64 x 96 px .*its image has 96 x 64 px"),
        ({"size": [64, 96], "counts": [-5, 10]}, "expected bbox"),
        ({"size": [64, 96], "counts": "!!!"}, "expected bbox"),
    ],
)
def test_run_lengths_that_do_not_fit_their_image(tmp_path, outline, message):
    box = {"id": 5, "image_id": 0, "category_id": 1, "segmentation": outline}
    write(tmp_path, {"a.png": None, "x.json": coco("a.png", annotations=[box])})
    with pytest.raises(InputError, match=rf"x.json annotation 5: .*{message}"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["null", '""', '" "', "true", "[]"])
def test_categories_without_a_name_are_refused(tmp_path, name):
    text = str(coco("a.png")).replace("'", '"').replace('"dent"', name)
    write(tmp_path, {"a.png": None, "x.json": text})
    with pytest.raises(InputError, match=r"x.json: .*expected the name of a category"):
        read(tmp_path)
