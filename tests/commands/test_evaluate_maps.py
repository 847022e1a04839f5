"""`agssp evaluate-maps`: every number is a plain comparison of the resized maps with the masks."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score, roc_auc_score

from agssp.cli import run
from agssp.commands.evaluate_maps import EvaluateMapsArguments, main
from agssp.data.synthetic import make_surfaces
from agssp.maps.store import MapStore

CATEGORIES = ["plate", "strip"]
GRID = 7


def write_store(root, rows, maps, *, categories=CATEGORIES, teacher="timm:test", shards=2, skipped=()):
    """A store whose image scores are the maps' maxima."""
    manifest = {"categories": categories, "grid_size": maps.shape[-1], "teacher": teacher}
    store = MapStore.create(root / "maps", manifest)
    full = [
        row | {"is_normal": None, "anomaly_score": float(each.max()), "map_max": float(each.max())}
        for row, each in zip(rows, maps, strict=True)
    ]
    for shard, part in enumerate(np.array_split(np.arange(len(rows)), shards)):
        some = list(skipped) if shard == 0 else []
        store.write_shard(store.shard_path(shard, shards), [full[i] for i in part], maps[part], some)
    return store


def write_images(root, count=12, masks=True, **facts):
    """Images of two categories and several sizes; every third is sound. Rows for the store, and the masks."""
    generator = np.random.default_rng(0)
    rows, truth, lines = [], [], []
    (root / "images").mkdir(parents=True)
    for index in range(count):
        width, height = 40 + 3 * index, 70 - 2 * index
        name = f"{index:02d}.png"
        Image.new("RGB", (width, height), (90 + index,) * 3).save(root / "images" / name)
        mask = np.zeros((height, width), bool)
        x, y, w, h = (int(value) for value in generator.integers(6, 20, 4))
        if index % 3:
            mask[y : y + h, x : x + w] = True
        category = index % 2
        line = {"file_name": name, "category": CATEGORIES[category], **facts}
        if masks:
            (root / "images" / "masks").mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / "images" / "masks" / name)
            line["mask_file_name"] = f"masks/{name}"
        lines.append(line)
        rows.append({"image_id": name, "category": category, "width": width, "height": height})
        truth.append(mask)
    (root / "images/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return rows, truth


def make_maps(truth, size=GRID):
    """Maps that see the defects dimly, the second category's on another level."""
    generator = np.random.default_rng(1)
    seen = [cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) for mask in truth]
    maps = [0.3 * each + 0.1 * generator.random((size, size)) + 0.2 * (i % 2) for i, each in enumerate(seen)]
    return np.array(maps, np.float16)


def evaluate(root, dataset="images", **changes):
    """The numbers alone, which no file is needed for."""
    return main(EvaluateMapsArguments(str(root / "maps"), str(root / dataset), **changes)).numbers


def evaluate_to_files(root, *flags, dataset="images"):
    """What the command writes as metrics.json and as its page."""
    words = [str(root / "maps"), "--dataset", str(root / dataset), "--output", str(root / "out"), *flags]
    run("evaluate-maps", words)
    return json.loads((root / "out/metrics.json").read_text()), (root / "out/report.html").read_text()


def stopped(root, capsys, *flags, dataset="images"):
    with pytest.raises(SystemExit, match=r"^2$"):
        evaluate_to_files(root, *flags, dataset=dataset)
    return capsys.readouterr().err


@pytest.fixture
def case(tmp_path):
    rows, truth = write_images(tmp_path)
    maps = make_maps(truth)
    write_store(tmp_path, rows, maps)
    resized = [
        cv2.resize(each.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        for each, mask in zip(maps, truth, strict=True)
    ]
    return tmp_path, rows, truth, maps, resized


def test_store_without_shards(tmp_path, capsys):
    write_images(tmp_path)
    MapStore.create(tmp_path / "maps", {"categories": CATEGORIES, "grid_size": GRID, "teacher": "timm:test"})
    assert "has no finished shard" in stopped(tmp_path, capsys)


def test_nothing_known_of_any_image(tmp_path, capsys):
    rows, truth = write_images(tmp_path, masks=False)
    write_store(tmp_path, rows, make_maps(truth))
    message = stopped(tmp_path, capsys)
    assert "images: nothing tells which images are defective; expected masks" in message
    assert "`is_normal`" in message
    # Nothing was measured, so other flags may use the same folder.
    assert "nothing tells" in stopped(tmp_path, capsys, "--deltas", "0.1")


def test_images_of_another_folder(case, capsys):
    root, *_ = case
    write_images(root / "other")
    other = root / "other/images"
    (other / "00.png").rename(other / "a.png")
    (other / "metadata.jsonl").write_text('{"file_name": "a.png", "is_normal": true}')
    message = stopped(root, capsys, dataset="other/images")
    assert "has no map of any of its 1 images, which are named like '00.png', and these like 'a.png'" in message


def test_auroc_equals_scikit_learn(case):
    root, rows, truth, maps, resized = case
    metrics = evaluate(root)
    for name, category in ((None, None), ("plate", 0), ("strip", 1)):
        own = [i for i, row in enumerate(rows) if category in (None, row["category"])]
        part = metrics if name is None else metrics["categories"][name]
        defective = [truth[i].any() for i in own]
        assert part["image_auroc"] == pytest.approx(roc_auc_score(defective, [maps[i].max() for i in own]))
        pixels = np.concatenate([truth[i].ravel() for i in own]), np.concatenate([resized[i].ravel() for i in own])
        # Pixels are counted by their float16 value.
        assert part["pixel_auroc"] == pytest.approx(roc_auc_score(*pixels), abs=1e-4)
        assert 0.5 < part["pixel_auroc"] < 1
        assert (part["images"], part["defective"]) == (len(own), sum(defective))
        assert (part["normal"], part["with_masks"]) == (len(own) - sum(defective), len(own))
    assert (metrics["masks"], metrics["skipped"], metrics["without_map"]) == ("masks", [], [])


def brute_force(case, cut):
    """Mean and pooled IoU of the maps above `cut(category)`, one image after another."""
    _, rows, truth, _, resized = case
    above = [each > np.float32(cut(row["category"])) for row, each in zip(rows, resized, strict=True)]
    each = [jaccard_score(m.ravel(), a.ravel(), zero_division=0) for m, a in zip(truth, above, strict=True) if m.any()]
    together = [np.concatenate([mask.ravel() for mask in masks]) for masks in (truth, above)]
    return np.mean(each), jaccard_score(*together, zero_division=0)


def test_iou_at_every_threshold_equals_brute_force(case):
    metrics = evaluate(case[0], thresholds=[0.35, 0.2, 0.275, 0.2])
    assert metrics["thresholds"] == [0.2, 0.275, 0.35]
    expected = [brute_force(case, lambda category, value=value: value) for value in metrics["thresholds"]]
    for index, key in enumerate(("mean_iou", "pooled_iou")):
        values = [pair[index] for pair in expected]
        assert metrics[key]["by_threshold"] == pytest.approx(values)
        assert len(set(values)) == 3
        assert metrics[key]["best_threshold_iou"] == pytest.approx(max(values))
        assert metrics[key]["best_threshold"] == metrics["thresholds"][int(np.argmax(values))]


@pytest.mark.parametrize(("rule", "default"), [("paper", 0.1), ("relative", 0.2), ("robust", 3.0)])
def test_iou_at_every_delta_equals_brute_force(case, rule, default):
    _, rows, _, maps, _ = case

    def threshold(category, delta):
        own = np.array([each for row, each in zip(rows, maps, strict=True) if row["category"] == category], np.float64)
        maxima = own.max((1, 2))
        if rule == "paper":
            return maxima.mean() - delta
        if rule == "relative":
            return maxima.mean() - delta * (maxima.mean() - np.median(np.median(own.reshape(len(own), -1), 1)))
        return np.median(maxima) + delta * np.median(np.abs(maxima - np.median(maxima)))

    metrics = evaluate(case[0], rule=rule, deltas=[0.3, -0.05, 0.15])
    assert (metrics["rule"], metrics["delta"], metrics["deltas"]) == (rule, default, [-0.05, 0.15, 0.3])
    for index, key in enumerate(("mean_iou", "pooled_iou")):
        at = [
            brute_force(case, lambda category, d=d: threshold(category, d))[index] for d in [default, -0.05, 0.15, 0.3]
        ]
        assert metrics[key]["default"] == pytest.approx(at[0])
        assert metrics[key]["by_delta"] == pytest.approx(at[1:])
        assert metrics[key]["best_delta_iou"] == pytest.approx(max(at[1:]))
    assert metrics["categories"]["strip"]["threshold"] == pytest.approx(threshold(1, default))


@pytest.mark.parametrize(("teacher", "rule", "delta"), [("ViT-B-16", "paper", 0.1), ("timm:x", "relative", 0.2)])
def test_the_rule_is_that_of_pseudo_boxes(tmp_path, teacher, rule, delta):
    rows, truth = write_images(tmp_path)
    write_store(tmp_path, rows, make_maps(truth), teacher=teacher)
    metrics = evaluate(tmp_path)
    assert (metrics["rule"], metrics["delta"]) == (rule, delta)
    assert delta in metrics["deltas"]
    place = metrics["deltas"].index(delta)
    assert metrics["mean_iou"]["by_delta"][place] == metrics["mean_iou"]["default"]
    assert len(metrics["thresholds"]) == 40


def test_perfect_maps(tmp_path):
    rows, _ = write_images(tmp_path, count=6)
    maps = np.zeros((6, GRID, GRID), np.float16)
    maps[1::3, 2:4, 3:5] = maps[2::3, 4:6, 1:3] = 1
    for row, each in zip(rows, maps, strict=True):
        above = cv2.resize(each.astype(np.float32), (row["width"], row["height"])) > 0.5
        Image.fromarray(above.astype(np.uint8) * 255).save(tmp_path / "images/masks" / row["image_id"])
    write_store(tmp_path, rows, maps)
    metrics = evaluate(tmp_path, thresholds=[0.5])
    assert metrics["mean_iou"]["by_threshold"] == metrics["pooled_iou"]["by_threshold"] == [1]
    assert (metrics["image_auroc"], metrics["pixel_auroc"]) == (1, pytest.approx(1, abs=1e-6))


def test_statistics_are_of_the_whole_store(case):
    """Maps of images without label count in mu_c, as they do for pseudo boxes."""
    root, *_ = case
    whole = evaluate(root)["categories"]
    lines = (root / "images/metadata.jsonl").read_text().splitlines()
    (root / "images/metadata.jsonl").write_text("\n".join(lines[:4]))
    part = evaluate(root)
    assert (part["images"], part["maps_without_image"]) == (4, 8)
    for name in CATEGORIES:
        assert part["categories"][name]["threshold"] == whole[name]["threshold"]


def test_category_without_labelled_images_has_no_numbers(case):
    root, *_ = case
    lines = (root / "images/metadata.jsonl").read_text().splitlines()
    (root / "images/metadata.jsonl").write_text("\n".join(lines[::2]))
    strip = evaluate(root)["categories"]["strip"]
    assert (strip["images"], strip["image_auroc"], strip["pixel_auroc"]) == (0, None, None)
    assert set(strip["mean_iou"]["by_delta"]) == {None}
    assert strip["pooled_iou"]["best_threshold"] is None


def test_masks_of_class_numbers_with_a_border_that_is_ignored(case, caplog):
    root, rows, truth, _, resized = case
    expected = [[], []]
    for row, mask, seen in zip(rows, truth, resized, strict=True):
        border = (cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~mask
        numbers = np.where(border, 255, np.where(mask, 1 + row["category"] * 7, 0)).astype(np.uint8)
        Image.fromarray(numbers).save(root / "images/masks" / row["image_id"])
        expected[0].append(mask[~border])
        expected[1].append(seen.astype(np.float16)[~border])
    metrics = evaluate(root)
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(*map(np.concatenate, expected)), abs=1e-9)
    assert (metrics["normal"], metrics["defective"]) == (4, 8)
    assert metrics["mask_reading"] == "grey values: class numbers, each but 0 a defect, 255 beside them ignored"
    warnings = [record.getMessage() for record in caplog.records if "masks are read as" in record.getMessage()]
    assert len(warnings) == 1
    level = metrics["thresholds"][20]
    overlaps = [
        jaccard_score(mask, seen > np.float32(level)) for mask, seen in zip(*expected, strict=True) if any(mask)
    ]
    assert metrics["mean_iou"]["by_threshold"][20] == pytest.approx(np.mean(overlaps), abs=2e-3)


def test_a_mask_that_contradicts_the_others_is_left_out_by_name(case, monkeypatch):
    root, *_ = case
    monkeypatch.setattr("agssp.data.mask_reading.DECIDING", 5)
    Image.fromarray(np.ones((58, 58), np.uint8)).save(root / "images/masks/06.png")
    (left,) = evaluate(root)["skipped"]
    assert left["image_id"] == "06.png"
    assert left["reason"].startswith("mask of 06.png: holds 1 beside 0 and 255, unlike the first 5 masks")


@pytest.mark.slow
def test_boxes_stand_in_for_masks(tmp_path, capsys):
    rows, truth = write_images(tmp_path, masks=False)
    lines = [json.loads(line) for line in (tmp_path / "images/metadata.jsonl").read_text().splitlines()]
    for line, mask in zip(lines, truth, strict=True):
        boxes = [list(cv2.boundingRect(mask.astype(np.uint8)))] if mask.any() else []
        line["objects"] = {"bbox": boxes, "category": ["pit"] * len(boxes)}
    (tmp_path / "images/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    maps = make_maps(truth)
    write_store(tmp_path, rows, maps)
    found, page = evaluate_to_files(tmp_path)
    printed = capsys.readouterr().out
    assert "boxes stand in for masks" in printed
    # The delta that fills boxes best is no advice.
    assert found["mean_iou"]["best_delta"] != 0.2
    assert "--threshold-rule relative --delta 0.2 " in printed
    assert "Boxes stand in for masks" in page
    # These masks are rectangles, so nothing else differs.
    write_images(tmp_path / "masked")
    expected = evaluate(tmp_path, dataset="masked/images")
    assert (found.pop("masks"), expected.pop("masks")) == ("boxes", "masks")
    assert found.pop("dataset") != expected.pop("dataset")
    assert (found.pop("reading")["with_boxes"], expected.pop("reading")["with_boxes"]) == (sum(map(np.any, truth)), 0)
    assert found == expected


@pytest.mark.slow
def test_images_with_crowd_regions_are_defective_and_their_pixels_unknown(tmp_path, capsys):
    rows, truth = write_images(tmp_path, masks=False)
    table = tmp_path / "images/metadata.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    for index, (line, mask) in enumerate(zip(lines, truth, strict=True)):
        boxes = [list(cv2.boundingRect(mask.astype(np.uint8)))] if mask.any() else []
        # Of the eight images with a box every second has a region in its place.
        line["objects"] = {"bbox": boxes, "category": ["pit"] * len(boxes), "iscrowd": [index % 2] * len(boxes)}
    table.write_text("\n".join(map(json.dumps, lines)))
    write_store(tmp_path, rows, make_maps(truth))
    found, page = evaluate_to_files(tmp_path)
    assert (found["images"], found["defective"], found["normal"]) == (12, 8, 4)
    assert (found["masks"], found["with_masks"], found["with_crowds"]) == ("boxes", 8, 4)
    assert "4 images have crowd regions (iscrowd 1), and no pixels that are known" in capsys.readouterr().out
    assert "4 images have crowd regions; which of their pixels are defective is not known" in page
    objects = evaluate(tmp_path, crowds="objects")
    assert (objects["with_masks"], objects["with_crowds"]) == (12, 0)
    assert objects["image_auroc"] == found["image_auroc"]
    # Of regions alone no pixel is known, but still which images are defective.
    for line in lines:
        line["objects"]["iscrowd"] = [1] * len(line["objects"]["bbox"])
    table.write_text("\n".join(map(json.dumps, lines)))
    alone = evaluate(tmp_path, crowds="ignore")
    assert (alone["masks"], alone["pixel_auroc"], alone["with_crowds"]) == (None, None, 8)
    assert alone["image_auroc"] == found["image_auroc"]


@pytest.mark.slow
def test_only_is_normal_known(tmp_path, capsys):
    rows, truth = write_images(tmp_path, masks=False)
    lines = [json.loads(line) for line in (tmp_path / "images/metadata.jsonl").read_text().splitlines()]
    for line, mask in zip(lines[2:], truth[2:], strict=True):
        line["is_normal"] = not mask.any()
    (tmp_path / "images/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    maps = make_maps(truth)
    write_store(tmp_path, rows, maps)
    metrics, page = evaluate_to_files(tmp_path)
    auroc = roc_auc_score([mask.any() for mask in truth[2:]], maps[2:].max((1, 2)))
    assert metrics["image_auroc"] == pytest.approx(auroc)
    assert (metrics["images"], metrics["normal"] + metrics["defective"], metrics["masks"]) == (12, 10, None)
    assert (metrics["pixel_auroc"], metrics["mean_iou"]["default"], metrics["with_masks"]) == (None, None, 0)
    assert set(metrics["pooled_iou"]["by_threshold"]) == {None}
    assert "of 2 nothing is known" in page
    assert "Thresholds" not in page


def test_only_defective_images(tmp_path, capsys):
    rows, truth = write_images(tmp_path, masks=False, is_normal=False)
    write_store(tmp_path, rows, make_maps(truth))
    assert evaluate(tmp_path)["image_auroc"] is None
    assert "known are 0 normal and 12 defective ones" in capsys.readouterr().out


@pytest.mark.slow
def test_images_that_cannot_be_measured_are_counted_and_named(tmp_path, capsys):
    rows, truth = write_images(tmp_path)
    images = tmp_path / "images"
    Image.new("L", (9, 9)).save(images / "masks/04.png")
    (images / "masks/05.png").write_bytes(b"broken")
    maps = make_maps(truth)
    write_store(tmp_path, rows[:10], maps[:10], skipped=[{"image_id": "10.png", "reason": "0 bytes"}])
    metrics, page = evaluate_to_files(tmp_path)
    assert metrics["images"] == 8
    assert [entry["image_id"] for entry in metrics["skipped"]] == ["04.png", "05.png"]
    assert metrics["skipped"][0]["reason"] == "its mask is 9 x 9 px, the image 52 x 62"
    assert metrics["without_map"] == [
        {"image_id": "10.png", "reason": "skipped by anomaly-maps: 0 bytes"},
        {"image_id": "11.png", "reason": "not in the map store"},
    ]
    printed = capsys.readouterr().out
    assert "2 skipped:\n  04.png: its mask" in printed
    assert "2 images without a map:\n  10.png: skipped" in printed
    assert "4 images count in no number" in page
    # They leave no trace in the numbers.
    lines = (images / "metadata.jsonl").read_text().splitlines()
    (images / "metadata.jsonl").write_text("\n".join(lines[:4] + lines[6:10]))
    clean = evaluate(tmp_path)
    for key in ("image_auroc", "pixel_auroc", "mean_iou", "pooled_iou"):
        assert clean[key] == metrics[key]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rule", "fixed"], "--rule 'fixed': expected auto, paper, relative, robust"),
        (["--deltas", "nan"], "--deltas: expected one or more finite numbers, got [nan]"),
        (["--thresholds", "0.1", "inf"], "--thresholds: expected one or more finite numbers"),
    ],
)
def test_flags_that_make_no_sense(case, capsys, flags, words):
    assert words in stopped(case[0], capsys, *flags)


@pytest.mark.slow
def test_results_of_other_settings_stay(case, capsys):
    root = case[0]
    first = evaluate_to_files(root)
    assert "holds results of other settings" in stopped(root, capsys, "--deltas", "0.1")
    assert evaluate_to_files(root)[0] == first[0] == evaluate(root)


def test_constant_maps(tmp_path):
    rows, _ = write_images(tmp_path)
    write_store(tmp_path, rows, np.full((12, GRID, GRID), 0.25, np.float16))
    metrics = evaluate(tmp_path)
    assert (metrics["image_auroc"], metrics["pixel_auroc"]) == (0.5, 0.5)
    assert metrics["thresholds"] == [0.25]
    assert metrics["mean_iou"]["by_threshold"] == [0]


@pytest.mark.slow
def test_synthetic_surfaces_from_masks_to_page(tmp_path, capsys):
    make_surfaces(tmp_path, unlabelled=0, labelled=9, normal=0, size=64)
    labels = [json.loads(line) for line in (tmp_path / "labelled/metadata.jsonl").read_text().splitlines()]
    names = sorted({line["category"] for line in labels})
    masks = [np.asarray(Image.open(tmp_path / "labelled" / line["mask_file_name"])) > 0 for line in labels]
    rows = [
        {"image_id": line["file_name"], "category": names.index(line["category"]), "width": 64, "height": 64}
        for line in labels
    ]
    write_store(tmp_path, rows, make_maps(masks, size=16), categories=names)
    metrics, page = evaluate_to_files(tmp_path, dataset="labelled")
    assert list(metrics["categories"]) == names
    assert metrics["pixel_auroc"] > 0.7
    assert metrics["mean_iou"]["default"] > 0.2
    for words in ("Fixed thresholds, a category at a time", "above the threshold", "cast_iron", "false alarm"):
        assert words in page
    printed = capsys.readouterr().out
    best = metrics["mean_iou"]["best_delta"]
    assert f"--threshold-rule relative --delta {best:g} --output boxes --report" in printed
    assert "no image AUROC" in printed
