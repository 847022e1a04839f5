"""What an open_clip_config.json from elsewhere may not ask for: code, other networks, files of this machine."""

import json
from collections.abc import Mapping
from typing import Any

from agssp.errors import InputError
from agssp.network_sizes import check_sizes
from agssp.saved_configs import check_config

CONFIG = "open_clip_config.json"
ELSEWHERE = ("hf-hub:", "local-dir:")

TOKENIZER_OPTIONS = (
    "clean",
    "strip_sep_token",
    "language",
    "reduction_mask",
    "additional_special_tokens",
    "trust_remote_code",
)
"""What a configuration may tell a tokenizer; the last one is overruled."""


def check_clip_config(name: str) -> dict[str, Any]:
    """Refuse an open_clip model whose configuration asks for more than its own network and tokenizer.

    Args:
        name: open_clip model name, `hf-hub:org/name` or `local-dir:/path`.

    Returns:
        The configuration of its text side.

    Raises:
        InputError: its vision side is a network of timm's by its name, its text side a model of transformers' that
            asks for code (see `check_config`), its tokenizer's options name other things than `TOKENIZER_OPTIONS`, its
            numbers are beyond all networks (see `check_sizes`), or it cannot be read.
    """
    owner = f"teacher {name}"
    model = _model_config(name)
    vision, text = (_table(model, key, owner) for key in ("vision_cfg", "text_cfg"))
    check_sizes(model, owner, CONFIG)
    if not name.startswith(ELSEWHERE):
        _check_text_model(text, owner)
        return text
    if vision.get("timm_model_name"):
        raise InputError(
            f"{owner}: its {CONFIG} names a network of timm as its vision tower (timm_model_name="
            f"{vision['timm_model_name']!r:.80}), expected open_clip's VisionTransformer; use a ViT"
        )
    strange = sorted(set(_table(text, "tokenizer_kwargs", owner)) - set(TOKENIZER_OPTIONS))
    if strange:
        raise InputError(
            f"{owner}: its {CONFIG} gives its tokenizer {strange[0]!r:.80} (tokenizer_kwargs), expected some of "
            f"{', '.join(TOKENIZER_OPTIONS[:-1])}; ask its owner for one without"
        )
    _check_text_model(text, owner)
    return text


def _check_text_model(text: Mapping[str, Any], owner: str) -> None:
    """Look at the configuration that open_clip hands to transformers without a word on code."""
    name = text.get("hf_model_name")
    if not name:
        return
    from transformers import PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(str(name))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{owner}: the configuration of its text model {name!r:.80} cannot be read: {error}"
        ) from error
    check_config(config, f"{owner}: its text model {name!r:.80}")


def _model_config(name: str) -> dict[str, Any]:
    """The configuration that open_clip builds a model of."""
    import open_clip

    try:
        found = open_clip.get_model_config(name)
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"teacher {name}: could not be loaded: {error}") from error
    return _table({"model_cfg": found}, "model_cfg", f"teacher {name}")


def _table(config: Mapping[str, Any], key: str, owner: str) -> dict[str, Any]:
    found = config.get(key)
    if found is not None and not isinstance(found, dict):
        raise InputError(f"{owner}: {key} of its {CONFIG} is {json.dumps(found)[:60]}, expected names and values")
    return found or {}
