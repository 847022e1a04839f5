"""The backbone inside of a saved detector: its tensors under the network's own names, and the images it expects."""

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from agssp.hub_client.names import is_hub_id
from agssp.models.loading import opening
from agssp.parsing import read_json

Value = TypeVar("Value")

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TRANSFORMERS = re.compile(r"^model\.backbone\.model\.(?!network\.)")
OURS = re.compile(r"^(model\.backbone\.model|backbone)\.network\.")
PUBLISHED = ("rt_detr_resnet", "hgnet_v2")
"""model_types of transformers' own backbones of RT-DETR and D-FINE."""

RENAMED: tuple[tuple[str, Any], ...] = (
    # RTDetrResNet is timm's resnet..d.
    (r"^embedder\.embedder\.2\.normalization", "bn1"),
    (r"^embedder\.embedder\.(\d)\.convolution", lambda place: f"conv1.{3 * int(place[1])}"),
    (r"^embedder\.embedder\.(\d)\.normalization", lambda place: f"conv1.{3 * int(place[1]) + 1}"),
    (r"^encoder\.stages\.(\d)\.layers", lambda place: f"layer{int(place[1]) + 1}"),
    (r"\.layer\.(\d)\.convolution", lambda place: f".conv{int(place[1]) + 1}"),
    (r"\.layer\.(\d)\.normalization", lambda place: f".bn{int(place[1]) + 1}"),
    (r"\.shortcut(\.1)?\.convolution", ".downsample.1"),
    (r"\.shortcut(\.1)?\.normalization", ".downsample.2"),
    # HGNetV2 is timm's hgnetv2_b..
    (r"^embedder\.stem", "stem.stem"),
    (r"^encoder\.stages", "stages"),
    (r"\.convolution\.", ".conv."),
    (r"\.normalization\.", ".bn."),
)
"""Names in transformers' backbones -> timm's, one substitution after the other."""


def name_in_network(name: str) -> str | None:
    """What a tensor of a detector is called in the network of its backbone; None for what belongs to neck and head.

    Args:
        name: In a state dict or a file of a detector of ours, or of transformers' RT-DETR or D-FINE.
    """
    if OURS.match(name):
        return OURS.sub("", name)
    if not TRANSFORMERS.match(name):
        return None
    name = TRANSFORMERS.sub("", name)
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def backbone_tensors(state: Mapping[str, Value]) -> dict[str, Value]:
    """The tensors of a detector's backbone under its network's own names; empty for what is no detector."""
    named = {name_in_network(name): value for name, value in state.items()}
    return {name: value for name, value in named.items() if name is not None}


def saved_input_settings(source: str | PathLike) -> dict[str, Any]:
    """How the images of saved weights were prepared, as fields of `AgsspBackboneConfig`.

    Args:
        source: Folder, its `model.safetensors` or the index of its shards, or Hub id of a backbone or a detector.

    Returns:
        `image_mean` and `image_std`; for transformers' detectors `image_size` too. Empty where nothing is known.

    Raises:
        InputError: it looks like a Hub id, and there is no such repository; or its files are no JSON.
    """
    folder = Path(source).parent if Path(source).name in (WEIGHTS, INDEX) else source
    config = _read_json(folder, "config.json")
    within = config.get("backbone_config")
    backbone = within if within and isinstance(within, dict) else config
    if "image_mean" in backbone:
        return {name: backbone.get(name) for name in ("image_mean", "image_std")}
    if backbone.get("model_type") not in PUBLISHED:
        return {}
    prepared = _read_json(folder, "preprocessor_config.json")
    size = prepared.get("size")
    size = size.get("height", 640) if isinstance(size, dict) else 640
    # The published weights take the bare 0..1, though a mean that is not used stands beside them.
    if not prepared.get("do_normalize"):
        return {"image_size": size, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    return {"image_size": size, "image_mean": prepared.get("image_mean"), "image_std": prepared.get("image_std")}


def saved_file(source: str | PathLike, name: str) -> Path | None:
    """A file of a folder or of a Hub repository; None where there is none.

    Raises:
        InputError: the source looks like a Hub id, and there is no such repository, or it cannot be asked.
    """
    path = Path(source)
    if path.is_dir():
        return path / name if (path / name).is_file() else None
    if path.exists() or not is_hub_id(source) or path.suffix == ".safetensors":
        return None
    with opening("start", source):
        try:
            return Path(hf_hub_download(str(source), name))
        except LocalEntryNotFoundError:
            # Nobody can be asked: only a copy that was fetched before can be said to lack the file.
            if try_to_load_from_cache(str(source), "config.json") is None:
                raise
            return None
        except EntryNotFoundError:
            return None


def _read_json(source: str | PathLike, name: str) -> dict[str, Any]:
    file = saved_file(source, name)
    return {} if file is None else read_json(file)
