"""Descriptions against the layers that ultralytics' parser makes of them."""

import pytest
import torch

from agssp.models.yolo_graphs import VARIANTS, build_layers, feature_layers, neck_inputs, read_graph, traits
from agssp.models.yolo_graphs.graphs import as_list, layer_channels


def test_a_graph_in_the_working_directory_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "yolo11.yaml").write_text("nc: 1")
    (tmp_path / "yolo11n.yaml").write_text("nc: 1")
    monkeypatch.chdir(tmp_path)
    assert read_graph("yolo11n")["scale"] == "n"


def test_traits_tell_every_variant_from_the_others():
    assert len({traits(variant) for variant in VARIANTS}) == len(VARIANTS)
    assert traits("yolov8m") == (48, 22, False)
    assert traits("yolo26s") == (32, 23, True)


def test_the_layers_that_backbone_and_neck_share():
    shared = {"yolov8n": (4, 6, 9), "yolo11n": (4, 6, 10), "yolo12n": (4, 6, 8), "slf_yolon": (2, 4, 6, 8)}
    for variant, layers in shared.items():
        graph = read_graph(variant)
        assert neck_inputs(graph) == layers
        assert feature_layers(graph)[-len(layers) :] == layers


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_give_the_channels_and_the_strides_that_their_description_tells(variant):
    graph = read_graph(variant) | {"nc": 3}
    described = layer_channels(graph)
    with torch.device("meta"):
        layers = build_layers(graph)
        outputs, previous = [], torch.zeros(2, 3, 64, 96)
        for number, layer in enumerate(layers[:-1]):
            assert layer.i == number
            read = [previous if source == -1 else outputs[source] for source in as_list(layer.f)]
            previous = layer(read if isinstance(layer.f, list) else read[0])
            outputs.append(previous)
    assert [output.shape[1] for output in outputs] == described[:-1]
    assert [tuple(outputs[source].shape[2:]) for source in layers[-1].f] == [(8, 12), (4, 6), (2, 3)]
    assert [outputs[number].shape[2] for number in feature_layers(graph)] == [32, 16, 8, 4, 2]


def test_a_description_is_left_as_it_is():
    graph = read_graph("slf_yolon") | {"nc": 3}
    build_layers(graph)
    assert graph == read_graph("slf_yolon") | {"nc": 3}
