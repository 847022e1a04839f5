"""Feature maps of several scales to one sequence of tokens that have looked at each other by deformable attention."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrEncoderLayer

from .configuration_dino import DinoConfig

GROUPS = 32
# DAB-DETR found a lower temperature than that of words to suit positions in images; DINO has kept it.
MAP_TEMPERATURE = 20.0


class Tokens(NamedTuple):
    """The cells of all scales in one sequence, finest scale first. N is their number, L that of the scales.

    Attributes:
        values: (B, N, d) what each cell holds.
        centres: float32 (N, 2) x and y of each cell's centre in 0..1 of the input.
        levels: int64 (N,) the scale of each cell.
        sizes: (height, width) of each scale.
        shapes: int64 (L, 2) the same as a tensor.
        starts: int64 (L,) position of each scale's first cell.
    """

    values: Tensor
    centres: Tensor
    levels: Tensor
    sizes: list[tuple[int, int]]
    shapes: Tensor
    starts: Tensor


class DinoEncoder(nn.Module):
    """Projections of the backbone's maps to one width, further scales, and layers of deformable self-attention.

    Args:
        config: The detector's configuration.
        channels: Channels of each of the backbone's maps.
    """

    def __init__(self, config: DinoConfig, channels: Sequence[int]):
        super().__init__()
        width = config.d_model
        convolutions = [nn.Conv2d(depth, width, 1) for depth in channels]
        for index in range(config.num_feature_levels - len(channels)):
            depth = channels[-1] if index == 0 else width
            convolutions.append(nn.Conv2d(depth, width, 3, stride=2, padding=1))
        self.projections = nn.ModuleList(nn.Sequential(layer, nn.GroupNorm(GROUPS, width)) for layer in convolutions)
        self.level_embed = nn.Parameter(torch.zeros(config.num_feature_levels, width))
        layer_config: Any = config  # has the fields that the layers read
        self.layers: Any = nn.ModuleList(DeformableDetrEncoderLayer(layer_config) for _ in range(config.encoder_layers))

    def forward(self, feature_maps: Sequence[Tensor]) -> Tokens:
        """Encode the backbone's maps.

        Args:
            feature_maps: (B, C, H, W) each, finest first.
        """
        maps = [project(features) for project, features in zip(self.projections, feature_maps, strict=False)]
        coarsest = feature_maps[-1]
        for project in self.projections[len(maps) :]:
            coarsest = project(coarsest)
            maps.append(coarsest)
        tokens = flatten(maps)
        hidden, width = tokens.values, tokens.values.shape[2]
        embedding = sine_embedding(tokens.centres, width // 2, MAP_TEMPERATURE).to(hidden.dtype)
        positions = embedding + self.level_embed[tokens.levels]
        centres = tokens.centres[None, :, None].to(hidden.dtype).expand(-1, -1, len(maps), -1)
        for layer in self.layers:
            hidden = layer(
                hidden,
                None,
                positions,
                reference_points=centres,
                spatial_shapes=tokens.shapes,
                spatial_shapes_list=tokens.sizes,
                level_start_index=tokens.starts,
            )
        return tokens._replace(values=hidden)


def flatten(maps: Sequence[Tensor]) -> Tokens:
    """Put the cells of several maps (B, d, H, W) into one sequence, row by row, with where each lies in the input."""
    device = maps[0].device
    sizes = [(features.shape[2], features.shape[3]) for features in maps]
    shapes = torch.tensor(sizes, device=device)
    counts = shapes.prod(1)
    centres = []
    for height, width in sizes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        centres.append(torch.stack((x.repeat(height), y.repeat_interleave(width)), 1))
    return Tokens(
        values=torch.cat([features.flatten(2).transpose(1, 2) for features in maps], 1),
        centres=torch.cat(centres),
        levels=torch.cat([torch.full((h * w,), level, device=device) for level, (h, w) in enumerate(sizes)]),
        sizes=sizes,
        shapes=shapes,
        starts=counts.cumsum(0) - counts,
    )


def sine_embedding(coordinates: Tensor, features: int, temperature: float = 10_000.0) -> Tensor:
    """Sines and cosines of coordinates at falling frequencies, by which a network tells places apart.

    Args:
        coordinates: (..., n) in 0..1.
        features: Even number of values for each coordinate.
        temperature: Ratio of the highest frequency, one period over 0..1, to what the lowest would be after `features`.

    Returns:
        float32 (..., n * features), sine and cosine in turn.
    """
    exponents = torch.arange(features // 2, device=coordinates.device, dtype=torch.float32) * 2 / features
    angles = coordinates.float()[..., None] * 2 * math.pi / temperature**exponents
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-3)
