"""The teacher with a text side: a CLIP model of open_clip, unmodified."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.maps.clip_configs import check_clip_config
from agssp.maps.knowledge_base import Knowledge
from agssp.maps.prompts import anomalous_states, empty_prompts, fill_templates, normal_states
from agssp.maps.scoring import unit
from agssp.maps.teacher_weights import licence_of, load_weights, pickles_refused, safetensors_file
from agssp.maps.tokens import check_model_name, count_tokens, load_tokenizer
from agssp.maps.vv_attention import check_tower, dense_tokens
from agssp.network_sizes import built_within, stored_numbers

HUB_FILE = "open_clip_model.safetensors"
LOCAL_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")

# A foreign configuration that fits no network fails in all of these ways.
_FAILURES = (OSError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError, LookupError, ArithmeticError)


def evenly_spaced(blocks: int, count: int = 4) -> tuple[int, ...]:
    """`count` evenly spaced 1-based block numbers, the last one included (3 6 9 12 of 12, as in the paper)."""
    return tuple(sorted({max(1, round(blocks * (index + 1) / count)) for index in range(count)}))


class OpenClipTeacher(nn.Module):
    """Dense tokens by value-value attention, image embedding and text features of a CLIP model.

    Args:
        model: open_clip model with a plain ViT as its vision tower.
        tokenizer: its tokenizer.
        name: how errors and the manifest call it.
        pretrained: tag of its weights.
        weights: file of its weights.
        layers: 1-based blocks whose tokens are scored; default: four evenly spaced.
        surgery_from: 1-based first block with value-value attention; default: the last three quarters.

    Raises:
        InputError: a tower that is no plain ViT, or layers it does not have.
    """

    has_text = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        pretrained: str | None = None,
        weights: str | Path | None = None,
        layers: Sequence[int] | None = None,
        surgery_from: int | None = None,
    ) -> None:
        super().__init__()
        import open_clip

        visual = model.visual
        check_tower(visual, name)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name, self.pretrained, self.weights = name, pretrained, weights
        self.licence = licence_of(pretrained, name)
        self.context_length = int(model.context_length)

        blocks = len(visual.transformer.resblocks)
        self.layers = tuple(sorted(set(layers))) if layers else evenly_spaced(blocks)
        self.surgery_from = blocks - blocks * 3 // 4 + 1 if surgery_from is None else surgery_from
        if not all(1 <= layer <= blocks for layer in (*self.layers, self.surgery_from)):
            raise InputError(
                f"teacher {name}: has blocks 1 to {blocks}; got layers {self.layers}, surgery from {self.surgery_from}"
            )
        if visual.image_size[0] != visual.image_size[1]:
            raise InputError(f"teacher {name}: reads {visual.image_size} px; expected a square input")
        self.image_size, self.grid_size = int(visual.image_size[0]), int(visual.grid_size[0])
        self.image_mean = tuple(getattr(visual, "image_mean", None) or open_clip.OPENAI_DATASET_MEAN)
        self.image_std = tuple(getattr(visual, "image_std", None) or open_clip.OPENAI_DATASET_STD)
        self.interpolation = Image.Resampling.BICUBIC

    @torch.inference_mode()
    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, 3, S, S) -> unit patch tokens (L, B, N, D) and unit image embedding (B, D)."""
        tokens, embedding = dense_tokens(self.model.visual, pixel_values, self.layers, self.surgery_from)
        return unit(tokens), unit(embedding)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end included, without truncation."""
        return count_tokens(self.tokenizer, text)

    @torch.inference_mode()
    def text_features(self, knowledge: Knowledge, subtract_empty_prompt: bool = True) -> tuple[Tensor, Tensor]:
        """Normal and anomalous text feature of a category, (D,) float32 each, unit length (METHOD 1.3)."""
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


def load_open_clip(
    name: str,
    pretrained: str | None = None,
    weights: str | Path | None = None,
    *,
    layers: Sequence[int] | None = None,
    surgery_from: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    safetensors_only: bool = False,
) -> OpenClipTeacher:
    """Load a teacher by its open_clip name.

    open_clip prefers safetensors; a pickle is opened by torch's restricted reader, for plain tensors alone.

    Args:
        name: open_clip model name, `hf-hub:org/name` or `local-dir:/path`.
        pretrained: open_clip tag; `random` for weights that mean nothing (timing, tests).
        weights: safetensors file with the model's state dict instead; a tag beside it says which weights it holds.
        layers: see `OpenClipTeacher`.
        surgery_from: see `OpenClipTeacher`.
        dtype: the weights are converted to.
        device: where to run.
        safetensors_only: open no pickle at all, not even so.

    Raises:
        InputError: unknown name or tag, weights that are missing or another network's, or see `OpenClipTeacher`.
    """
    import open_clip

    check_model_name(name)
    if name.startswith("local-dir:") and weights is None:
        weights = _local_weights(name)
    tag = None
    if name.startswith(("hf-hub:", "local-dir:")):
        if pretrained not in (None, "random"):
            raise InputError(f"teacher {name}: holds its own weights; leave out --pretrained {pretrained}")
    else:
        tag = _check_tag(name, pretrained, needed=weights is None)
    bare = weights is not None or pretrained == "random"
    safe = _safe_weights(name, tag) if safetensors_only and not bare else None
    bare = bare or safe is not None
    check_clip_config(name)
    # Of a repository's weights nothing is known before open_clip has fetched them.
    file = weights if safe is None else safe
    stored = stored_numbers([file]) if file is not None and Path(file).is_file() else None
    try:
        with built_within(stored, f"teacher {name}"):
            model = open_clip.create_model(
                name,
                # A plain name loads nothing without its tag; the Hub's and a folder's models do unless told not to.
                pretrained=None if bare else pretrained,
                load_weights=not bare,
                # Else open_clip only warns when a download fails, and goes on with random weights.
                require_pretrained=not bare,
                # Weights of a text tower alone would be another repository's, and are replaced by the model's.
                pretrained_text=False,
                weights_only=True,
                # A file of a tag's weights was trained with its normalisation, which the bare name does not tell.
                force_preprocess_cfg={key: tag[key] for key in ("mean", "std") if tag.get(key)} if tag else None,
            )
        if safe is not None:
            open_clip.load_checkpoint(model, str(safe))
    except _FAILURES as error:
        raise InputError(f"teacher {name} ({pretrained}): could not be loaded: {error}") from error
    if weights is not None:
        load_weights(model, weights)
    return OpenClipTeacher(
        model.to(device=device, dtype=dtype),
        load_tokenizer(name),
        name=name,
        pretrained=pretrained,
        weights=weights,
        layers=layers,
        surgery_from=surgery_from,
    )


def _local_weights(name: str) -> Path:
    folder = Path(name.removeprefix("local-dir:"))
    for file in LOCAL_FILES:
        if (folder / file).is_file():
            return folder / file
    raise InputError(
        f"teacher {name}: expected {' or '.join(LOCAL_FILES)} in {folder}; open_clip alone "
        "would go on with random weights"
    )


def _safe_weights(name: str, tag: dict[str, Any] | None) -> Path:
    """The safetensors file of a name on the Hub, or of a tag as open_clip describes it."""
    place = f"{name.removeprefix('hf-hub:')}/" if tag is None else str(tag.get("hf_hub", ""))
    repository, _, file = place.rpartition("/")
    file = file or HUB_FILE
    if not repository or not file.endswith(".safetensors"):
        raise pickles_refused(name, f"its weights ({place or 'a plain address'}) are no safetensors on the Hub")
    return safetensors_file(name, repository, file)


def _check_tag(name: str, pretrained: str | None, needed: bool) -> dict[str, Any]:
    """What open_clip knows about a tag; nothing where the weights come from elsewhere (not `needed`)."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    there = ", ".join(tags) or "none"
    if pretrained is None and needed:
        raise InputError(f"teacher {name}: give --pretrained TAG (there are: {there}) or --weights FILE.safetensors")
    if pretrained not in tags:
        if needed and pretrained != "random":
            raise InputError(f"teacher {name}: has no tag {pretrained!r}; there are: {there}")
        return {}
    known = open_clip.get_pretrained_cfg(name, pretrained)
    quick = known.get("quick_gelu", False)
    if quick and not (open_clip.get_model_config(name) or {}).get("quick_gelu", False):
        # open_clip only warns, and every feature would come out of another activation than it was trained with.
        raise InputError(
            f"teacher {name}: the weights {pretrained!r} were trained with QuickGELU; use {name}-quickgelu"
        )
    return dict(known)
