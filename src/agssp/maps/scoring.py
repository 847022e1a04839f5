"""Equations 1 to 5: from tokens, text features and reference tokens to maps and scores."""

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07
CHUNK_ELEMENTS = 16_000_000


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1, in the dtype they came in, divided in float32: bfloat16 would round the length as well."""
    return F.normalize(vectors.float(), dim=-1).to(vectors.dtype)


def text_probability(features: Tensor, normal: Tensor, anomalous: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Eq. 1: how much more a feature agrees with the anomalous text than with the normal one.

    Args:
        features: (..., D), unit length.
        normal: (..., D) text feature of the normal side, unit length, broadcast against `features`.
        anomalous: (..., D) text feature of the anomalous side.
        temperature: tau of the paper.

    Returns:
        (...) float32 in [0, 1].
    """
    agreement_normal = (features * normal).sum(-1, dtype=torch.float32)
    agreement_anomalous = (features * anomalous).sum(-1, dtype=torch.float32)
    return torch.sigmoid((agreement_anomalous - agreement_normal) / temperature)


def zero_shot_map(tokens: Tensor, normal: Tensor, anomalous: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Eq. 3 and 4: text probability of each patch, averaged over the layers.

    Args:
        tokens: (L, B, N, D) patch tokens, unit length.
        normal: (B, D) text features of each image's category.
        anomalous: (B, D).
        temperature: tau of the paper.

    Returns:
        (B, N) float32 in [0, 1].
    """
    return text_probability(tokens, normal[None, :, None], anomalous[None, :, None], temperature).mean(0)


def nearest_distance(tokens: Tensor, references: Tensor) -> Tensor:
    """Eq. 5 for one image and layer: half the cosine distance to the nearest reference patch.

    Args:
        tokens: (N, D), unit length.
        references: (..., R, D), unit length; the minimum is taken over R.

    Returns:
        (..., N) float32 in [0, 1]. Groups of R are taken together while their similarities stay below 16 million; a
        single group is never cut, so memory grows with N R (4 references of 27 x 27 patches: 2 million).
    """
    flat = references.reshape(-1, *references.shape[-2:])
    step = max(1, CHUNK_ELEMENTS // (tokens.shape[0] * flat.shape[1]))
    nearest = [
        (tokens @ part.reshape(-1, part.shape[-1]).T).reshape(len(tokens), *part.shape[:2]).amax(-1).T
        for part in flat.split(step)
    ]
    similarity = torch.cat(nearest).float().reshape(*references.shape[:-2], len(tokens))
    return (0.5 * (1 - similarity)).clamp_(0, 1)


def few_shot_map(tokens: Tensor, references: Tensor) -> Tensor:
    """Eq. 5 averaged over the layers, against one bank of normal patches.

    Args:
        tokens: (L, N, D) of one image, unit length.
        references: (L, R, D) patches of all the category's reference images.

    Returns:
        (N,) float32 in [0, 1].
    """
    layers = zip(tokens, references, strict=True)
    return torch.stack([nearest_distance(layer, bank) for layer, bank in layers]).mean(0)


def mutual_map(tokens: Tensor, references: Tensor, fraction: float = 0.3) -> Tensor:
    """Mutual scoring: distance to other unlabelled images, of which the nearest `fraction` counts.

    Each patch has a distance to each reference image (to its nearest patch there). The mean of the lowest `fraction`
    of them is its score: what is ordinary is found in many images, a defect in few (MuSc, Li et al., ICLR 2024).

    Args:
        tokens: (L, N, D) of one image, unit length.
        references: (L, M, R, D) patches of M other images.
        fraction: share of the images that counts, in (0, 1]; at least one image.

    Returns:
        (N,) float32 in [0, 1].
    """
    count = max(1, int(references.shape[1] * fraction))
    layers = [
        nearest_distance(layer, bank).topk(count, dim=0, largest=False).values.mean(0)
        for layer, bank in zip(tokens, references, strict=True)
    ]
    return torch.stack(layers).mean(0)
