"""The memory of reference patches that each category's images are compared with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from agssp.errors import InputError
from agssp.files import whole_file
from agssp.maps.scoring import few_shot_map, mutual_map
from agssp.tensor_files import facts_of, open_tensors

MODES = ("normal", "mutual")
TextFeatures = Mapping[str, tuple[Tensor, Tensor]]


@dataclass
class ReferenceBank:
    """References of one category.

    Attributes:
        tokens: (L, M, N, D) unit-length patch tokens of M reference images.
        image_ids: id of each reference image, so that no image is compared with itself; `agssp anomaly-maps` takes the
            hash of an image's content, which tells images apart whatever they are called.
        mode: `normal` (the references are sound: Eq. 5) or `mutual` (they are just other images: MuSc).
        fraction: share of the nearest images that counts in mutual mode.
        shots: an image is compared with the first so many references that are not itself; default: with all. One
            reference beyond them is the spare that gives a reference image as many as any other.
    """

    tokens: Tensor
    image_ids: Sequence[str]
    mode: str = "normal"
    fraction: float = 0.3
    shots: int | None = None

    def others(self, image_id: str | None = None) -> list[int]:
        """Positions of the references that an image of this id is compared with."""
        others = [index for index, other in enumerate(self.image_ids) if image_id is None or other != image_id]
        return others[: self.shots]

    def score(self, tokens: Tensor, image_id: str | None = None) -> Tensor:
        """Map of one image.

        Args:
            tokens: (L, N, D) of the image, unit length.
            image_id: its id; a reference of that id is left out.

        Returns:
            (N,) float32 in [0, 1].

        Raises:
            InputError: the image itself is the only reference.
        """
        keep = self.others(image_id)
        if not keep:
            raise InputError(
                f"{image_id}: is the only reference of its category and cannot be compared with itself; "
                "use two references or more"
            )
        # A slice copies nothing, and all but the few images that are references themselves get one.
        leading = keep[-1] + 1 == len(keep)
        bank = self.tokens[:, : len(keep)] if leading else self.tokens[:, keep]
        if self.mode == "mutual":
            return mutual_map(tokens, bank, self.fraction)
        return few_shot_map(tokens, bank.flatten(1, 2))


def save_banks(banks: Mapping[str, ReferenceBank], text: TextFeatures, file: str | Path) -> None:
    """Write reference tokens and text features to one safetensors file (ids and modes in its metadata).

    Args:
        banks: category -> its references.
        text: category -> normal and anomalous text feature, (D,) each.
        file: where to.
    """
    facts = {
        name: {
            "image_ids": list(bank.image_ids),
            "mode": bank.mode,
            "fraction": bank.fraction,
            "shots": bank.shots,
        }
        for name, bank in banks.items()
    }
    # safetensors writes several metadata entries in any order; one entry keeps the file's bytes the same.
    metadata = {"banks": json.dumps(facts, sort_keys=True)}
    tensors = {f"references/{name}": bank.tokens.contiguous() for name, bank in banks.items()}
    tensors |= {f"text/{name}": torch.stack(sides) for name, sides in text.items()}
    with whole_file(file) as part:
        save_file(tensors, part, metadata=metadata)


def load_banks(
    file: str | Path, device: str | torch.device = "cpu"
) -> tuple[dict[str, ReferenceBank], dict[str, tuple[Tensor, Tensor]]]:
    """Read the reference tokens and text features that `save_banks` wrote.

    Raises:
        InputError: the file is missing, damaged, or another's.
    """
    banks: dict[str, ReferenceBank] = {}
    text: dict[str, tuple[Tensor, Tensor]] = {}
    with open_tensors(file, device) as content:
        facts = facts_of(content, "banks", file)
        # A safetensors file is a dictionary in name only: it can be iterated by its keys alone.
        for key in content.keys():  # noqa: SIM118
            kind, _, name = key.partition("/")
            tensor = content.get_tensor(key)
            if kind == "references":
                banks[name] = ReferenceBank(tokens=tensor, **_bank_facts(facts, name, tensor, file))
            elif kind == "text" and tensor.dim() == 2 and len(tensor) == 2:
                text[name] = (tensor[0], tensor[1])
            else:
                raise InputError(f"{file}: expected references/NAME and text/NAME, (2, D), got {key} {tensor.shape}")
    return banks, text


def _bank_facts(facts: Any, name: str, tokens: Tensor, file: str | Path) -> dict[str, Any]:
    """What the metadata say of a category's references, where that fits them."""
    told = facts.get(name) if isinstance(facts, dict) else None
    if not isinstance(told, dict) or set(told) != {"image_ids", "mode", "fraction", "shots"}:
        raise InputError(f"{file}: its metadata do not say what the references of {name!r} are")
    if tokens.dim() != 4 or not isinstance(told["image_ids"], list) or tokens.shape[1] != len(told["image_ids"]):
        raise InputError(f"{file}: the references of {name!r} are not those of as many images as the metadata name")
    return told
