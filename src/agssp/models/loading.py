"""What opening a saved model of ours has in common: whose it is, safetensors alone, and errors that say what to do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

from agssp.errors import InputError

HUB_OPTIONS = ("cache_dir", "revision", "token", "local_files_only", "subfolder")
PICKLED = "pytorch_model.bin"


@contextmanager
def opening(kind: str, name: str | PathLike | None) -> Iterator[None]:
    """Turn what transformers and the Hub's client raise into an InputError.

    Args:
        kind: what is opened, for the message, such as `detector`.
        name: folder or Hub id.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # The client is imported with transformers anyway; the rooms that publish are not.
        from agssp.hub.errors import explain

        told = explain(error, str(name))
        if told is not None:
            raise InputError(f"{kind} {str(name)!r} cannot be opened: {told.removeprefix(f'{name}: ')}") from error
        if not isinstance(error, OSError):
            raise
        if PICKLED in str(error) or ".safetensors" in str(error):
            raise InputError(
                f"{kind} {str(name)!r} cannot be opened: it holds no model.safetensors, which alone is opened: pickled weights "
                f"({PICKLED}) run code when they are. Ask its owner to save it as safetensors"
            ) from error
        raise InputError(
            f"{kind} {str(name)!r} cannot be opened; expected a folder that one was saved to, or the name of such a "
            f"repository on the Hub: {error}"
        ) from error


def saved_model_type(config_class: Any, name: str | PathLike, options: Mapping[str, Any]) -> str | None:
    """model_type of a saved config.json; None where it names none, as timm's do not.

    Args:
        config_class: any of transformers' configuration classes.
        name: folder or Hub id.
        options: of `from_pretrained`.
    """
    hub = {key: options[key] for key in HUB_OPTIONS if options.get(key) is not None}
    found, _ = config_class.get_config_dict(str(name), **hub)
    kind = found.get("model_type")
    # What transformers calls a config.json of timm's when it reads it.
    return None if kind == "timm_wrapper" else kind
