"""How many tokens a text takes for a teacher's tokenizer, without building the teacher."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.files import read_json

CONFIG = "open_clip_config.json"


def check_model_name(name: str) -> None:
    """Raise for a plain name (no `hf-hub:` or `local-dir:`) that open_clip does not know.

    Raises:
        InputError: unknown name; near ones are shown.
    """
    import open_clip
    import timm

    if name.startswith(("hf-hub:", "local-dir:")) or name in open_clip.list_models():
        return
    if timm.is_model(name):
        raise InputError(f"teacher {name}: open_clip has no such model, but timm has; give timm:{name}")
    near = difflib.get_close_matches(name, open_clip.list_models(), n=4)
    told = (
        f"near are {', '.join(near)}"
        if near
        else "`open_clip.list_models()` lists them; a network of timm is timm:NAME"
    )
    raise InputError(f"teacher {name}: open_clip has no such model; {told}")


def load_tokenizer(name: str) -> Any:
    """Tokenizer of an open_clip model; code that a folder or repository brings along is never run.

    Raises:
        InputError: unknown name, or the tokenizer's files cannot be read.
    """
    import open_clip

    check_model_name(name)
    try:
        return open_clip.get_tokenizer(name, **_options(name))
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"teacher {name}: its tokenizer could not be loaded: {error}") from error


def _options(name: str) -> dict[str, Any]:
    """What overrides the options in a foreign open_clip_config.json, which may ask transformers to run foreign code."""
    if not name.startswith(("hf-hub:", "local-dir:")):
        return {}
    try:
        text = read_json(_config_file(name))["model_cfg"]["text_cfg"]
        ours = not text.get("hf_tokenizer_name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        ours = False
    # open_clip's own tokenizer has no such option.
    return {} if ours else {"trust_remote_code": False}


def _config_file(name: str) -> Path:
    kind, _, place = name.partition(":")
    if kind == "local-dir":
        return Path(place) / CONFIG
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(place, CONFIG))


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of a text before any truncation, start and end included.

    Args:
        tokenizer: open_clip's SimpleTokenizer or HFTokenizer.
        text: one prompt.
    """
    from open_clip.tokenizer import SimpleTokenizer

    if isinstance(tokenizer, SimpleTokenizer):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(tokenizer.clean_fn(text))["input_ids"])


def prompt_counter(name: str) -> tuple[Callable[[str], int], int]:
    """A function that counts the tokens of a text for an open_clip model, and the most that the model reads.

    Raises:
        InputError: see `load_tokenizer`.
    """
    tokenizer = load_tokenizer(name)
    return (lambda text: count_tokens(tokenizer, text)), int(tokenizer.context_length)
