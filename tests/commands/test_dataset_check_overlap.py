"""`agssp dataset check-overlap`: the table, the ids to leave out, and the page, from two folders that share images."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from agssp.cli import main as agssp
from agssp.commands.dataset_check_overlap import COLUMNS, MOST_PAIRS, CheckOverlapArguments, main
from agssp.data.synthetic import add_defects, cast_iron
from agssp.errors import InputError


def surface(index):
    generator = np.random.default_rng(index)
    return Image.fromarray(add_defects(cast_iron(160, generator), generator)[0])


@pytest.fixture
def root(tmp_path):
    """Ten images to pretrain on and six to measure on, of which two are the same and one is the same turned."""
    for folder, numbers in (("corpus/plate", range(10)), ("validation", range(100, 106))):
        (tmp_path / folder).mkdir(parents=True)
        for number in numbers:
            surface(number).save(tmp_path / folder / f"{number}.png")
    shutil.copy(tmp_path / "corpus/plate/3.png", tmp_path / "validation/copy.png")
    surface(5).save(tmp_path / "validation/lossless.bmp")
    surface(8).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "validation/turned.jpg", quality=80)
    return tmp_path


def run(root, **changes):
    values = {"corpus": str(root / "corpus"), "validation": str(root / "validation"), "output": str(root / "overlap")}
    main(CheckOverlapArguments(**(values | changes)))
    return json.loads((root / "overlap/overlap.json").read_text())


def test_no_images(root):
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        run(root, validation=str(root / "empty"))
    assert not (root / "overlap").exists()


def test_two_data_sets_that_share_nothing(root, capsys):
    for name in ("copy.png", "lossless.bmp", "turned.jpg"):
        (root / "validation" / name).unlink()
    found = run(root)
    assert (found["exact"], found["near"], found["pairs"]) == (0, 0, [])
    assert {name: report["images"] for name, report in found["reading"].items()} == {"corpus": 10, "validation": 6}
    assert (root / "overlap/leave_out.txt").read_text() == ""
    assert "nothing has to be left out" in capsys.readouterr().out


def test_shared_images_are_listed_with_what_was_done(root, capsys):
    found = run(root)
    pairs = [
        (pair["corpus_id"], pair["validation_id"], pair["kind"], pair["transformation"]) for pair in found["pairs"]
    ]
    assert pairs == [
        ("plate/3.png", "copy.png", "exact", "none"),
        ("plate/5.png", "lossless.bmp", "exact", "none"),
        ("plate/8.png", "turned.jpg", "near", "rotated by 270"),
    ]
    assert (found["corpus_images"], found["validation_images"], found["corpus_images_to_leave_out"]) == (10, 9, 3)
    with (root / "overlap/overlap.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    assert [float(row["similarity"]) for row in rows] == [pair["similarity"] for pair in found["pairs"]]
    assert (root / "overlap/leave_out.txt").read_text().split() == ["plate/3.png", "plate/5.png", "plate/8.png"]
    page = (root / "overlap/report.html").read_text()
    assert page.count("data:image/jpeg") >= 6
    assert "plate/8.png" in page
    assert "leave_out.txt" in capsys.readouterr().out


def test_bad_and_empty_pictures_are_counted_and_the_rest_compared(root, capsys):
    (root / "corpus/plate/broken.png").write_bytes(b"no image")
    Image.new("RGB", (40, 40), "grey").save(root / "validation/grey.png")
    found = run(root)
    assert (found["skipped"], found["without_structure"], len(found["pairs"])) == (1, 1, 3)
    (line,) = (root / "overlap/skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["image_id"] == "plate/broken.png"
    assert json.loads(line)["dataset"] == "corpus"
    assert "1 skipped" in capsys.readouterr().out


def test_many_blank_frames_are_a_group_and_not_every_pair(root, capsys):
    for folder, count in (("corpus/plate", 50), ("validation", 40)):
        for number in range(count):
            Image.new("RGB", (40, 40), "grey").save(root / folder / f"blank{number:02d}.png")
    found = run(root)
    assert (found["exact"], found["near"], found["pairs_left_out"]) == (2 + 50 * 40, 1, 50 * 40 - MOST_PAIRS)
    assert len(found["pairs"]) == 3 + MOST_PAIRS
    (group,) = found["groups"]
    assert (group["pairs"], group["listed"]) == (50 * 40, MOST_PAIRS)
    assert group["corpus_ids"] == [f"plate/blank{number:02d}.png" for number in range(50)]
    assert group["validation_ids"] == [f"blank{number:02d}.png" for number in range(40)]
    left_out = (root / "overlap/leave_out.txt").read_text().split()
    assert sorted(left_out) == sorted([*group["corpus_ids"], "plate/3.png", "plate/5.png", "plate/8.png"])
    assert found["corpus_images_to_leave_out"] == len(left_out) == 53
    assert f"{50 * 40 - MOST_PAIRS} pairs of images that have many copies are not listed" in capsys.readouterr().out


def test_few_copies_are_all_listed(root):
    for number in range(3):
        shutil.copy(root / "corpus/plate/3.png", root / f"corpus/plate/again{number}.png")
        shutil.copy(root / "validation/turned.jpg", root / f"validation/turned{number}.jpg")
    found = run(root)
    pairs = {(pair["corpus_id"], pair["validation_id"]) for pair in found["pairs"]}
    corpus = [f"plate/{name}.png" for name in ("3", "again0", "again1", "again2")]
    turned = [f"turned{number}.jpg" for number in ("", 0, 1, 2)]
    expected = {*((name, "copy.png") for name in corpus), ("plate/5.png", "lossless.bmp")}
    assert pairs == expected | {("plate/8.png", name) for name in turned}
    assert (found["exact"], found["near"], found["pairs_left_out"], found["groups"]) == (5, 4, 0, [])


def test_threads_do_not_change_the_result_and_a_second_run_replaces_it(root):
    first = run(root, workers=1)
    assert run(root, workers=3) == first
    with pytest.raises(InputError, match="other settings"):
        run(root, threshold=0.9)


@pytest.mark.parametrize("change", [{"threshold": 0.0}, {"threshold": 1.5}, {"workers": -1}])
def test_numbers_that_make_no_sense(root, change):
    with pytest.raises(InputError, match=f"--{next(iter(change))}"):
        run(root, **change)


def test_the_command_line_takes_both_data_sets_as_words(root, capsys):
    agssp(["dataset", "check-overlap", str(root / "corpus"), str(root / "validation"), "--output", str(root / "new")])
    assert "2 exact and 1 near duplicates" in capsys.readouterr().out
    assert (root / "new/overlap.csv").is_file()
