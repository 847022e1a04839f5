"""Categories, sound images, types of defect and masks that the names of folders tell."""

from pathlib import Path

import pytest
from PIL import Image

from agssp.data.readers.folder_masks import match_masks
from agssp.data.readers.image_folder import read_image_folder
from agssp.data.readers.listing import Listing
from agssp.data.readers.report import ReadReport


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3)).save(root / name)
    return root


def read(root, **options):
    """Image id -> category and whether it is normal."""
    return {record.image_id: (record.category, record.is_normal) for record in records(root, **options)}


def records(root, category=None, report=None):
    return read_image_folder(Listing(root), category, report or ReadReport())


def test_empty_folder(tmp_path):
    assert records(tmp_path) == []


ONE_OBJECT = [
    # As MVTec's archives hold one object.
    ("train/good/0.png", "test/good/0.png", "test/broken/0.png", "test/stain/0.png"),
    ("good/0.png", "good/1.png", "crack/0.png", "colour/0.png"),
    # Sound images for training alone, other names of them, and a folder of all that is not sound.
    ("train/good/0.png", "test/broken/0.png"),
    ("ok/0.png", "scratch/0.png", "dent/0.png"),
    ("train/ok/0.png", "test/ok/0.png", "test/ko/0.png"),
    ("Train/Normal/0.png", "Test/Hole/0.png"),
    ("normal/0.png", "defect/0.png", "rust/0.png"),
    ("images/normal/deep/0.png", "images/rust/deep/0.png"),
    ("Data/Images/Normal/0.JPG", "Data/Images/Anomaly/0.JPG"),
]


@pytest.mark.parametrize("names", ONE_OBJECT)
def test_one_object_with_types_of_defect(tmp_path, names):
    root = write(tmp_path / "bottle", *names)
    sound = {name: bool({"good", "ok", "normal"} & set(Path(name.lower()).parts)) for name in names}
    assert read(root) == {name: ("bottle", normal) for name, normal in sound.items()}
    assert read(root, category="vial") == {name: ("vial", normal) for name, normal in sound.items()}


@pytest.mark.parametrize("names", ONE_OBJECT)
def test_several_objects_with_types_of_defect(tmp_path, names):
    root = tmp_path / "corpus"
    for category in ("bottle", "nut"):
        write(root / category, *names)
    found = read(root)
    assert len(found) == 2 * len(names)
    assert all(category == image_id.split("/")[0] for image_id, (category, _) in found.items())
    assert {normal for _, normal in found.values()} == {True, False}


@pytest.mark.parametrize("category", [None, "hazelnut"])
def test_what_is_taken_for_a_type_of_defect_is_told_once(tmp_path, category):
    root = write(tmp_path / "nut", "good/0.png", "crack/0.png", "crack/1.png", "Colour/0.png")
    report = ReadReport()
    records(root, category, report)
    assert report.examples("defect_folders") == ["colour", "crack"]
    assert report.count("defect_folders") == 2
    assert len(report.lines()) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # Each with sound images of its own, whichever folder comes first.
        (("plate/good/0.png", "strip/good/0.png", "good/0.png"), ["plate", "strip", "corpus"]),
        (("good/plate/0.png", "good/strip/0.png", "plate/0.png", "strip/0.png"), ["plate", "strip", "plate", "strip"]),
        (("plate/good/0.png", "strip/0.png", "good/0.png"), ["plate", "strip", "corpus"]),
        # No sound images at all.
        (("plate/0.png", "strip/0.png"), ["plate", "strip"]),
        (("plate/defect/0.png", "strip/0.png"), ["plate", "strip"]),
        (("plate/unlabelled/0.png", "plate/normal/0.png", "strip/0.png"), ["plate", "plate", "strip"]),
    ],
)
def test_folders_that_stay_categories(tmp_path, names, expected):
    report = ReadReport()
    found = read(write(tmp_path / "corpus", *names), report=report)
    assert [found[name][0] for name in names] == expected
    assert report.lines() == []


def test_unlabelled_images_beside_sound_ones_stay_unknown(tmp_path):
    found = read(write(tmp_path / "plate", "normal/0.png", "unlabelled/0.png", "images/0.png", "0.png"))
    assert {name: normal for name, (_, normal) in found.items()} == {
        "normal/0.png": True, "unlabelled/0.png": None, "images/0.png": None, "0.png": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("test/broken/000.png", "ground_truth/broken/000_mask.png"),
        ("test/ko/0001.bmp", "ground_truth/ko/0001.png"),
        ("Data/Images/Anomaly/000.JPG", "Data/Masks/Anomaly/000.png"),
        ("images/test/crack/1.png", "masks/test/crack/1.png"),
        ("images/1.jpg", "masks/1_GT.png"),
        ("1.jpg", "Mask/1-mask.bmp"),
    ],
)
@pytest.mark.parametrize("objects", [[""], ["bottle/", "nut/"]])
def test_each_image_gets_the_mask_that_is_named_like_it(tmp_path, image, mask, objects):
    for each in objects:
        write(tmp_path / "set", each + image, each + "train/good/000.png", each + mask)
    report = ReadReport()
    found = records(tmp_path / "set", report=report)
    assert {record.image_id: record.mask for record in found} == {
        **{each + image: tmp_path / "set" / (each + mask) for each in objects},
        **{each + "train/good/000.png": None for each in objects},
    }
    assert report.count("unmatched_masks") == 0


def test_masks_of_the_own_split_go_before_others():
    images = [Path("train/crack/0.png"), Path("test/crack/0.png")]
    masks = [Path("masks/train/crack/0.png"), Path("masks/test/crack/0.png")]
    assert match_masks(images, masks) == (dict(zip(images, masks, strict=True)), [])


def test_masks_of_no_image_and_of_several_are_left_out_by_name(tmp_path):
    root = write(tmp_path / "set", "train/crack/0.png", "test/crack/0.png", "test/dent/1.png", "test/rust/2.png",
                 "ground_truth/crack/0.png", "ground_truth/dent/1_mask.png", "ground_truth/dent/1_gt.png",
                 "ground_truth/rust/2.png", "ground_truth/rust/3.png")  # fmt: skip
    report = ReadReport()
    masks = {record.image_id: record.mask for record in records(root, report=report) if record.mask}
    assert masks == {"test/rust/2.png": root / "ground_truth/rust/2.png"}
    assert report.count("unmatched_masks") == 4
    assert report.examples("unmatched_masks") == [
        "ground_truth/crack/0.png", "ground_truth/dent/1_gt.png", "ground_truth/dent/1_mask.png",
        "ground_truth/rust/3.png",
    ]  # fmt: skip
