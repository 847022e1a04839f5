"""`agssp predict`: pictures and JSON for every image that can be read, resumed where it stopped."""

import json
from pathlib import Path

import pytest
from datasets import Dataset
from detector_cases import CLASSES, make_images, save_detector
from faster_coco_eval import COCO
from PIL import Image

from agssp.cli import run
from agssp.data.readers import read_dataset
from agssp.data.schema import defect_names, features
from agssp.errors import InputError


@pytest.fixture
def model(tmp_path):
    return save_detector(tmp_path / "model")


def predict(model, images, output, *flags):
    run("predict", [model, images, "--output", str(output), "--threshold", "0.05", "--max-detections", "4", *flags])


@pytest.mark.slow
def test_pictures_json_and_page(model, tmp_path, capsys):
    images = make_images(tmp_path / "images", labelled=False)
    (tmp_path / "images" / "plate" / "empty.png").touch()
    predict(model, images, tmp_path / "out")

    names = [f"plate/{index}.png" for index in range(5)]
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    assert sorted(image["file_name"] for image in coco.imgs.values()) == names
    assert {number: category["name"] for number, category in coco.cats.items()} == dict(enumerate(CLASSES, 1))
    assert all(CLASSES[found["category_id"] - 1] == found["category"] for found in coco.anns.values())
    assert {annotation["category"] for annotation in coco.anns.values()} <= set(CLASSES)
    for image in coco.imgs.values():
        found = coco.imgToAnns[image["id"]]
        assert 0 < len(found) <= 4
        for annotation in found:
            left, top, width, height = annotation["bbox"]
            assert left >= 0 <= top
            assert left + width <= image["width"] + 0.02
            assert top + height <= image["height"] + 0.02
            assert 0.05 < annotation["score"] <= 1
        with Image.open(tmp_path / "out" / "pictures" / f"{image['file_name']}.jpg") as picture:
            assert picture.size == (image["width"] * 6, image["height"] * 6)
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [line["image_id"] for line in skipped] == ["plate/empty.png"]
    assert "0 bytes" in skipped[0]["reason"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The clearest finds" in page
    assert "plate/empty.png" in page
    printed = capsys.readouterr().out
    assert "5 images" in printed
    assert "1 skipped" in printed
    assert "next" in printed


@pytest.mark.slow
def test_an_interrupted_run_ends_like_an_undisturbed_one(model, tmp_path):
    images = make_images(tmp_path / "images", labelled=False)
    predict(model, images, tmp_path / "whole")
    predict(model, images, tmp_path / "halves")
    journal = tmp_path / "halves" / "predictions.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:30])
    kept = (tmp_path / "halves" / "pictures" / "plate" / "0.png.jpg").stat().st_mtime_ns
    predict(model, images, tmp_path / "halves")
    for name in ("predictions.json", "predictions.jsonl"):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "halves" / "pictures" / "plate" / "0.png.jpg").stat().st_mtime_ns == kept


def test_one_file_and_no_pictures(model, tmp_path):
    images = make_images(tmp_path / "images")
    predict(model, f"{images}/plate/2.png", tmp_path / "out", "--no-pictures")
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["2.png"]
    assert not (tmp_path / "out" / "pictures").exists()


def test_predictions_are_read_as_labels_of_the_same_classes(model, tmp_path):
    images = make_images(tmp_path / "images", labelled=False)
    predict(model, images, tmp_path / "out", "--no_pictures")
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    labels = Path(images) / "found.json"
    labels.write_bytes((tmp_path / "out/predictions.json").read_bytes())
    back = read_dataset(labels)
    assert defect_names(back) == list(CLASSES)
    # What was found twice on one place is one label.
    assert {row["image_id"]: set(row["objects"]["category"]) for row in back} == {
        line["image_id"]: set(line["labels"]) for line in lines
    }


@pytest.mark.slow
def test_two_images_of_one_picture_are_refused_by_name(model, tmp_path, capsys):
    content = {"bytes": Path(make_images(tmp_path / "images"), "plate/0.png").read_bytes(), "path": None}
    rows = [
        {"image": content, "image_id": name, "category": 0, "is_normal": None}
        for name in ("a.png", "b.png", "../a.png")
    ]
    Dataset.from_list(rows, features=features(["plate"])).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(SystemExit, match=r"^2$"):
        predict(model, str(tmp_path / "rows.parquet"), tmp_path / "out")
    assert "images 'a.png' and '../a.png' would share the picture" in capsys.readouterr().err
    predict(model, str(tmp_path / "rows.parquet"), tmp_path / "json", "--no_pictures")


@pytest.mark.slow
def test_further_pages_are_counted_at_the_end(model, tmp_path, capsys):
    images = Path(make_images(tmp_path / "images", labelled=False))
    page = Image.new("L", (20, 20))
    for name in ("a.tif", "b.tif"):
        page.save(images / "plate" / name, save_all=True, append_images=[page])
    predict(model, str(images), tmp_path / "out", "--no_pictures")
    assert "2 image files hold several pages, of which the first alone is read" in capsys.readouterr().out
    kept = json.loads((tmp_path / "out/reading.json").read_text())
    assert kept["image_notes"] == {"pages": {"count": 2, "examples": ["plate/a.tif", "plate/b.tif"]}}
    # Nothing is decoded anew, and what was noticed stays.
    predict(model, str(images), tmp_path / "out", "--no_pictures")
    assert json.loads((tmp_path / "out/reading.json").read_text()) == kept


def test_nothing_found_is_a_result(model, tmp_path, capsys):
    images = make_images(tmp_path / "images")
    run("predict", [model, images, "--output", str(tmp_path / "out"), "--threshold", "1"])
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["annotations"] == []
    assert "0 defects in 0 of them, 5 without" in capsys.readouterr().out


def test_next_step_measures_the_same_model_at_the_same_size():
    from agssp.commands.predict import PredictArguments, next_step

    arguments = PredictArguments(model="my model", images="i", output="o", image_size=96)
    line = "agssp evaluate 'my model' --dataset LABELLED_IMAGES --image-size 96 "
    assert next_step(arguments, {0: "pit"}) == f"{line}--output evaluation"
    assert next_step(arguments, {0: "defect"}) == f"{line}--class-agnostic --output evaluation"


def test_names_never_leave_the_folder(tmp_path):
    from agssp.commands.predict import _picture_path

    for image_id in ("../../a.png", "/etc/a.png", "..\\a.png"):
        assert (tmp_path / "pictures").resolve() in _picture_path(tmp_path, image_id).resolve().parents


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--threshold", "2"], "--threshold 2.0"), (["--batch-size", "0"], "--batch-size 0")],
)
def test_flags_out_of_range(model, tmp_path, capsys, flags, words):
    with pytest.raises(SystemExit, match=r"^2$"):
        predict(model, make_images(tmp_path / "images"), tmp_path / "out", *flags)
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_other_settings_and_foreign_content_are_refused(model, tmp_path, capsys):
    images = make_images(tmp_path / "images")
    predict(model, images, tmp_path / "out")
    with pytest.raises(SystemExit, match=r"^2$"):
        predict(model, images, tmp_path / "out", "--image-size", "96")
    assert "image_size: there 64, now 96" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"^2$"):
        predict(model, images, tmp_path / "images")
    assert "metadata.jsonl" in capsys.readouterr().err


def test_several_processes_are_refused(monkeypatch):
    from agssp.commands.predict import PredictArguments, main

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        main(PredictArguments(model="m", images="i", output="o"))
