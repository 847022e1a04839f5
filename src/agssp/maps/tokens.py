"""How many tokens a text takes for a teacher's tokenizer, without building the teacher."""

import difflib
from collections.abc import Callable
from typing import Any

from agssp.errors import InputError
from agssp.maps.clip_configs import check_clip_config


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
        InputError: unknown name, a configuration that asks for too much (see `check_clip_config`), a tokenizer that is
            code, or one whose files cannot be read.
    """
    import open_clip

    check_model_name(name)
    text = check_clip_config(name)
    # open_clip's own tokenizer has no such option.
    options = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
    try:
        return open_clip.get_tokenizer(name, **options)
    except (OSError, TypeError, ValueError, AttributeError, LookupError) as error:
        if "trust_remote_code" in str(error):
            raise InputError(
                f"teacher {name}: its tokenizer is code of its own, and none but this machine's packages is ever run; "
                "use another teacher"
            ) from error
        raise InputError(f"teacher {name}: its tokenizer could not be loaded: {error}") from error


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
