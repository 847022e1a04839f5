"""`agssp split`: a seeded few-label training set and a test set that are the source's rows, each once."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from map_cases import contents
from PIL import Image

from agssp.commands.split import SplitArguments, main
from agssp.data.readers import read_dataset
from agssp.errors import InputError

CLASSES = ["pit", "scratch", "stain"]


def write_labelled(root, count=30):
    """Images of two categories with up to three boxes each; every tenth has none, and some are normal."""
    generator = np.random.default_rng(0)
    lines = []
    for index in range(count):
        category = ("plate", "strip")[index % 2]
        path = root / category / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (40, 50 + index, 3), dtype=np.uint8)).save(path)
        number = 0 if index % 10 == 0 else index % 3 + 1
        boxes = generator.uniform((0, 0, 4, 4), (20, 20, 15, 15), (number, 4)).astype(np.float32)
        names = [CLASSES[(index + box) % 3] for box in range(number)]
        lines.append(
            {
                "file_name": f"{category}/{index:02d}.png",
                "category": category,
                "is_normal": number == 0,
                "objects": {"bbox": boxes.tolist(), "category": names},
            }
        )
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))


@pytest.fixture
def root(tmp_path):
    write_labelled(tmp_path / "labelled")
    return tmp_path


def run(root, output="few", **changes):
    main(SplitArguments(dataset=str(root / "labelled"), output=str(root / output), **changes))
    return read_dataset(root / output / "train"), read_dataset(root / output / "test")


def classes_of(dataset):
    """How many images show each class."""
    return Counter(index for row in dataset for index in set(row["objects"]["category"]))


def mark(root, marks):
    """Make these images' boxes crowd regions: file -> one flag a box."""
    table = root / "labelled/metadata.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    for line in lines:
        if line["file_name"] in marks:
            line["objects"]["iscrowd"] = marks[line["file_name"]]
    table.write_text("\n".join(map(json.dumps, lines)))


def test_crowds_are_no_examples_and_images_of_crowds_alone_are_not_trained_on(root, capsys):
    # Image 01 has two boxes, 02 and 05 three, 03 one.
    mark(root, {"strip/01.png": [1, 1], "plate/02.png": [0, 1, 1], "strip/03.png": [1]})
    train, test = run(root, "all", count=28)
    assert "2 images have crowd regions alone (iscrowd 1); none of them is for training" in capsys.readouterr().out
    assert test["image_id"][:] == ["strip/01.png", "strip/03.png"]
    assert {row["image_id"]: row["objects"]["iscrowd"] for row in train}["plate/02.png"] == [False, True, True]
    assert [row["objects"]["iscrowd"] for row in test] == [[True, True], [True]]
    with pytest.raises(InputError, match="--count 29: expected between 1 and 28"):
        run(root, "more", count=29)
    # Read as objects, all images are alike; a folder of one kind of split takes no other.
    train, test = run(root, "objects", count=28, crowds="objects")
    assert not any(any(row["objects"]["iscrowd"]) for part in (train, test) for row in part)
    with pytest.raises(InputError, match="holds another split"):
        run(root, "objects", count=28)
    with pytest.raises(InputError, match="--crowds 'x'"):
        run(root, "other", count=5, crowds="x")


@pytest.mark.parametrize("way", [{"holdout": 0.3}, {"fraction": 0.4}, {"per_class": 3}])
def test_every_way_leaves_images_of_crowds_alone_to_testing(root, way):
    alone = {f"{('plate', 'strip')[index % 2]}/{index:02d}.png": [1] * (index % 3 + 1) for index in (1, 2, 3, 4, 5)}
    mark(root, alone)
    train, test = run(root, **way)
    assert not {*train["image_id"]} & {*alone}
    if "holdout" not in way:
        assert {*test["image_id"]} >= {*alone}
    if "per_class" in way:
        for number in range(3):
            objects = [
                {label for label, crowd in zip(row["category"], row["iscrowd"], strict=True) if not crowd}
                for row in train["objects"]
            ]
            assert sum(number in row for row in objects) >= 3


def test_nothing_but_crowds(root):
    boxes = {f"{('plate', 'strip')[index % 2]}/{index:02d}.png": index % 3 + 1 for index in range(30) if index % 10}
    mark(root, {name: [1] * count for name, count in boxes.items()})
    with pytest.raises(InputError, match=r"are crowd regions .*--crowds objects reads them as objects"):
        run(root, count=5, crowds="ignore")
    # As a file in which all is marked has no crowd regions, they are objects unless it is said that they are not.
    train, _ = run(root, count=5)
    assert not any(any(row["objects"]["iscrowd"]) for row in train)


def test_no_images(tmp_path):
    (tmp_path / "labelled").mkdir()
    with pytest.raises(InputError, match="no images"):
        run(tmp_path, count=1)
    assert not (tmp_path / "few").exists()


def test_images_without_labels(tmp_path):
    write_labelled(tmp_path / "labelled")
    (tmp_path / "labelled/metadata.jsonl").unlink()
    with pytest.raises(InputError, match="no label was found for any of its 30 images"):
        run(tmp_path, count=1)


def test_images_without_labels_are_on_neither_side(root):
    table = root / "labelled/metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[7] |= {"objects": None, "is_normal": False}
    table.write_text("\n".join(map(json.dumps, rows)))
    train, test = run(root, count=7)
    assert {*train["image_id"], *test["image_id"]} == {row["file_name"] for row in rows} - {rows[7]["file_name"]}


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"per_class": 4}, {"count": 7}, {"fraction": 0.3}])
def test_parts_are_disjoint_and_complete_and_depend_on_the_seed_alone(root, how):
    train, test = run(root, **how)
    source = read_dataset(root / "labelled")["image_id"]
    assert sorted([*train["image_id"], *test["image_id"]]) == sorted(source)
    again, _ = run(root, "again", **how)
    assert again["image_id"] == train["image_id"]
    other, _ = run(root, "other", seed=1, **how)
    assert other["image_id"] != train["image_id"]
    facts = json.loads((root / "few/split.json").read_text())
    assert (facts["train"], facts["test"]) == (list(train["image_id"]), list(test["image_id"]))


def test_each_class_has_its_images(root):
    train, _ = run(root, per_class=4)
    assert min(classes_of(train).values()) >= 4
    assert len(train) <= 4 * len(CLASSES)


def test_count_and_fraction(root, capsys):
    assert [len(part) for part in run(root, "a", count=7)] == [7, 23]
    assert "7 training and 23 test images" in capsys.readouterr().out
    assert [len(part) for part in run(root, "b", fraction=0.3)] == [9, 21]


def test_rows_are_the_sources_and_stand_alone(root):
    source = {row["image_id"]: row for row in read_dataset(root / "labelled")}
    bytes_of = {name: (root / "labelled" / name).read_bytes() for name in source}
    features = read_dataset(root / "labelled").features
    run(root, per_class=4)
    shutil.rmtree(root / "labelled")
    for part in ("train", "test"):
        dataset = read_dataset(root / "few" / part)
        assert dataset.features["category"] == features["category"]
        assert dataset.features["objects"] == features["objects"]
        for row in dataset:
            before = source[row["image_id"]]
            for column in ("objects", "category", "is_normal"):
                assert row[column] == before[column]
            assert row["image"]["bytes"] == bytes_of[row["image_id"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give exactly one of --per-class, --count and --fraction"),
        ({"count": 3, "fraction": 0.1}, "give exactly one"),
        ({"per_class": 0}, "--per-class 0: expected 1 or more"),
        ({"per_class": 100}, "100 a class were asked for"),
        ({"count": 30}, "--count 30: expected between 1 and 29"),
        ({"count": 0}, "--count 0: expected between 1 and 29"),
        ({"fraction": 1.0}, "between 0 and 1, got 1.0"),
        ({"fraction": 0.0}, "between 0 and 1, got 0.0"),
    ],
)
def test_bad_flags_write_nothing(root, changes, message):
    with pytest.raises(InputError, match=message):
        run(root, **changes)
    assert not (root / "few").exists()


def test_nothing_left_to_test_on(tmp_path):
    write_labelled(tmp_path / "labelled", 2)
    line = {"bbox": [[1, 1, 5, 5]] * 3, "category": CLASSES}
    names = [f"{category}/0{index}.png" for index, category in enumerate(("plate", "strip"))]
    text = "\n".join(json.dumps({"file_name": name, "objects": line}) for name in names)
    (tmp_path / "labelled/metadata.jsonl").write_text(text)
    with pytest.raises(InputError, match="--per-class 2 takes all 2 images; none is left to test on"):
        run(tmp_path, per_class=2)


def test_a_class_that_no_image_shows_is_not_asked_for(tmp_path, capsys):
    # As tools export the classes of a project of which nobody has labelled one yet.
    table = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 20, "height": 20} for n in range(4)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 9, 9]} for n in range(4)],
        "categories": [{"id": 1, "name": "pit"}, {"id": 2, "name": "rust"}],
    }
    (tmp_path / "labelled").mkdir()
    for image in table["images"]:
        Image.new("L", (20, 20), 10 * image["id"]).save(tmp_path / "labelled" / image["file_name"])
    (tmp_path / "labelled/result.json").write_text(json.dumps(table))
    train, test = run(tmp_path, per_class=2)
    assert (len(train), len(test)) == (2, 2)
    assert train.features["objects"]["category"].feature.names == ["pit", "rust"]
    assert "no image shows rust: --per-class chooses for the other classes" in capsys.readouterr().out


def test_foreign_output(root):
    (root / "few").mkdir()
    (root / "few/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="few: holds files that are no split"):
        run(root, count=3)
    assert contents(root / "few") == {"thesis.txt": b"mine"}
    (root / "note").write_text("mine")
    with pytest.raises(InputError, match="note: expected a folder, there is a file of that name"):
        run(root, "note", count=3)


def test_another_split_is_not_overwritten(root):
    """Or a run that is cut short would leave training images of the new split among the test images of the old."""
    run(root, count=3)
    before = contents(root / "few")
    with pytest.raises(InputError, match=r"few: holds another split \(seed 0, 3 training images\)"):
        run(root, count=3, seed=1)
    assert contents(root / "few") == before
    # What was cut short is finished by the same command.
    (root / "few/test/test-00000-of-00001.parquet").unlink()
    run(root, count=3)
    assert contents(root / "few") == before


@pytest.mark.slow
def test_images_put_aside_are_the_same_however_many_are_trained_on(root):
    whole, aside = run(root, "all", holdout=0.3)
    assert (len(whole), len(aside)) == (21, 9)
    few, test = run(root, "few", holdout=0.3, count=5)
    assert test["image_id"] == aside["image_id"]
    assert len(few) == 5
    assert set(few["image_id"]) < set(whole["image_id"])
    _, other = run(root, "other", holdout=0.3, count=5, seed=1)
    assert set(other["image_id"]) != set(test["image_id"])
    # With images put aside all others may be trained on.
    train, test = run(root, "most", holdout=0.3, count=21)
    assert (train["image_id"], test["image_id"]) == (whole["image_id"], aside["image_id"])


def test_a_test_set_of_ones_own_is_kept(root, capsys):
    write_labelled(root / "test", 7)
    for path in (root / "test").glob("*/*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    test = str(root / "test")
    main(SplitArguments(str(root / "labelled"), str(root / "few"), count=30, test=test))
    assert sorted(read_dataset(root / "few/train")["image_id"]) == sorted(read_dataset(root / "labelled")["image_id"])
    assert not (root / "few/test").exists()
    printed = capsys.readouterr().out
    assert f"30 training and those of {test} test images" in printed
    assert f"--test {test}" in printed
    assert json.loads((root / "few/split.json").read_text())["test"] == test


def test_an_image_that_is_in_both_is_named(root):
    write_labelled(root / "test", 7)
    for path in (root / "test").glob("*/*.png"):
        if path.name != "03.png":
            Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    with pytest.raises(InputError, match=r"1 of its images are among the training images too, first strip/03\.png"):
        main(SplitArguments(str(root / "labelled"), str(root / "few"), count=3, test=str(root / "test")))
    assert not (root / "few").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"holdout": 0.3, "test": "t"}, "give --holdout, .* or --test"),
        ({"holdout": 1.5}, "between 0 and 1, got 1.5"),
        ({"holdout": 0.3, "count": 22}, "--count 22: expected between 1 and 21 "),
        ({"holdout": 0.3, "count": 3, "per_class": 3}, "give exactly one"),
    ],
)
def test_bad_flags_of_test_images(root, changes, message):
    with pytest.raises(InputError, match=message):
        run(root, **changes)
    assert not (root / "few").exists()
