"""Which images are looked at, and which snapshots are kept."""

import numpy as np
import pytest
import torch
from datasets import Array2D, Dataset, Features, Value
from PIL import Image

from agssp.data.training_sets import MapColumn
from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining
from agssp.models.pretraining.distillation import attention_map
from agssp.training.attention_snapshots import AttentionSnapshots, choose_examples, read_examples


class Images:
    """What `PretrainingImages` is to the snapshots; image 2 has the most striking map."""

    def __init__(self, count=3, own_maps=False):
        generator = torch.Generator().manual_seed(0)
        self.pixel_values = torch.randn(count, 3, 32, 32, generator=generator)
        self.anomaly_maps = [np.linspace(0, index, 16, dtype=np.float16).reshape(4, 4) for index in range(count)]
        ids = [f"{index}.png" for index in range(count)]
        self.maps = MapColumn() if own_maps else dict(zip(ids, self.anomaly_maps, strict=True))
        types = {"category": Value("int64"), "image_id": Value("string"), "anomaly_map": Array2D((4, 4), "float16")}
        rows = {"category": [0] * count, "image_id": ids, "anomaly_map": self.anomaly_maps}
        columns = list(rows) if own_maps else ["category", "image_id"]
        self.dataset = Dataset.from_dict(
            {name: rows[name] for name in columns}, features=Features({name: types[name] for name in columns})
        )

    def __getitem__(self, index):
        anomaly_map = torch.from_numpy(self.anomaly_maps[index].astype(np.float32))
        return {"pixel_values": self.pixel_values[index], "anomaly_maps": anomaly_map, "labels": torch.tensor(0)}


def model():
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture("test_resnet")
    return AgsspForPreTraining.from_backbone(backbone, objective="none", id2label={0: "plate"}).eval()


def test_no_images_give_no_examples(tmp_path):
    assert choose_examples([], []) == []
    assert read_examples(tmp_path) is None


def test_examples_are_spread_over_categories():
    categories = [0] * 50 + [1] * 3 + [2]
    chosen = choose_examples(categories, [0.0] * 54)
    assert len(set(chosen)) == 6
    assert [categories[row] for row in chosen] == [0, 0, 0, 1, 1, 2]
    assert choose_examples([0, 0], [0.0, 0.0]) in ([0, 1], [1, 0])
    many = choose_examples(list(range(60)), [0.0] * 60)
    assert many == [0, 10, 20, 30, 40, 50]


def test_striking_maps_and_ordinary_ones_take_turns():
    peaks = [0.1, 0.9, 0.5, 0.2, 0.8, 0.4]
    assert choose_examples([0, 0, 0, 1, 1, 1], peaks, count=2) == [1, 5]
    assert choose_examples([0, 0, 0, 1, 1, 1], peaks, count=4) == [1, 0, 5, 4]


@pytest.mark.parametrize("own_maps", [False, True])
def test_snapshots_hold_images_maps_and_attention(tmp_path, own_maps):
    images, network = Images(own_maps=own_maps), model()
    AttentionSnapshots(tmp_path, images).begin(network, resumed=False)
    examples = read_examples(tmp_path)
    assert examples.categories == ["plate"] * 3
    order = [2, 0, 1]
    settings = network.backbone.config
    shown = images.pixel_values[order].permute(0, 2, 3, 1) * torch.tensor(settings.image_std) + torch.tensor(
        settings.image_mean
    )
    np.testing.assert_array_equal(examples.images, (shown * 255).round().clamp(0, 255).numpy().astype(np.uint8))
    assert Image.fromarray(examples.images[0]).size == (32, 32)
    assert examples.anomaly_maps[0].max() == 2
    with torch.no_grad():
        features = network.backbone(images.pixel_values[order]).feature_maps
    attention = examples.snapshots[0].attention
    assert list(attention) == ["stage3", "stage4"]
    torch.testing.assert_close(attention["stage3"], attention_map(features[1]))
    torch.testing.assert_close(attention["stage4"], attention_map(features[2]))


def test_the_first_the_middle_and_the_latest_are_kept(tmp_path):
    network, snapshots = model(), AttentionSnapshots(tmp_path, Images())
    snapshots.begin(network, resumed=False)
    kept = []
    for step in (2, 4, 6, 8, 10):
        snapshots.take(network, step, 10, f"epoch {step}")
        kept.append([snapshot.step for snapshot in read_examples(tmp_path).snapshots])
    assert kept == [[0, 2], [0, 4], [0, 6], [0, 6, 8], [0, 6, 10]]
    # A run that goes on from an earlier checkpoint takes back what came after it.
    snapshots.take(network, 4, 10, "epoch 4")
    assert [snapshot.step for snapshot in read_examples(tmp_path).snapshots] == [0, 4]


def test_a_new_run_leaves_nothing_of_the_one_before_and_a_resumed_one_its_start(tmp_path):
    network, snapshots = model(), AttentionSnapshots(tmp_path, Images())
    snapshots.begin(network, resumed=False)
    snapshots.take(network, 8, 10, "epoch 8")
    before = read_examples(tmp_path).snapshots[0].attention["stage4"]
    with torch.no_grad():
        network.backbone.network.conv1[0].weight.mul_(2)
    AttentionSnapshots(tmp_path, Images()).begin(network, resumed=True)
    kept = read_examples(tmp_path).snapshots
    assert [snapshot.step for snapshot in kept] == [0, 8]
    assert torch.equal(kept[0].attention["stage4"], before)
    AttentionSnapshots(tmp_path, Images()).begin(network, resumed=False)
    kept = read_examples(tmp_path).snapshots
    assert [snapshot.step for snapshot in kept] == [0]
    assert not torch.equal(kept[0].attention["stage4"], before)


def test_a_snapshot_draws_no_random_numbers_and_changes_no_weights(tmp_path):
    network, snapshots = model(), AttentionSnapshots(tmp_path, Images())
    state, random = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    snapshots.begin(network, resumed=False)
    snapshots.take(network, 1, 2, "epoch 1")
    assert torch.equal(torch.get_rng_state(), random)
    assert all(
        torch.equal(value, state[name]) for name, value in network.state_dict().items() if value.isfinite().all()
    )
