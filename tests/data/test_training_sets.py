import json
from collections import Counter
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from datasets import Array2D, Dataset, Features, Value
from PIL import Image

from agssp.data.mosaic import DetectionTransform
from agssp.data.readers import read_dataset
from agssp.data.training_sets import (
    DetectionImages,
    MapColumn,
    PretrainingImages,
    PretrainingStream,
    collate_detection,
    collate_pretraining,
    is_held_out,
    maps_in_order,
    rows_with_map,
)
from agssp.data.transforms import PretrainingTransform
from agssp.errors import InputError

PLAIN = {"image_mean": (0, 0, 0), "image_std": (1, 1, 1)}


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    for index in range(6):
        pixels = cv2.resize(generator.integers(0, 255, (4, 6, 3), dtype=np.uint8), (60, 40))
        (tmp_path / f"plate{index % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"plate{index % 2}" / f"{index}.png")
    return tmp_path


@pytest.fixture
def maps(images):
    ids = read_dataset(images)["image_id"]
    return {image_id: np.random.default_rng(i).random((5, 5)).astype(np.float16) for i, image_id in enumerate(ids)}


def boxes_of(ids):
    return {image_id: (np.float32([[5, 5, 20, 20]]), np.float32([0.5])) for image_id in ids}


def same(first, second):
    if isinstance(first, dict):
        return all(same(first[key], second[key]) for key in first)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def test_no_images(images):
    with pytest.raises(InputError, match="no images"):
        PretrainingImages(read_dataset(images).select([]), None, PretrainingTransform(16, map_size=4, **PLAIN))


def test_detection_needs_boxes(images):
    with pytest.raises(InputError, match="no `objects`"):
        DetectionImages(read_dataset(images), None, DetectionTransform(32, **PLAIN))


@pytest.mark.parametrize("kind", ["pretraining", "detection"])
def test_items_depend_on_seed_epoch_and_index_alone(images, maps, kind):
    def build(seed):
        data = read_dataset(images)
        if kind == "pretraining":
            return PretrainingImages(data, maps, PretrainingTransform(16, map_size=4, **PLAIN), seed)
        return DetectionImages(data, boxes_of(data["image_id"]), DetectionTransform(32, **PLAIN), seed)

    first, second, third = build(0), build(0), build(1)
    items = [first[index] for index in range(6)]
    assert all(same(second[index], items[index]) for index in (5, 0, 3))
    assert not same(third[2], items[2])
    second.set_epoch(1)
    assert not same(second[2], items[2])
    second.set_epoch(0)
    assert same(second[2], items[2])


def test_pretraining_batch(images, maps):
    data = PretrainingImages(read_dataset(images), maps, PretrainingTransform(16, map_size=4, **PLAIN))
    batch = collate_pretraining([data[0], data[5]])
    assert batch["pixel_values"].shape == (2, 3, 16, 16)
    assert batch["anomaly_maps"].shape == (2, 4, 4)
    assert batch["labels"].tolist() == [0, 1]


def test_detection_batch_in_evaluation(images):
    rows = read_dataset(images)
    boxes = boxes_of(rows["image_id"][:1])
    data = DetectionImages(rows, boxes, DetectionTransform(30, **PLAIN), evaluation=True)
    batch = collate_detection([data[0], data[1]])
    assert batch["image_index"].tolist() == [0, 1]
    assert batch["orig_size"].tolist() == [[40, 60], [40, 60]]
    assert [len(labels["boxes"]) for labels in batch["labels"]] == [1, 0]
    # 60 px wide on 30: half; 10 rows of bars, of which 5 above. Box 5..25 -> x 2.5..12.5, y 7.5..17.5.
    assert (batch["labels"][0]["boxes"] * 30)[0].tolist() == pytest.approx([7.5, 12.5, 10, 10])
    assert data.targets(0)[0].tolist() == [[5, 5, 25, 25]]


def with_a_crowd(images):
    """One image of noise, 60 x 40 px, with an object and a crowd region that reaches over it."""
    objects = {"bbox": [[4, 4, 10, 10], [8, 8, 40, 20]], "category": ["pit", "pit"], "iscrowd": [0, 1]}
    line = {"file_name": "plate0/0.png", "category": "plate", "objects": objects}
    (images / "metadata.jsonl").write_text(json.dumps(line))
    return read_dataset(images)


def test_crowd_regions_are_hidden_in_training_and_no_labels(images):
    pixels = np.asarray(Image.open(images / "plate0/0.png"))
    data = DetectionImages(with_a_crowd(images), None, DetectionTransform(64, **PLAIN))
    sample = data.sample(0)
    assert sample["boxes"].tolist() == [[4, 4, 14, 14]]
    assert sample["class_labels"].tolist() == [0]
    hidden = (sample["image"] == 114).all(2)
    expected = np.zeros((40, 60), bool)
    expected[8:28, 8:48] = True
    expected[8:14, 8:14] = False
    assert (hidden == expected)[~(pixels == 114).all(2)].all()
    np.testing.assert_array_equal(sample["image"][~expected], pixels[~expected])
    # At half the size region and object shrink with the image.
    small = DetectionImages(with_a_crowd(images), None, DetectionTransform(32, **PLAIN)).sample(0)
    assert small["image"].shape[1] == 32
    assert (small["image"][5:14, 9:25] == 114).all()
    np.testing.assert_allclose(small["boxes"], np.array([[4, 4, 14, 14]]) * 32 / 60, atol=0.2)


def test_crowd_regions_are_seen_and_told_apart_in_evaluation(images):
    data = DetectionImages(with_a_crowd(images), None, DetectionTransform(64, **PLAIN), evaluation=True)
    np.testing.assert_array_equal(data.sample(0)["image"], np.asarray(Image.open(images / "plate0/0.png")))
    boxes, labels, crowds = data.targets(0)
    assert boxes.tolist() == [[4, 4, 14, 14], [8, 8, 48, 28]]
    assert (labels.tolist(), crowds.tolist()) == ([0, 0], [False, True])
    assert len(data[0]["labels"]["boxes"]) == 1


def test_pseudo_boxes_are_no_crowds(images):
    data = DetectionImages(with_a_crowd(images), boxes_of(["plate0/0.png"]), DetectionTransform(64, **PLAIN))
    assert data.targets(0)[2].tolist() == [False]
    np.testing.assert_array_equal(data.sample(0)["image"], np.asarray(Image.open(images / "plate0/0.png")))


def test_bad_images_are_listed_and_replaced_by_the_next_good_one(images, maps):
    rows = read_dataset(images)
    bad = rows[1]["image_id"]
    (images / bad).write_bytes(b"broken")
    data = PretrainingImages(rows, maps, PretrainingTransform(16, map_size=4, **PLAIN), evaluation=True)
    assert same(data[1], data[2])
    assert list(data.skipped) == [bad]
    for image_id in rows["image_id"]:
        (images / image_id).write_bytes(b"")
    with pytest.raises(InputError, match="none of the 6 images can be used"):
        PretrainingImages(rows, maps, PretrainingTransform(16, map_size=4, **PLAIN))[0]


def test_last_epochs_have_no_mosaic(images):
    rows = read_dataset(images)
    transform = DetectionTransform(32, scale=0, translate=0, flip=0, hsv=(0, 0, 0), **PLAIN)
    data = DetectionImages(rows, boxes_of(rows["image_id"]), transform, epochs=5, closing_epochs=2)
    letterboxed = transform.evaluation(data.sample(0))["pixel_values"]
    alike = []
    for epoch in range(5):
        data.set_epoch(epoch)
        difference = (data[0]["pixel_values"] - letterboxed).abs().mean().item()
        alike.append(difference < 0.06)
    assert alike == [False, False, False, True, True]


def test_cache_returns_the_same_and_respects_its_limit(images):
    rows = read_dataset(images)
    cached = DetectionImages(rows, {}, DetectionTransform(32, **PLAIN), cache_bytes=3000)
    bare = DetectionImages(rows, {}, DetectionTransform(32, **PLAIN), cache_bytes=0)
    for index in (0, 1, 2, 0):
        assert same(cached[index], bare[index])
    assert len(cached._cache) == 1


def test_two_ranks_of_a_stream_see_each_row_once(images, maps):
    rows = read_dataset(images)
    marked = {image_id: np.full((5, 5), index, np.float16) for index, image_id in enumerate(rows["image_id"])}

    def stream(rank, epoch):
        source = Dataset.from_list(list(rows), features=rows.features).to_iterable_dataset(num_shards=4)
        transform = PretrainingTransform(16, map_size=4, **PLAIN)
        data = PretrainingStream(source, marked, transform, rank=rank, world_size=2, passes=1)
        data.set_epoch(epoch)
        return [int(item["anomaly_maps"].mean().round()) for item in data]

    ranks = [stream(rank, 0) for rank in (0, 1)]
    assert sorted(ranks[0] + ranks[1]) == list(range(6))
    assert stream(0, 0) == ranks[0]
    assert sorted(stream(0, 1) + stream(1, 1)) == list(range(6))


def test_a_stream_goes_on_with_another_pass_and_leaves_out_what_is_held_out(images):
    rows = read_dataset(images)
    held = {image_id for image_id in rows["image_id"] if is_held_out(image_id, 0.5)}
    assert 0 < len(held) < len(rows)
    names = {image_id: index for index, image_id in enumerate(rows["image_id"])}
    marked = {image_id: np.full((5, 5), index, np.float16) for image_id, index in names.items()}
    data = PretrainingStream(
        rows.to_iterable_dataset(num_shards=2), marked, PretrainingTransform(16, map_size=4, **PLAIN), held_out=0.5
    )
    seen = [int(item["anomaly_maps"].mean().round()) for item in islice(data, 3 * (len(rows) - len(held)))]
    expected = sorted(set(names.values()) - {names[image_id] for image_id in held})
    passes = [seen[start : start + len(expected)] for start in range(0, len(seen), len(expected))]
    assert [sorted(part) for part in passes] == [expected] * 3
    assert not all(part == passes[0] for part in passes)


def test_a_stream_without_any_map_says_so_instead_of_looking_for_ever(images):
    source = read_dataset(images).to_iterable_dataset(num_shards=2)
    with pytest.raises(InputError, match="no image to train on"):
        next(iter(PretrainingStream(source, {}, PretrainingTransform(16, map_size=4, **PLAIN))))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_lists_what_it_skipped_by_any_worker(images, tmp_path, workers):
    bad = sorted((images / "plate0").iterdir())[0]
    bad.write_bytes(b"broken")
    source = read_dataset(images).to_iterable_dataset(num_shards=3)
    transform = PretrainingTransform(16, map_size=4, **PLAIN)
    data = PretrainingStream(source, None, transform, passes=2, skipped_file=tmp_path / "skipped.jsonl")
    assert data.skipped == {}
    loaded = torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers)
    assert sum(1 for _ in loaded) == 2 * 5
    assert list(data.skipped) == [f"plate0/{bad.name}"]
    assert "no known image format" in data.skipped[f"plate0/{bad.name}"]


@pytest.mark.slow
def test_workers_of_a_stream_make_their_passes_by_themselves(images):
    rows = read_dataset(images)
    marked = {image_id: np.full((5, 5), index, np.float16) for index, image_id in enumerate(rows["image_id"])}
    transform = PretrainingTransform(16, map_size=4, **PLAIN)
    data = PretrainingStream(rows.to_iterable_dataset(num_shards=6), marked, transform, passes=20)
    loaded = torch.utils.data.DataLoader(data, batch_size=None, num_workers=2)
    seen = [int(item["anomaly_maps"].mean().round()) for item in loaded]
    assert Counter(seen) == dict.fromkeys(range(6), 20)


def test_maps_of_rows_by_id_and_of_their_own_column():
    first = np.arange(4, dtype=np.float16).reshape(2, 2)
    types = Features({"image_id": Value("string"), "anomaly_map": Array2D((2, 2), "float16")})
    rows = Dataset.from_dict({"image_id": ["column", "b"], "anomaly_map": [first, None]}, features=types)
    for source, expected in ((MapColumn(), [first, None]), ({"b": first}, [None, first]), (None, [None, None])):
        for found, wanted in zip(maps_in_order(rows, source), expected, strict=True):
            assert (found is None and wanted is None) or np.array_equal(found, wanted)
        assert source is None or rows_with_map(rows, source) == [row for row in (0, 1) if expected[row] is not None]
    assert list(maps_in_order(rows.select([]), MapColumn())) == []
