"""A map type that torchvision's v2 transforms move together with the image, and never recolour."""

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from agssp.errors import InputError


class AnomalyMap(tv_tensors.TVTensor):
    """An anomaly map (..., H, W), floating point, of the same height and width as the image it goes with.

    Geometric v2 transforms move it like the image: bilinear, antialiased, filled with 0. Photometric ones leave it
    untouched. A geometric transform that has no kernel here raises, so that no map is silently left behind; only
    `RandAugment` and its kin (`AutoAugment`, `TrivialAugmentWide`, `AugMix`) cannot be stopped: they never look at a
    type they do not know, so leave them out.
    """

    def __new__(cls, data: Any, *, dtype: torch.dtype | None = None) -> "AnomalyMap":
        """Wrap an array or tensor; a map (H, W) becomes (1, H, W)."""
        tensor = torch.as_tensor(data, dtype=dtype)
        if tensor.ndim < 2 or not tensor.is_floating_point():
            raise InputError(
                f"an anomaly map must be floating point (..., H, W), got {tensor.dtype} {tuple(tensor.shape)}"
            )
        if tensor.ndim == 2:
            tensor = tensor[None]
        return tensor.as_subclass(cls)


def _follow(kernel: Any, **fixed: Any) -> Any:
    """A kernel that moves the map as `kernel` moves an image, whatever fill and interpolation the image was given."""

    def moved(inpt: AnomalyMap, *args: Any, **kwargs: Any) -> AnomalyMap:
        kwargs.update(fixed)
        return tv_tensors.wrap(kernel(inpt.as_subclass(torch.Tensor), *args, **kwargs), like=inpt)

    return moved


def _refuse(name: str) -> Any:
    def refused(inpt: AnomalyMap, *args: Any, **kwargs: Any) -> AnomalyMap:
        raise InputError(
            f"{name} moves pixels in a way that an anomaly map cannot follow; leave it out of the transforms"
        )

    return refused


_BILINEAR = {"interpolation": InterpolationMode.BILINEAR}
_KERNELS = {
    F.resize: _follow(F.resize_image, antialias=True, **_BILINEAR),
    F.resized_crop: _follow(F.resized_crop_image, antialias=True, **_BILINEAR),
    F.crop: _follow(F.crop_image),
    F.center_crop: _follow(F.center_crop_image),
    F.horizontal_flip: _follow(F.horizontal_flip_image),
    F.vertical_flip: _follow(F.vertical_flip_image),
    F.pad: _follow(F.pad_image, fill=0),
    F.affine: _follow(F.affine_image, fill=0, **_BILINEAR),
    F.rotate: _follow(F.rotate_image, fill=0, **_BILINEAR),
    F.perspective: _follow(F.perspective_image, fill=0, **_BILINEAR),
    F.elastic: _refuse("elastic"),
    F.five_crop: _refuse("five_crop"),
    F.ten_crop: _refuse("ten_crop"),
}
for _functional, _kernel in _KERNELS.items():
    F.register_kernel(_functional, AnomalyMap)(_kernel)
