"""SimMIM: guess the pixels of hidden patches (Xie et al., arXiv 2111.09886)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.models.backbone.networks import build_network, input_settings


def token_channels(architecture: str, model_args: dict[str, Any]) -> int:
    """Width of the patch embeddings that a mask token takes the place of.

    Args:
        architecture: as `full_name` gives it.
        model_args: keyword arguments of timm's `create_model`.

    Returns:
        Channels of an embedding.

    Raises:
        InputError: the network has no patch embeddings, so nothing can be hidden from it.
    """
    with torch.device("meta"):
        network = build_network(architecture, model_args)
    embed = getattr(network, "patch_embed", None)
    if embed is None or not any("Attention" in type(module).__name__ for module in network.modules()):
        raise InputError(
            f"objective 'simmim': {architecture} is no transformer that embeds patches. A convolution would "
            "carry what surrounds a hidden patch into it, and hidden zeros out of it; use a transformer that does "
            "(swin_base, pvt_v2_b0, hiera_tiny_224), or the objective 'mocov3' or 'classification'"
        )
    size = input_settings(architecture)["image_size"]
    with torch.no_grad():
        embedded = _tokens(embed.to("meta")(torch.zeros(1, 3, size, size, device="meta")))
    # A grid is square, so the side that differs is the channels.
    first = embedded.ndim == 4 and embedded.shape[2] == embedded.shape[3] != embedded.shape[1]
    return embedded.shape[1] if first else embedded.shape[-1]


def hide(pixel_values: Tensor, masks: Tensor) -> Tensor:
    """Blank the hidden patches, for embeddings whose patches overlap and would see into them.

    Args:
        pixel_values: (B, 3, H, W).
        masks: (B, h, w) bool, True is hidden; h divides H, w divides W.

    Returns:
        (B, 3, H, W); hidden pixels are 0, the mean of normalised images.
    """
    return pixel_values * ~enlarged(masks, (pixel_values.shape[2], pixel_values.shape[3])).unsqueeze(1)


def enlarged(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks at another resolution: (B, h, w) bool to (B, H, W) bool, for whole multiples.

    Raises:
        InputError: a side is no multiple.
    """
    height, width = size
    if height % masks.shape[1] or width % masks.shape[2]:
        raise InputError(
            f"masks of {masks.shape[1]} x {masks.shape[2]} do not divide a grid of {height} x {width}; "
            "take an image size and a mask unit that are multiples of the patch size"
        )
    return masks.repeat_interleave(height // masks.shape[1], 1).repeat_interleave(width // masks.shape[2], 2)


@contextmanager
def hidden_patches(network: Any, mask_token: Tensor, masks: Tensor) -> Iterator[None]:
    """For the length of a `with` block, the network finds the mask token where patches are hidden.

    Args:
        network: a timm network with `patch_embed`.
        mask_token: (C,).
        masks: (B, h, w) bool, True is hidden.
    """

    def replace(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
        tokens = _tokens(output)
        if tokens.ndim == 3:
            # A row of patches: the grid has the shape of the image.
            ratio = inputs[0].shape[2] / inputs[0].shape[3]
            height = round((tokens.shape[1] * ratio) ** 0.5)
            hidden = enlarged(masks, (height, tokens.shape[1] // height)).flatten(1).unsqueeze(-1)
            shown = torch.where(hidden, mask_token.to(tokens.dtype), tokens)
        elif tokens.shape[-1] != len(mask_token):  # channels first
            hidden = enlarged(masks, (tokens.shape[2], tokens.shape[3])).unsqueeze(1)
            shown = torch.where(hidden, mask_token.to(tokens.dtype)[:, None, None], tokens)
        else:
            hidden = enlarged(masks, (tokens.shape[1], tokens.shape[2])).unsqueeze(-1)
            shown = torch.where(hidden, mask_token.to(tokens.dtype), tokens)
        return (shown, *output[1:]) if isinstance(output, tuple) else shown

    handle = network.patch_embed.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def decoder(channels: int, stride: int) -> nn.Sequential:
    """One linear layer a position, from features (B, C, h, w) to pixels (B, 3, h x stride, w x stride)."""
    return nn.Sequential(nn.Conv2d(channels, 3 * stride * stride, 1), nn.PixelShuffle(stride))


def reconstruction_loss(reconstructed: Tensor, pixel_values: Tensor, masks: Tensor) -> Tensor:
    """Mean absolute difference over the hidden pixels.

    Args:
        reconstructed: (B, 3, H, W).
        pixel_values: (B, 3, H, W), normalised.
        masks: (B, h, w) bool, True is hidden.

    Returns:
        Scalar float32; 0 where nothing is hidden.

    Raises:
        InputError: the reconstruction has another size, because the image is no multiple of the network's stride.
    """
    if reconstructed.shape != pixel_values.shape:
        height, width = pixel_values.shape[2:]
        raise InputError(
            f"objective 'simmim': images of {height} x {width} px are guessed at {reconstructed.shape[2]} x "
            f"{reconstructed.shape[3]}; take an image size that is a multiple of the network's coarsest stride"
        )
    hidden = enlarged(masks, (pixel_values.shape[2], pixel_values.shape[3])).unsqueeze(1)
    difference = F.l1_loss(reconstructed.float(), pixel_values.float(), reduction="none")
    return (difference * hidden).sum() / (3 * hidden.sum()).clamp_min(1)


def _tokens(output: Any) -> Tensor:
    """Embeddings as some networks return them: alone, or before the size of their grid."""
    return output[0] if isinstance(output, tuple) else output
