"""Splits, subsets and shards of a planned data set, and the table of sources."""

from collections import Counter

import pytest
from PIL import Image

from agssp.data.readers.records import Box
from agssp.data.readers.report import ReadReport
from agssp.errors import InputError, StorageError
from agssp.sources.defects import MaskFile
from agssp.sources.image import SourceImage
from agssp.sources.labels import read_told
from agssp.sources.plan import divided, plan_source
from agssp.sources.table import Source, download_folder, find_source, missing_folder, read_source, sources


def images(root, count, classes=("pit", "crack", "stain"), split=None):
    made = []
    for number in range(count):
        path = root / f"{number:03d}.png"
        Image.new("L", (8, 6), number).save(path)
        boxes = [Box((1, 1, 2, 2), classes[number % len(classes)])]
        made.append(SourceImage(path, path.name, "plate", split, False, boxes))
    return made


def entry(**changes):
    return Source(**{"name": "fake", "title": "Fake", **changes})


def test_no_images_give_no_shards(tmp_path):
    plan = plan_source(entry(), [], 0)
    assert (plan.shards, plan.categories, plan.classes, plan.mask) == ((), (), None, False)


def test_an_image_that_is_gone_since_it_was_listed_is_named(tmp_path):
    rows = images(tmp_path, 2)
    rows[1].path.unlink()
    with pytest.raises(InputError, match=r"001\.png: cannot be read: No such file.*while it is built"):
        plan_source(entry(), rows, 0)


def test_a_mask_that_is_gone_is_named(tmp_path):
    (image,) = images(tmp_path, 1)
    image.masks = [MaskFile(tmp_path / "gone_mask.png", "pit")]
    with pytest.raises(InputError, match=r"gone_mask\.png: cannot be read: No such file"):
        image.describe()


def test_where_the_whole_folder_is_gone_it_is_the_share(tmp_path):
    root = tmp_path / "share"
    root.mkdir()
    rows = images(root, 1)
    rows[0].path.unlink()
    root.rmdir()
    with pytest.raises(StorageError, match=r"000\.png: .*share is not there, or empty; see to the disk"):
        plan_source(entry(), rows, 0)


def test_a_drawn_split_takes_its_share_of_each_class_and_depends_on_the_seed_alone(tmp_path):
    rows = images(tmp_path, 60)
    source = entry(split={"test": 0.3})
    parts = divided(source, rows, 0)
    test = {image.image_id for image in parts if image.split == "test"}
    assert len(test) == 18
    assert Counter(image.boxes[0].defect_type for image in parts if image.split == "test") == {
        "pit": 6, "crack": 6, "stain": 6
    }  # fmt: skip
    assert {image.image_id for image in divided(source, rows[::-1], 0) if image.split == "test"} == test
    assert {image.image_id for image in divided(source, rows, 1) if image.split == "test"} != test
    assert [image.image_id for image in parts] == [image.image_id for image in rows]


def test_a_split_of_the_owner_is_left_as_it_is(tmp_path):
    rows = images(tmp_path, 4, split="validation")
    assert {image.split for image in divided(entry(split={"test": 0.5}), rows, 0)} == {"validation"}
    with pytest.raises(InputError, match="split 'dev'"):
        plan_source(entry(), images(tmp_path, 2, split="dev"), 0)


def test_shards_hold_every_image_once_within_both_limits(tmp_path):
    rows = images(tmp_path, 25)
    size = rows[0].path.stat().st_size
    plan = plan_source(entry(split={"test": 0.4}), rows, 0, shard_images=4, shard_bytes=1_000_000)
    names = [shard.name for shard in plan.shards]
    assert names == [f"train-{number:05d}-of-00004.parquet" for number in range(4)] + [
        f"test-{number:05d}-of-00003.parquet" for number in range(3)
    ]
    held = [image.image_id for shard in plan.shards for image in shard.images]
    assert sorted(held) == [image.image_id for image in rows]
    assert held == [image.image_id for image in plan.images]
    tight = plan_source(entry(), rows, 0, shard_images=100, shard_bytes=2 * size + 10)
    assert all(len(shard.images) <= 3 for shard in tight.shards)
    assert plan_source(entry(), rows, 0, shard_images=100, shard_bytes=1).shards[0].count == 25


def test_classes_keep_the_order_of_the_table_and_others_are_an_error(tmp_path):
    rows = images(tmp_path, 6)
    assert plan_source(entry(), rows, 0).classes == ("crack", "pit", "stain")
    assert plan_source(entry(classes=["stain", "pit", "crack", "dent"]), rows, 0).classes == (
        "stain", "pit", "crack", "dent"
    )  # fmt: skip
    with pytest.raises(InputError, match="unknown class 'crack'"):
        plan_source(entry(classes=["stain", "pit"]), rows, 0)


def test_another_file_is_another_plan(tmp_path):
    rows = images(tmp_path, 3)
    key = plan_source(entry(), rows, 0).key
    assert plan_source(entry(), rows[::-1], 0).key == key
    rows[0].boxes[0].bbox = (1, 1, 3, 2)
    assert plan_source(entry(), rows, 0).key != key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table"),
        ("name: fake", "name and title"),
        ("name: [", "not valid YAML"),
        ("name: other\ntitle: x\nreason: x", "must be called the same"),
        ("name: fake\ntitle: x\nreason: x\nlicense: y", "unknown key 'license'"),
        ("name: fake\ntitle: x", "expected a reason"),
    ],
)
def test_a_malformed_entry_of_the_table_is_named(tmp_path, text, message):
    (tmp_path / "fake.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_source(tmp_path / "fake.yaml")


def test_a_source_is_found_below_the_folders_of_its_archive(tmp_path):
    source = find_source("kolektorsdd2")
    assert download_folder(source, tmp_path) is None
    for place in ("kolektorsdd2/KSDD2/data", "kolektorsdd2"):
        for part in ("train", "test"):
            (tmp_path / place / part).mkdir(parents=True)
        Image.new("L", (2, 2)).save(tmp_path / place / "train/1_GT.png")
        assert download_folder(source, tmp_path) == tmp_path / place
    assert download_folder(source, tmp_path / "kolektorsdd2") == tmp_path / "kolektorsdd2"
    message = str(missing_folder(source, tmp_path))
    assert "train/*_GT.png, test" in message
    assert "vicos.si" in message


def test_a_subset_is_found_where_the_whole_lies(tmp_path):
    for part in ("lable", "1", "10"):
        (tmp_path / "gc10-det" / part).mkdir(parents=True)
    assert download_folder(find_source("gc10-mini"), tmp_path) == tmp_path / "gc10-det"


def test_every_entry_of_the_table_has_rules_that_compile_and_a_format_that_is_read(tmp_path):
    for source in sources().values():
        assert source.subset or source.name == "own-line" or (source.files and source.expects)
        if source.labels.get("format") in ("voc", "yolo", "labelme"):
            assert read_told(source, tmp_path, [(tmp_path / "a.png", {"stem": "a"})], ReadReport()) == [None]
    with pytest.raises(InputError, match="expected voc, yolo"):
        read_told(entry(labels={"format": "tfrecord"}), tmp_path, [], ReadReport())
