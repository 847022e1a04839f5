"""A backbone as a folder that timm opens, without this package."""

import math
import os
from typing import Any

import timm
import torch

from agssp.errors import InputError
from agssp.hub.machine_traces import check_no_traces
from agssp.models.backbone.networks import is_of_timm

DIFFERENCE = 1e-6
"""Features may differ by this share of their largest value: the same operations in the same order."""


def check_is_timm(backbone: Any) -> None:
    """Refuse a backbone that is no network of timm's.

    Args:
        backbone: An `AgsspBackbone`.

    Raises:
        InputError: it is a YOLO's own, or one of `resnet_vd`.
    """
    architecture = backbone.config.architecture
    if not hasattr(backbone.network, "pretrained_cfg"):
        raise InputError(
            f"--format timm: {architecture} is a YOLO's own backbone, which timm does not have; open "
            "it with `AgsspBackbone.from_pretrained(FOLDER)`, or write the whole detector with `--format "
            "ultralytics` or `--format onnx`"
        )
    if not is_of_timm(architecture):
        raise InputError(
            f"--format timm: {architecture} has a convolution that timm's own has not; open it with "
            "`AgsspBackbone.from_pretrained(FOLDER)`, or write the whole detector with `--format onnx`"
        )


def write_timm(backbone: Any, folder: str | os.PathLike) -> dict[str, Any]:
    """Save a backbone, open it with timm alone, and compare the features.

    Args:
        backbone: An `AgsspBackbone` of a timm network, in eval mode.
        folder: Made if missing.

    Returns:
        `against`: what the folder was opened with; `images` of noise; `features` that were compared; and the largest
        `difference`, as a share of the largest value of its feature.

    Raises:
        InputError: timm computes something else: the difference is above `DIFFERENCE`; or the folder would name this
            machine.
    """
    backbone.save_pretrained(folder)
    check_no_traces(folder, "the folder for timm")
    opened: Any = timm.create_model(
        f"local-dir:{folder}", pretrained=True, features_only=True, out_indices=backbone.out_indices
    )
    side = backbone.config.image_size
    pixel_values = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = backbone(pixel_values).feature_maps, opened.eval()(pixel_values)
    difference = 0.0
    for ours, theirs in zip(expected, found, strict=True):
        # timm's own feature lists are NHWC for Swin.
        theirs = theirs if theirs.shape == ours.shape else theirs.permute(0, 3, 1, 2)
        largest = max(float(ours.abs().max()), torch.finfo(torch.float32).tiny)  # a feature may be 0 everywhere
        apart = float((theirs - ours).abs().max()) / largest if theirs.shape == ours.shape else math.inf
        if not apart <= DIFFERENCE:  # what is no number is unlike all
            raise InputError(
                f"--format timm: timm's {backbone.config.architecture} computes other features from the weights, "
                f"{apart:.2g} of their largest value apart, expected at most {DIFFERENCE:g}; nothing was written"
            )
        difference = max(difference, apart)
    return {
        "against": f"timm {timm.__version__}",
        "images": 1,
        "features": len(expected),
        "difference": difference,
    }
