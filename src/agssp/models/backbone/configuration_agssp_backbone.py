"""Configuration of a backbone: which network, which of its features, what stays frozen, how inputs are normalised."""

import math
from typing import Any

from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

from agssp.errors import InputError

from .model_args import LARGEST, check_model_args
from .networks import default_model_args, feature_layout, full_name, input_settings, native_size


class AgsspBackboneConfig(BackboneConfigMixin, PreTrainedConfig):
    """Configuration of `AgsspBackbone`.

    Args:
        architecture: a timm name, `swin_base` for the paper's Swin, or the variant of a YOLO (`yolov8s`, `yolo11n`).
        model_args: keyword arguments of `timm.create_model`, of those that shape a network (`model_args.ALLOWED`) and
            with plain values, as the configuration may come from anybody. Without it, networks with a fixed image size
            are set to take any size.
        out_indices: positions in `stage_names` of the features to return, ascending; negative ones count from the end.
            The last three without it.
        out_features: the same by name.
        frozen_stages: n keeps the stem and the first n stages as they are (no gradient, norms in eval mode);
            0 freezes nothing.
        image_size: side of the square images that the weights were trained on; default: what the network is built for.
        image_mean: RGB mean that is taken off inputs in 0..1.
        image_std: RGB standard deviation that inputs are divided by.

    Attributes:
        stage_names: `stem` (networks with a feature finer than stride 4 only), `stage1`, `stage2`, ...

    Raises:
        InputError: no such network, other arguments or values than these, no size or no three numbers, indices out of
            range, or more frozen stages than there are.
    """

    model_type = "agssp_backbone"
    # Everything is written to config.json: timm's reader knows nothing of our defaults.
    has_no_defaults_at_init = True

    architecture: str = "resnet50"
    model_args: dict[str, Any] | None = None
    frozen_stages: int = 0
    image_size: int | None = None
    image_mean: list[float] | None = None
    image_std: list[float] | None = None
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.architecture = full_name(self.architecture)
        if self.model_args is None:
            self.model_args = default_model_args(self.architecture)
        if isinstance(self.model_args, dict):
            self.model_args = {name: value for name, value in self.model_args.items() if name != "num_classes"}
        check_model_args(self.architecture, self.model_args)
        settings = input_settings(self.architecture)
        self.image_size = _size(self.image_size or max(native_size(self.architecture, self.model_args)))
        self.image_mean = _three("image_mean", self.image_mean or settings["image_mean"])
        self.image_std = _three("image_std", self.image_std or settings["image_std"])

        kwargs.pop("stage_names", None)
        self.stage_names = list(feature_layout(self.architecture, self.model_args).stage_names)
        count = len(self.stage_names)
        indices, names = kwargs.pop("out_indices", None), kwargs.pop("out_features", None)
        if indices is not None:
            if any(not -count <= index < count for index in indices):
                raise InputError(f"out_indices of {self.architecture} must lie in 0..{count - 1}, got {list(indices)}")
            indices = [index % count for index in indices]
        elif names is None:
            indices = list(range(max(count - 3, 0), count))
        try:
            self.set_output_features_output_indices(out_features=names, out_indices=indices)
        except ValueError as error:
            raise InputError(f"features of {self.architecture}: {error}") from error
        self.frozen_index()
        super().__post_init__(**kwargs)

    def frozen_index(self) -> int | None:
        """Position in `stage_names` of the last frozen stage; None when nothing is frozen.

        Raises:
            InputError: `frozen_stages` is negative or more than the network has.
        """
        if self.frozen_stages == 0:
            return None
        name = f"stage{self.frozen_stages}"
        if name not in self.stage_names:
            raise InputError(
                f"frozen_stages={self.frozen_stages} (--frozen-stages): {self.architecture} has "
                f"{', '.join(self.stage_names)}; expected 0 to {len(self.stage_names) - ('stem' in self.stage_names)}"
            )
        return self.stage_names.index(name)


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST:
        raise InputError(f"image_size={value!r:.80}: expected a number of pixels, 1 to {LARGEST:,}")
    return value


def _three(name: str, values: Any) -> list[float]:
    """The mean or the standard deviation of a colour's values, red, green and blue."""
    good = isinstance(values, list | tuple) and len(values) == 3
    good = good and all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    if not good or (name == "image_std" and min(values) <= 0):
        raise InputError(f"{name}={values!r:.80}: expected three numbers{' above 0' * (name == 'image_std')}")
    return list(values)
