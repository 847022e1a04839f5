"""`agssp pseudo-boxes`: every box is Eq. 9 to 11 of the whole store, in Parquet, COCO and YOLO alike."""

import json
import re
import statistics

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from map_cases import contents
from PIL import Image

from agssp.boxes.extraction import pseudo_boxes
from agssp.boxes.store import read_boxes
from agssp.commands.pseudo_boxes import PseudoBoxesArguments, main
from agssp.data.readers import read_dataset
from agssp.errors import InputError
from agssp.maps.store import MapStore

CATEGORIES = ["plate", "strip"]
SHARDS = (5, 3, 0, 8)  # of the third no image could be read
NO_BOXES = {"bbox": [], "category": [], "score": [], "iscrowd": []}
MANIFEST = {"categories": CATEGORIES, "grid_size": 7, "teacher": "ViT-B-16", "licence": "none"}


def write_images(root):
    """Sixteen images of different sizes, two categories; every fourth is known to be normal."""
    rows = []
    for index in range(sum(SHARDS)):
        category = index % 3 == 0
        normal = True if index % 4 == 0 else None
        path = root / "images" / CATEGORIES[category] / ("normal" if normal else "unlabelled") / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = 60 + 7 * index, 150 - 5 * index
        Image.new("RGB", (width, height), (90 + index, 90, 90)).save(path)
        facts = {"image_id": path.relative_to(root / "images").as_posix(), "category": int(category)}
        rows.append(facts | {"is_normal": normal, "width": width, "height": height})
    return rows


def make_maps(count, size=7):
    """Smooth maps, most of them with a bump, whose level rises from the first to the last."""
    generator = np.random.default_rng(0)
    maps = []
    for index in range(count):
        noise = cv2.GaussianBlur(generator.random((size, size)).astype(np.float32), (3, 3), 0)
        y, x = generator.integers(1, size - 1, 2)
        noise[y, x] += 0.6 * (index % 5 > 0)
        maps.append(0.3 * noise + 0.02 * index)
    return np.array(maps, np.float16)


def write_store(root, rows, maps, shards=SHARDS, **manifest):
    """A store of several shards; the scores of images are their own draw, not their map's maximum."""
    facts = MANIFEST | {"grid_size": maps.shape[-1], "source": {"dataset": str(root / "images")}} | manifest
    store = MapStore.create(root / "maps", facts)
    scores = np.random.default_rng(1).permutation(len(rows)) / len(rows)
    full = [
        row | {"anomaly_score": float(score), "map_max": float(anomaly_map.max())}
        for row, score, anomaly_map in zip(rows, scores, maps, strict=True)
    ]
    ends = np.cumsum(shards).tolist()
    for index, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        store.write_shard(store.shard_path(index, len(shards)), full[start:end], maps[start:end], [])
    return full


@pytest.fixture
def root(tmp_path):
    write_store(tmp_path, write_images(tmp_path), make_maps(sum(SHARDS)))
    return tmp_path


def run(root, output="boxes", **changes):
    values = {"maps": str(root / "maps"), "output": str(root / output), "workers": 1}
    main(PseudoBoxesArguments(**values | changes))
    return root / output


def written(output):
    """Rows of the Parquet files, by plain pyarrow."""
    return [row for path in sorted((output / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def thresholds(output):
    return json.loads((output / "thresholds.json").read_text())


def corners(objects):
    boxes = np.array(objects["bbox"], np.float32).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def maps_of(root):
    """image_id -> map, straight from the files."""
    tables = [pq.read_table(path).to_pylist() for path in sorted((root / "maps/data").glob("*.parquet"))]
    return {row["image_id"]: np.array(row["anomaly_map"], np.float16) for table in tables for row in table}


def expected_boxes(root, rows, limits):
    """The boxes of each row at its category's limit, by one call for each image."""
    maps = maps_of(root)
    return [pseudo_boxes(maps[row["image_id"]], (row["height"], row["width"]), limits[row["category"]]) for row in rows]


def test_store_without_shards(tmp_path):
    MapStore.create(tmp_path / "maps", MANIFEST)
    with pytest.raises(InputError, match=r"maps: has no finished shard; run `agssp anomaly-maps` again"):
        run(tmp_path)
    assert not (tmp_path / "boxes").exists()


def test_store_of_which_no_image_could_be_read(tmp_path):
    store = MapStore.create(tmp_path / "maps", MANIFEST)
    store.write_shard(store.shard_path(0, 1), [], np.zeros((0, 7, 7)), [{"image_id": "a", "reason": "0 bytes"}])
    with pytest.raises(InputError, match=r"maps: holds no map; 1 images were skipped, the first: a: 0 bytes"):
        run(tmp_path)


def test_no_store(tmp_path):
    with pytest.raises(
        InputError, match=r"maps: is no map store \(no manifest.json\); make it with `agssp anomaly-maps"
    ):
        run(tmp_path)
    # A folder of something else is not to be written into.
    (tmp_path / "maps").mkdir()
    with pytest.raises(InputError, match=r"maps: is no map store .*; give the folder that `agssp anomaly-maps"):
        run(tmp_path)


def test_boxes_are_equations_9_to_11_over_all_shards(root):
    output = run(root)
    rows, maps = written(output), maps_of(root)
    assert [row["image_id"] for row in rows] == list(maps)

    maxima = [[float(maps[row["image_id"]].max()) for row in rows if row["category"] == c] for c in (0, 1)]
    limits = [sum(values) / len(values) - 0.1 for values in maxima]
    found = expected_boxes(root, rows, limits)
    for row, boxes in zip(rows, found, strict=True):
        np.testing.assert_array_equal(corners(row["objects"]), boxes.boxes)
        np.testing.assert_array_equal(np.float32(row["objects"]["score"]), boxes.scores)
        assert row["objects"]["category"] == [0] * len(boxes.boxes)

    # This store tells whether a mean was taken over a shard alone: the boxes would be others.
    first = [float(maps[row["image_id"]].max()) for row in rows[: SHARDS[0]] if row["category"] == 0]
    of_shard = expected_boxes(root, rows[: SHARDS[0]], [sum(first) / len(first) - 0.1, limits[1]])
    assert any(len(a.boxes) != len(b.boxes) for a, b in zip(found, of_shard, strict=False))

    facts = thresholds(output)
    assert [facts["categories"][name]["threshold"] for name in CATEGORIES] == pytest.approx(limits)
    assert [facts["categories"][name]["mean_max"] for name in CATEGORIES] == pytest.approx(np.array(limits) + 0.1)
    assert [facts["categories"][name]["images"] for name in CATEGORIES] == list(map(len, maxima))
    assert (facts["rule"], facts["delta"], facts["teacher"]) == ("paper", 0.1, "ViT-B-16")
    counts = [len(boxes.boxes) for boxes in found]
    assert (facts["images"], facts["boxes"]) == (16, sum(counts))
    assert 0 < facts["images_with_boxes"] == sum(count > 0 for count in counts) < 16


def test_read_boxes_gives_what_the_files_hold(root):
    output = run(root)
    boxes = read_boxes(output)
    for row in written(output):
        found, scores = boxes.pop(row["image_id"])
        assert found.tolist() == row["objects"]["bbox"]
        assert scores.tolist() == row["objects"]["score"]
    assert boxes == {}


def test_normal_images_with_boxes_are_counted(root, capsys):
    output = run(root, delta=0.12, min_area=1)
    normal = [row for row in written(output) if row["is_normal"]]
    with_boxes = [row for row in normal if row["objects"]["bbox"]]
    assert len(normal) == 4
    # Images count, not boxes.
    assert 0 < len(with_boxes) < sum(len(row["objects"]["bbox"]) for row in with_boxes)
    assert len(with_boxes) < 4
    facts = thresholds(output)
    assert (facts["normal_images"], facts["normal_images_with_boxes"]) == (4, len(with_boxes))
    assert f"{len(with_boxes)} of 4 normal images got boxes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("teacher", "rule", "delta"), [("ViT-B-16", "paper", 0.1), ("timm:tf_efficientnet_lite2", "relative", 0.2)]
)
def test_auto_chooses_the_rule_by_the_teacher(tmp_path, teacher, rule, delta):
    write_store(tmp_path, write_images(tmp_path), make_maps(sum(SHARDS)), teacher=teacher)
    facts = thresholds(run(tmp_path))
    assert (facts["rule"], facts["delta"]) == (rule, delta)


def test_relative_rule_by_hand(root):
    rows, maps = written(run(root, threshold_rule="relative", delta=0.3)), maps_of(root)
    for category, entry in enumerate(thresholds(root / "boxes")["categories"].values()):
        own = [maps[row["image_id"]].astype(np.float64) for row in rows if row["category"] == category]
        highest = statistics.fmean(float(each.max()) for each in own)
        ordinary = statistics.median(statistics.median(each.ravel().tolist()) for each in own)
        # Medians of 49 float16 cells are cells; all is exact but the last sums.
        assert entry["threshold"] == pytest.approx(highest - 0.3 * (highest - ordinary))


def test_fixed_rule_takes_delta_itself(root):
    rows = written(run(root, threshold_rule="fixed", delta=0.4))
    for row, boxes in zip(rows, expected_boxes(root, rows, [0.4, 0.4]), strict=True):
        np.testing.assert_array_equal(corners(row["objects"]), boxes.boxes)
    with pytest.raises(InputError, match="needs --delta"):
        run(root, threshold_rule="fixed")


def test_score_threshold_leaves_out_images_below(root):
    rows = written(run(root, score_threshold=0.5))
    free = written(run(root, "free"))
    assert {len(row["objects"]["bbox"]) for row in rows if row["anomaly_score"] <= 0.5} == {0}
    assert any(row["objects"]["bbox"] for row in free if row["anomaly_score"] <= 0.5)
    assert [row for row in rows if row["anomaly_score"] > 0.5] == [row for row in free if row["anomaly_score"] > 0.5]


def test_score_quantile_is_of_the_category(root):
    rows = written(run(root, score_quantile=0.5))
    free = written(run(root, "free"))
    limits = [statistics.median(row["anomaly_score"] for row in rows if row["category"] == c) for c in (0, 1)]
    assert limits[0] != limits[1]
    for row, ungated in zip(rows, free, strict=True):
        passes = row["anomaly_score"] > limits[row["category"]]
        assert row["objects"] == (ungated["objects"] if passes else NO_BOXES)
    found = thresholds(root / "boxes")["categories"]
    assert [found[name]["score_limit"] for name in CATEGORIES] == pytest.approx(limits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score_threshold": 0.5, "score_quantile": 0.5}, "not both"),
        ({"score_quantile": 1.5}, "--score-quantile 1.5: expected 0 to 1"),
        ({"threshold_rule": "papers"}, "--threshold-rule 'papers': expected auto, paper, relative, robust, fixed"),
        ({"top_k": 0}, "--top-k 0: expected 1 or more"),
        ({"iou_threshold": 1.5}, "--iou-threshold 1.5: expected 0 to 1"),
        ({"workers": -1}, "--workers -1: expected 0"),
    ],
)
def test_bad_flags_are_named_before_anything_is_written(root, changes, message):
    with pytest.raises(InputError, match=message):
        run(root, **changes)
    assert not (root / "boxes").exists()


def test_labels_of_the_user_under_the_names_of_ours_are_left_alone(root):
    own = root / "labelled"
    (own / "yolo" / "labels").mkdir(parents=True)
    for name in ("coco.json", "yolo/labels/1.txt", "yolo/data.yaml"):
        (own / name).write_text("by hand")
    with pytest.raises(InputError, match=r"holds coco.json, yolo, which are no boxes"):
        run(root, "labelled")
    assert {path.read_text() for path in own.rglob("*") if path.is_file()} == {"by hand"}


def test_what_an_interruption_left_hidden_is_no_obstacle(root):
    (root / "boxes").mkdir()
    (root / "boxes" / ".coco.json.host-12.tmp").write_text("half")
    assert written(run(root, "boxes")) == written(run(root, "others"))
    assert len(written(root / "boxes")) == sum(SHARDS)


def test_foreign_output(root):
    (root / "boxes").mkdir()
    (root / "boxes/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"boxes: holds thesis.txt, which are no boxes; give a new folder"):
        run(root)
    assert contents(root / "boxes") == {"thesis.txt": b"mine"}
    (root / "note").write_text("mine")
    with pytest.raises(InputError, match=r"note: expected a folder, there is a file of that name"):
        run(root, "note")


def test_coco_holds_the_same_boxes(root):
    output = run(root, coco=True)
    rows = {row["image_id"]: row for row in written(output)}
    # The images lie in images/ beside the output folder, where the reader looks.
    back = read_dataset(output / "coco.json")
    numbered = json.loads((output / "coco.json").read_text())
    assert numbered["categories"] == [{"id": 1, "name": "defect"}]
    assert [image["id"] for image in numbered["images"]] == list(range(1, 17))
    assert {found["category_id"] for found in numbered["annotations"]} == {1}
    assert back.features["objects"]["category"].feature.names == ["defect"]
    assert len(back) == len(rows)
    for row in back:
        for key in NO_BOXES:
            assert row["objects"][key] == rows[row["image_id"]]["objects"][key], key


def test_yolo_holds_the_same_boxes(root):
    output = run(root, yolo=True)
    rows = {f"images/{row['image_id']}": row for row in written(output)}
    (output / "yolo/images").symlink_to(root / "images")
    back = read_dataset(output / "yolo")
    assert back.features["objects"]["category"].feature.names == ["defect"]
    assert {row["image_id"] for row in back} == set(rows)
    for row in back:
        wanted = rows[row["image_id"]]["objects"]
        assert len(row["objects"]["bbox"]) == len(wanted["bbox"])
        # Six digits of a share of at most 165 px, twice rounded.
        np.testing.assert_allclose(corners(row["objects"]), corners(wanted), atol=5e-4)
    # An image without boxes is a negative of its own: an empty file, not a missing one.
    empty = [name for name, row in rows.items() if not row["objects"]["bbox"]]
    assert empty
    for name in empty:
        assert (output / "yolo" / name.replace("images", "labels", 1)).with_suffix(".txt").read_text() == ""


def test_yolo_refuses_two_images_of_one_label_file(tmp_path):
    rows = write_images(tmp_path)[:2]
    for row, suffix in zip(rows, ("png", "bmp"), strict=True):
        row["image_id"] = f"plate/same.{suffix}"
    write_store(tmp_path, rows, make_maps(2), shards=(2,))
    with pytest.raises(InputError, match=r"'plate/same.png' and 'plate/same.bmp' would share"):
        run(tmp_path, yolo=True)
    # Before any box is cut.
    assert not list((tmp_path / "boxes").rglob("*"))


@pytest.mark.parametrize("image_id", ["../../../plate.png", "/plate.png", "a/../../plate.png"])
def test_yolo_writes_nothing_outside_of_its_folder(tmp_path, image_id):
    rows = [write_images(tmp_path)[0] | {"image_id": image_id}]
    write_store(tmp_path, rows, make_maps(1), shards=(1,))
    with pytest.raises(InputError, match=rf"image id '{re.escape(image_id)}' points outside"):
        run(tmp_path, yolo=True)


@pytest.mark.slow
def test_report_tells_the_counts(root):
    output = run(root, report=True)
    facts, page = thresholds(output), (output / "report.html").read_text()
    assert f"{facts['boxes']} boxes on {facts['images_with_boxes']} of 16 images" in page
    assert f"{facts['normal_images_with_boxes']} of 4 images known to be normal got boxes" in page
    table = re.sub(r"<[^>]+>", " ", page)
    for category, name in enumerate(CATEGORIES):
        rows = [row for row in written(output) if row["category"] == category]
        assert re.search(rf"\b{name}\s+{len(rows)}\s", table)
    assert "Examples" in page


def test_report_without_the_images_has_no_examples(root, monkeypatch):
    store = MapStore.open(root / "maps")
    manifest = {key: value for key, value in store.manifest.items() if key != "source"}
    (root / "maps/manifest.json").write_text(json.dumps(manifest))
    # Whatever lies in the folder the command is started from is not taken for the images.
    monkeypatch.chdir(root / "images")
    page = (run(root, report=True) / "report.html").read_text()
    assert "of 16 images" in page
    assert "Examples" not in page


def test_constant_maps(tmp_path, caplog):
    rows = write_images(tmp_path)
    write_store(tmp_path, rows, np.full((len(rows), 7, 7), 0.3, np.float16))
    assert thresholds(run(tmp_path, threshold_rule="relative"))["boxes"] == 0
    assert "warning" not in caplog.text
    # The paper's threshold lies delta below the maximum, so all of each image is above it; the command says so.
    for row in written(run(tmp_path, threshold_rule="paper")):
        assert row["objects"]["bbox"] == [[0, 0, row["width"], row["height"]]]
    assert "warning: plate, strip: the threshold is below ordinary surface" in caplog.text


@pytest.mark.slow
def test_workers_give_the_same_bytes(root):
    run(root, "one", coco=True, yolo=True)
    run(root, "two", coco=True, yolo=True, workers=2)
    one = contents(root / "one")
    assert len([name for name in one if name.startswith("data/boxes-")]) == len(SHARDS)
    assert contents(root / "two") == one


def test_torch_keeps_its_threads(root):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(root)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_another_run_leaves_nothing_of_the_one_before(root):
    run(root, coco=True, yolo=True, report=True)
    # A store of fewer images and shards, in the same place.
    for path in (root / "maps/data").iterdir():
        path.unlink()
    write_store(root, write_images(root)[:4], make_maps(4), shards=(4,))
    run(root)
    assert set(contents(root / "boxes")) == {"data/boxes-00000-of-00001.parquet", "thresholds.json"}
    assert len(read_boxes(root / "boxes")) == 4


def test_unfinished_store_is_told(root, caplog):
    run(root)
    assert "of 4 shards" not in caplog.text
    sorted((root / "maps/data").iterdir())[1].unlink()
    run(root)
    assert "warning: 3 of 4 shards are finished" in caplog.text
