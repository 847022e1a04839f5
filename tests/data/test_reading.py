"""What commands say of a data set that they read, and when labels that are missing or lost are an error."""

import json
import logging

import pytest
from PIL import Image

from agssp.data.reading import read_labelled, read_told, small_boxes, tell_small_boxes
from agssp.errors import InputError
from agssp.terminal import shown_on_terminal


@pytest.fixture(autouse=True)
def terminal():
    """As within a command, what is told is printed."""
    with shown_on_terminal():
        yield


def picture(path, size=(100, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path)


def write_rows(root, rows):
    """metadata.jsonl with an image for each row: name -> what is known of it."""
    for name in rows:
        picture(root / name)
    lines = [json.dumps({"file_name": name, **row}) for name, row in rows.items()]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return str(root)


def boxes(*bboxes, name="pit"):
    return {"objects": {"bbox": list(bboxes), "category": [name] * len(bboxes)}}


def test_no_images(tmp_path):
    with pytest.raises(InputError, match=r"--validation .*no images found"):
        read_told(str(tmp_path), "--validation")


def test_numbers_are_printed_and_logged(tmp_path, capsys, caplog):
    rows = {
        "a.png": boxes([1, 1, 5, 5], [20, 20, 9, 9]),
        "b.png": boxes([90, 1, 30, 5], name="scratch"),
        "c.png": {"is_normal": True},
        "d.png": {"is_normal": False},
        "e.png": {},
    }
    with caplog.at_level(logging.INFO, "agssp"):
        _, report = read_told(write_rows(tmp_path, rows))
    told = (
        "5 images, 2 with boxes, 1 said to be defective, without boxes, 1 known to be sound, 1 of which nothing is",
        "boxes by class: pit 2, scratch 1",
        "1 boxes reached beyond their image and were clipped",
    )
    out = capsys.readouterr().out
    for line in told:
        assert line in out
        assert line in caplog.text
    record = json.loads(json.dumps(report.as_json()))
    assert record["boxes"] == {"pit": 2, "scratch": 1}
    assert record["changes"]["clipped"]["count"] == 1
    assert record["changes"]["clipped"]["kind"] == "clipped"
    assert "metadata.jsonl:2 box 0" in record["changes"]["clipped"]["examples"][0]


def test_only_the_first_process_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    read_told(write_rows(tmp_path, {"a.png": {}}))
    assert capsys.readouterr().out == ""


def test_labels_are_an_error_where_none_is_known(tmp_path):
    source = write_rows(tmp_path, {"a.png": {}, "b.png": {}})
    with pytest.raises(InputError, match=r"--test .*: no label was found for any of its 2 images; expected COCO"):
        read_labelled(source, "--test", boxes_needed=False)


def test_sound_images_are_labels_where_no_box_is_needed(tmp_path):
    source = write_rows(tmp_path, {"a.png": {"is_normal": True}, "b.png": {}})
    dataset, _ = read_labelled(source, boxes_needed=False)
    assert dataset["image_id"][:] == ["a.png"]
    assert dataset[0]["objects"]["bbox"] == []
    with pytest.raises(InputError, match="no box is left on any of its 2 images"):
        read_labelled(source)


def test_a_folder_of_sound_images_is_labelled(tmp_path):
    picture(tmp_path / "line/good/1.png")
    dataset, _ = read_labelled(str(tmp_path / "line"), boxes_needed=False, defect_types=["pit"])
    assert dataset[0]["objects"] == {"bbox": [], "category": [], "score": [], "iscrowd": []}


def test_an_error_says_what_became_of_boxes_that_were_there(tmp_path):
    source = write_rows(tmp_path, {"a.png": boxes([200, 1, 5, 5])})
    with pytest.raises(InputError, match=r"1 boxes have no area inside their image and were dropped: .*box 0"):
        read_labelled(source)


def test_rows_of_which_nothing_is_known_are_left_out(tmp_path, capsys):
    dataset, report = read_labelled(write_rows(tmp_path, {"a.png": boxes([1, 1, 9, 9]), "b.png": {}}))
    assert dataset["image_id"][:] == ["a.png"]
    assert report.images == 2
    assert "1 of 2 images have no labels and are left out" in capsys.readouterr().out


def test_small_boxes_of_no_class():
    assert small_boxes({}, 640) == {}
    tell_small_boxes({}, 640, "none")


def test_small_boxes_are_counted_by_their_shorter_side_at_the_input_size():
    # At 100 px: 1, 2, 3, 5 and 20 px.
    counted = small_boxes({"pit": [0.01, 0.02, 0.03, 0.05, 0.2], "dent": [0.5]}, 100)
    assert counted == {
        "pit": {"boxes": 5, "under 2 px": 2, "under 4 px": 3, "under 8 px": 4},
        "dent": {"boxes": 1, "under 2 px": 0, "under 4 px": 0, "under 8 px": 0},
    }


def test_boxes_too_small_for_the_input_are_told_once(tmp_path, capsys, caplog):
    # 100 px wide, seen at 32: the boxes are 1.28 and 6.4 px.
    source = write_rows(tmp_path, {"a.png": boxes([1, 1, 4, 30], [40, 1, 20, 20])})
    read_labelled(source, image_size=32)
    out = capsys.readouterr().out
    assert "small boxes at --image-size 32" in out
    assert "pit: of 2 boxes 1 under 2 px, 1 under 4 px, 2 under 8 px" in out
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_all_boxes_too_small_for_the_input_are_an_error(tmp_path):
    source = write_rows(tmp_path, {"a.png": boxes([1, 1, 4, 30])})
    with pytest.raises(InputError, match=r"--image-size 32: all 1 boxes .* one alone needs 51 px or more"):
        read_labelled(source, image_size=32)
    # 4 px of 100 are 2.04 px at 51.
    assert len(read_labelled(source, image_size=51)[0]) == 1


def test_an_error_says_what_to_do_with_masks(tmp_path):
    for name in ("Part0.png", "Part0_label.png"):
        Image.new("L", (20, 20)).save(tmp_path / name)
    with pytest.raises(InputError, match=r"1 images; 1 images have masks, which are no boxes: write boxes around"):
        read_labelled(str(tmp_path))
