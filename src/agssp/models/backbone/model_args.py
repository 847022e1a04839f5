"""Which keyword arguments reach `timm.create_model`: those that shape a network, with plain values.

A config.json may come from anybody, and timm takes names of files and addresses by the same door.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from agssp.errors import InputError
from agssp.network_sizes import check_sizes

_INPUT = (
    "in_chans img_size patch_size patch_stride patch_kernel window_size window_sizes window_ratio "
    "strict_img_size dynamic_img_size dynamic_img_pad always_partition global_pos_size"
)
_WIDTHS = (
    "embed_dim embed_dims depth depths dim dims widths width depth_mult width_mult layers channels stages strides "
    "num_heads heads head_dim mlp_ratio mlp_ratios expand_ratio expand_ratios attn_ratio num_features hidden_sizes "
    "growth_rate block_config bn_size cardinality base_width kernel_size kernel_sizes sr_ratios downsamples "
    "output_stride block_reduce_first down_kernel_size avg_down multi_conv conv_mlp conv_bias se_ratio"
)
_STEM = (
    "stem_type stem_width stem_size stem_chs stem_channels stem_kernel_size stem_stride stem_bias stem_norm "
    "stem_hidden_dim replace_stem_pool fix_stem"
)
_KINDS = "act_layer norm_layer aa_layer embed_norm_layer norm_eps pre_norm final_norm use_lab use_grn swiglu_mlp"
_ATTENTION = (
    "qkv_bias qk_norm proj_bias pos_embed use_rel_pos use_abs_pos_emb use_rot_pos_emb class_token reg_tokens "
    "no_embed_class use_pos_embed rope_type rope_theta rope_temperature ref_feat_shape"
)
_STARTS = "init_values layer_scale layer_scale_init_value ls_init_value head_init_scale zero_init_last"
_TRAINING = "drop_rate drop_path_rate attn_drop_rate proj_drop_rate pos_drop_rate patch_drop_rate drop_block_rate"
# What belongs to a classifier, which there is none of, but configurations have it.
_CLASSIFIER = "global_pool fc_norm head_hidden_size head_norm_first"

ALLOWED = frozenset(" ".join((_INPUT, _WIDTHS, _STEM, _KINDS, _ATTENTION, _STARTS, _TRAINING, _CLASSIFIER)).split())
"""Arguments of timm's networks that a configuration may have."""

LARGEST = 16_384
LONGEST, DEEPEST = 64, 3
_WORD = re.compile(r"[A-Za-z0-9_]{0,32}")


def check_model_args(architecture: str, model_args: Any) -> None:
    """Refuse whatever is no plain argument that shapes a network.

    Args:
        architecture: whose arguments they are, for the message.
        model_args: names and values; numbers of at most `LARGEST`, truth values, words of letters, digits and
            underscores, None, and lists of these.

    Raises:
        InputError: another argument, another value, or more layers than any network has (see `check_sizes`).
    """
    where = f"model_args of {architecture}"
    if not isinstance(model_args, Mapping):
        raise InputError(f"{where}: expected names and values, got {_shown(model_args)}")
    for name, value in model_args.items():
        if name not in ALLOWED:
            raise InputError(
                f"{where}: {_shown(name)} is none of the arguments that shape a network, and no other reaches timm; "
                "take it out of the configuration"
            )
        if not _is_plain(value):
            raise InputError(
                f"{where}: {name} is {_shown(value)}; expected a number of at most {LARGEST:,}, true, false, null, a "
                f"word of letters, digits and underscores, or a list of at most {LONGEST} such"
            )
    check_sizes(model_args, where, "configuration")


def _is_plain(value: Any, depth: int = 0) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= LARGEST
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    if isinstance(value, list | tuple):
        return depth < DEEPEST and len(value) <= LONGEST and all(_is_plain(part, depth + 1) for part in value)
    return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
