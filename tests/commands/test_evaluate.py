"""`agssp evaluate` gives pycocotools' numbers, on one process and on two, and refuses classes it cannot compare."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detector_cases import CLASSES, detector, make_images, save_detector
from PIL import Image
from warm_python import torchrun

from agssp.cli import run
from agssp.evaluation.inference import detect


@pytest.fixture
def model(tmp_path):
    return save_detector(tmp_path / "model")


def evaluate(model, dataset, *flags):
    run("evaluate", [model, "--dataset", dataset, "--batch-size", "4", *flags])


def label_with_finds(images, crowds=False):
    """Replace the labels by some of the detector's own boxes, a little moved, so that precision is neither 0 nor 1.

    Every third may be a crowd region, which is larger and holds other finds.
    """
    from agssp.data.readers import read_dataset

    lines = []
    finds = detect(detector(), read_dataset(images), threshold=0.001, max_detections=60, multi_label=True)
    for number, result in enumerate(finds):
        boxes = result.boxes[number % 3 :: 7].copy()
        boxes[:, 2:] -= boxes[:, :2]
        boxes[:, 2:] *= np.linspace(1, 0.7, len(boxes))[:, None]
        iscrowd = np.arange(len(boxes)) % 3 == (2 if crowds else 3)
        boxes[iscrowd, 2:] *= 2
        kept = boxes[:, 2:].min(1) > 2
        names = [CLASSES[label] for label in result.labels[number % 3 :: 7][kept]]
        objects = {"bbox": boxes[kept].tolist(), "category": names, "iscrowd": iscrowd[kept].tolist()}
        lines.append(json.dumps({"file_name": result.image_id, "category": "plate", "objects": objects}))
    (Path(images) / "metadata.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.slow
def test_numbers_are_those_of_pycocotools(model, tmp_path, capsys, crowds):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from agssp.data.readers import read_dataset

    images = make_images(tmp_path / "images", count=9)
    label_with_finds(images, crowds)
    broken = tmp_path / "images" / "plate" / "3.png"
    Image.open(broken).save(broken, "JPEG")
    broken.write_bytes(broken.read_bytes()[:-500])
    table = Path(images) / "metadata.jsonl"
    labelled = table.read_text()
    Image.new("RGB", (64, 48)).save(table.with_name("unknown.png"))
    # That nobody has labelled an image does not make the finds on it wrong.
    table.write_text(f'{labelled}\n{{"file_name": "unknown.png", "category": "plate"}}')
    evaluate(model, images, "--output", str(tmp_path / "out"))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["images"], metrics["images_without_labels"]) == (8, 1)

    table.write_text(labelled)
    dataset = read_dataset(images)
    truth, found = [], []
    numbers = []
    for number, result in enumerate(detect(detector(), dataset, threshold=0.001, multi_label=True)):
        if result.error is not None:
            continue
        numbers.append(number)
        fields = (result.row["objects"][name] for name in ("category", "bbox", "iscrowd"))
        for label, box, crowd in zip(*fields, strict=True):
            entry = {"image_id": number, "category_id": label, "bbox": box, "area": box[2] * box[3]}
            truth.append({"id": len(truth) + 1, "iscrowd": int(crowd), **entry})
        for box, score, label in zip(result.boxes, result.scores, result.labels, strict=True):
            left, top, right, bottom = map(float, box)
            bbox = [left, top, right - left, bottom - top]
            found.append({"image_id": number, "category_id": int(label), "bbox": bbox, "score": float(score)})
    coco = COCO()
    names = dataset.features["objects"]["category"].feature.names
    mapping = [names.index(name) for name in CLASSES]
    for entry in found:
        entry["category_id"] = mapping[entry["category_id"]]
    coco.dataset = {
        "info": {},
        "images": [{"id": number} for number in numbers],
        "annotations": truth,
        "categories": [{"id": index, "name": name} for index, name in enumerate(names)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        reference = COCOeval(coco, coco.loadRes(found), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    assert metrics["map_50_95"] == pytest.approx(reference.stats[0], abs=1e-9)
    assert metrics["map_50"] == pytest.approx(reference.stats[1], abs=1e-9)
    assert 0 < metrics["map_50"] < 1
    assert metrics["images"] == 8
    assert (metrics["boxes"] + metrics["crowds"], metrics["crowds"] > 0) == (len(truth), crowds)
    assert metrics["crowds"] == sum(entry["iscrowd"] for entry in truth)
    assert [entry["image_id"] for entry in metrics["skipped"]] == ["plate/3.png"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The worst images" in page
    assert ("crowd regions" in page) == crowds
    assert "plate/3.png" in page
    assert (tmp_path / "out" / "precision_recall.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "1 of 9 images skipped: plate/3.png" in printed
    assert (f"{metrics['crowds']} crowd regions: what is found in them counts neither" in printed) == crowds
    assert "all classes" in printed


@pytest.mark.slow
def test_training_measures_crowd_regions_as_evaluation_does(model, tmp_path, capsys):
    from agssp.data.mosaic import DetectionTransform
    from agssp.data.readers import read_dataset
    from agssp.data.training_sets import DetectionImages, collate_detection
    from agssp.training.evaluators import detection_evaluator

    images = make_images(tmp_path / "images", count=4)
    label_with_finds(images, crowds=True)
    backbone = detector().config.backbone_config
    transform = DetectionTransform(64, backbone.image_mean, backbone.image_std)
    found = []
    for crowds in ("auto", "objects"):
        out = str(tmp_path / crowds)
        evaluate(model, images, "--crowds", crowds, "--output", out)
        metrics = json.loads((tmp_path / crowds / "metrics.json").read_text())
        rows = read_dataset(images, crowds=crowds, defect_types=list(CLASSES))
        data = DetectionImages(rows, None, transform, evaluation=True)
        measured = detection_evaluator(data, CLASSES, collate_detection, batch_size=4)(detector())
        assert measured == pytest.approx({name: metrics[name] for name in measured}, abs=1e-3)
        found.append(measured["map_50"])
    assert abs(found[0] - found[1]) > 0.02
    # What was measured otherwise is not mixed up with it.
    with pytest.raises(SystemExit, match=r"^2$"):
        evaluate(model, images, "--crowds", "ignore", "--output", out)
    assert "crowds: there 'objects', now 'ignore'" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(model, tmp_path):
    images = make_images(tmp_path / "images", count=7)
    label_with_finds(images)
    evaluate(model, images, "--output", str(tmp_path / "one"))
    flags = ["evaluate", model, "--dataset", images, "--batch-size", "4", "--output", str(tmp_path / "two")]
    torchrun("-m", "agssp", *flags)
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    one.pop("seconds"), two.pop("seconds")
    assert one == two


@pytest.mark.slow
def test_classes_without_boxes_that_the_model_lacks_are_left_out(model, tmp_path, capsys):
    images = make_images(tmp_path / "images")
    evaluate(model, images, "--output", str(tmp_path / "one"))
    rows = [json.loads(line) for line in (tmp_path / "images" / "metadata.jsonl").read_text().splitlines()]
    coco = {
        "images": [{"id": number, "file_name": row["file_name"]} for number, row in enumerate(rows)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(["dark", "light", "rust"])],
        "annotations": [
            {"image_id": number, "category_id": ["dark", "light"].index(name), "bbox": bbox}
            for number, row in enumerate(rows)
            for name, bbox in zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)
        ],
    }
    (tmp_path / "images" / "metadata.jsonl").unlink()
    (tmp_path / "images" / "test.json").write_text(json.dumps(coco))
    capsys.readouterr()
    evaluate(model, images, "--output", str(tmp_path / "two"))
    assert "left out, as they have no boxes and the model lacks them: rust" in capsys.readouterr().out
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert (one["map_50"], one["per_class"]) == (two["map_50"], two["per_class"])


def test_classes_that_differ_are_both_named(model, tmp_path, capsys):
    images = make_images(tmp_path / "images")
    metadata = tmp_path / "images" / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace('"dark"', '"rust"'))
    with pytest.raises(SystemExit, match=r"^2$"):
        evaluate(model, images)
    message = capsys.readouterr().err
    assert "does not know the classes rust" in message
    assert "the model has [light, dark]" in message
    assert "--class-agnostic" in message
    evaluate(model, images, "--class-agnostic")
    assert "defect" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch-size", "0"], "--batch-size 0: expected 1 or more"),
        (["--crowds", "object"], "--crowds 'object': expected auto, ignore or objects"),
        (["--max-detections", "0"], "--max-detections 0: expected 1 or more"),
        (["--iou-threshold", "2"], "--iou-threshold 2.0: expected a number from 0 to 1"),
        (["--threshold", "-1"], "--threshold -1.0: expected a number from 0 to 1"),
        (["--shown-threshold", "7"], "--shown-threshold 7.0: expected a number from 0 to 1"),
    ],
)
def test_flags_out_of_range(tmp_path, capsys, flags, words):
    with pytest.raises(SystemExit, match=r"^2$"):
        run("evaluate", [str(tmp_path / "model"), "--dataset", str(tmp_path), *flags])
    assert words in capsys.readouterr().err


def test_images_without_labels_are_refused(model, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        evaluate(model, make_images(tmp_path / "images", labelled=False))
    assert "no label was found for any of its 5 images" in capsys.readouterr().err


def test_classes_are_matched_by_name_not_by_number(model, tmp_path):
    from agssp.steps.evaluate import match_classes
    from agssp.steps.step import Asked

    arguments = Asked(model="m", dataset="d", class_agnostic=False)
    np.testing.assert_array_equal(match_classes({0: "light", 1: "dark"}, ["dark", "light"], arguments), [1, 0])
    # A class without labels counts in no average.
    np.testing.assert_array_equal(match_classes({0: "light", 1: "dark"}, ["dark"], arguments), [-1, 0])


def test_perfect_and_empty_finds_are_matched():
    from agssp.report.evaluation import match_boxes

    none, one = np.zeros((0, 4)), np.array([[0.0, 0, 10, 10]])
    target = one, np.array([0]), np.array([False])
    correct, ignored, found = match_boxes(none, np.zeros(0), np.zeros(0, int), *target)
    assert (correct.shape, ignored.shape, found.tolist()) == ((0,), (0,), [False])
    two = np.repeat(one, 2, 0)
    correct, ignored, found = match_boxes(two, np.array([0.4, 0.9]), np.array([0, 0]), *target)
    assert (correct.tolist(), ignored.tolist(), found.tolist()) == ([False, True], [False, False], [True])
    correct, ignored, found = match_boxes(one, np.array([0.9]), np.array([1]), *target)
    assert (correct.tolist(), ignored.tolist(), found.tolist()) == ([False], [False], [False])


def test_finds_in_a_crowd_region_are_neither_right_nor_wrong():
    from agssp.report.evaluation import Judged, match_boxes

    # An object in a region of its class, a region of class 1, and what was found: the object, twice beside it within
    # the region, half of a box outside, more than half outside, and in the region of another class.
    targets = np.array([[10.0, 10, 20, 20], [0, 0, 100, 50], [0, 60, 100, 90]]), np.array([0, 0, 1])
    crowds = np.array([False, True, True])
    boxes = np.array(
        [[10.0, 10, 20, 20], [10, 10, 20, 20], [60, 5, 70, 15], [0, 40, 10, 60], [0, 41, 10, 61], [0, 60, 9, 70]]
    )
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.25])
    correct, ignored, found = match_boxes(boxes, scores, np.zeros(6, int), *targets, crowds)
    assert correct.tolist() == [True, False, False, False, False, False]
    assert ignored.tolist() == [False, True, True, True, False, False]
    assert found.tolist() == [True, False, False]
    judged = Judged(0, "a", boxes, scores, np.zeros(6, int), correct, ignored, *targets, crowds, found)
    assert (judged.missed.sum(), judged.false.sum()) == (0, 2)
    assert judged.badness == pytest.approx(0.5 + 0.25)


def test_next_step_predicts_at_the_measured_size():
    from agssp.steps.evaluate import next_step
    from agssp.steps.step import Asked

    arguments = Asked(model="my model", image_size=96)
    assert next_step(arguments) == "agssp predict 'my model' IMAGES --image-size 96 --output found"


def test_torch_threads_are_left_alone(model, tmp_path):
    before = torch.get_num_threads()
    evaluate(model, make_images(tmp_path / "images"))
    assert torch.get_num_threads() == before
