"""Which YOLO graphs there are, what their descriptions tell, and how layers are built from them.

A description is what ultralytics calls a model's YAML: `backbone` and `head` are lists of rows
`[sources, repeats, module, arguments]`. A source is the number of an earlier layer, or -1 for the previous one; widths
and repeats are multiplied by those of a scale. The modules are ultralytics' and therefore under AGPL-3.0.
"""

import copy
import functools
import math
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from torch import nn

from agssp.models.ultralytics import import_ultralytics

from .slf_yolo import build_module, is_ours

VARIANTS = (
    "yolov8n",
    "yolov8s",
    "yolov8m",
    "yolo11n",
    "yolo11s",
    "yolo12n",
    "yolo12s",
    "yolo26n",
    "yolo26s",
    "slf_yolon",
    "slf_yolos",
)
"""Names of the graphs, each with its scale as last letter."""

DIVISOR = 8
"""Numbers of channels are rounded up to a multiple of it after scaling."""

HALVING = ("Conv", [2])
"""Module and what follows width and kernel size in the rows that halve height and width."""


class Traits(NamedTuple):
    """What tells a variant's weights from another's.

    Attributes:
        first_channels: Channels of the first convolution.
        head: Number of the detection head among the layers.
        end_to_end: Whether the head has a second branch whose predictions need no suppression.
    """

    first_channels: int
    head: int
    end_to_end: bool


def read_graph(variant: str) -> dict[str, Any]:
    """The description of a variant, with its scale.

    Args:
        variant: One of `VARIANTS`.

    Returns:
        A dict of its own with `backbone`, `head`, `scales` and `scale`, and `end2end`, `reg_max` where it has them.
    """
    family, scale = variant[:-1], variant[-1]
    if family == "slf_yolo":
        text = resources.files(__package__).joinpath("slf_yolo.yaml").read_text(encoding="utf-8")
    else:
        # Read by its path: ultralytics' own search would prefer a file of that name in the working directory.
        root = Path(str(import_ultralytics().__file__)).parent
        folder = family.removeprefix("yolo")
        text = (root / "cfg" / "models" / folder / f"{family}.yaml").read_text(encoding="utf-8")
    return copy.deepcopy(_parse(text)) | {"scale": scale}


@functools.cache
def _parse(text: str) -> dict[str, Any]:
    """What a description says; reading YAML takes longer than making the layers."""
    return yaml.safe_load(text)


def feature_layers(graph: dict[str, Any]) -> tuple[int, ...]:
    """Numbers of the backbone's last layers at strides 2, 4, 8, 16 and 32."""
    rows = graph["backbone"]
    halvings = [number for number, (_, _, module, arguments) in enumerate(rows) if (module, arguments[2:]) == HALVING]
    return (*(number - 1 for number in halvings[1:]), len(rows) - 1)


def neck_inputs(graph: dict[str, Any]) -> tuple[int, ...]:
    """Numbers of the backbone's layers that the rest of the graph reads."""
    last = len(graph["backbone"]) - 1
    sources = {source for row in graph["head"] for source in as_list(row[0])}
    return tuple(sorted({source for source in sources if 0 <= source < last} | {last}))


def neck_strides(variant: str) -> tuple[int, ...]:
    """Strides of the feature maps that a variant's neck reads; known without reading its description."""
    return (4, 8, 16, 32) if variant.startswith("slf_yolo") else (8, 16, 32)


def traits(variant: str) -> Traits:
    """What tells a variant's weights from another's, read from its description."""
    graph = read_graph(variant)
    return Traits(
        first_channels=layer_channels(graph)[0],
        head=len(graph["backbone"]) + len(graph["head"]) - 1,
        end_to_end=bool(graph.get("end2end")),
    )


def layer_channels(graph: dict[str, Any]) -> list[int]:
    """Channels of each layer's output; for a head those of its first input."""
    _, width, most = graph["scales"][graph["scale"]]
    channels: list[int] = []
    for sources, _, module, arguments in graph["backbone"] + graph["head"]:
        inputs = [channels[source] for source in as_list(sources)] if channels else [3]
        if module in ("Concat", "ZoomConcat"):
            channels.append(sum(inputs))
        elif module in ("Add", "Detect", "nn.Upsample"):
            channels.append(inputs[0])
        elif module == "Index":
            channels.append(arguments[0])
        else:
            channels.append(math.ceil(min(arguments[0], most) * width / DIVISOR) * DIVISOR)
    return channels


def build_layers(graph: dict[str, Any]) -> nn.Sequential:
    """Build the layers of a description.

    Layers of ultralytics' modules are built by its own parser. Those of SLF-YOLO, which it does not know, are put in
    the place of its parameterless `Index`, which tells it their width.

    Args:
        graph: As `read_graph` gives it, `nc` (number of classes) set where it has a head; left as it is.

    Returns:
        The layers; each knows its number `i` and its sources `f`.
    """
    import_ultralytics()
    from ultralytics.nn.tasks import parse_model

    rows = graph["backbone"] + graph["head"]
    channels = layer_channels(graph)
    known = [
        [-1, 1, "Index", [channels[number], 0]]
        if is_ours(module)
        # The parser changes the arguments.
        else [sources, repeats, module, list(arguments)]
        for number, (sources, repeats, module, arguments) in enumerate(rows)
    ]
    first = len(graph["backbone"])
    layers, _ = parse_model(graph | {"backbone": known[:first], "head": known[first:]}, ch=3, verbose=False)
    depth = graph["scales"][graph["scale"]][0]
    for number, (sources, repeats, module, arguments) in enumerate(rows):
        if is_ours(module):
            inputs = [channels[:number][source] for source in as_list(sources)]
            layer: Any = build_module(module, inputs, channels[number], max(round(repeats * depth), 1), arguments[1:])
            layer.i, layer.f = number, sources
            layers[number] = layer
    return layers


def as_list(value: int | list[int]) -> list[int]:
    """Descriptions write the layer that another one reads as a number, several of them as a list."""
    return value if isinstance(value, list) else [value]
