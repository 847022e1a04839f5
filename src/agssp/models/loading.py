"""What opening a saved model of ours has in common: whose it is, safetensors alone, and errors that say what to do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from agssp.errors import InputError
from agssp.files import read_json
from agssp.tensor_files import EXPECTED

SETTINGS = ("config.json", "preprocessor_config.json", "generation_config.json", SAFE_WEIGHTS_INDEX_NAME)
HUB_OPTIONS = ("cache_dir", "revision", "token", "local_files_only", "subfolder")


@contextmanager
def opening(kind: str, name: str | PathLike | None) -> Iterator[None]:
    """Turn what transformers and the Hub's client raise into an InputError.

    Args:
        kind: what is opened, for the message, such as `detector`.
        name: folder or Hub id.

    Raises:
        InputError: it cannot be opened.
    """
    _check_settings(name)
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
        if isinstance(error, SafetensorError):
            raise InputError(f"{kind} {str(name)!r} cannot be opened: its weights are {EXPECTED} ({error})") from error
        if not isinstance(error, OSError):
            raise
        raise InputError(
            f"{kind} {str(name)!r} cannot be opened; expected a folder that one was saved to, or the name of such a "
            f"repository on the Hub: {error}"
        ) from error


def _check_settings(name: str | PathLike | None) -> None:
    """Name the settings of a folder that are no JSON, of which transformers and others say this or that."""
    for file in SETTINGS:
        if name is not None and (place := Path(name) / file).is_file():
            read_json(place, remedy="fetch or save the model again")


def require_safetensors(kind: str, name: str | PathLike, options: Mapping[str, Any]) -> None:
    """Refuse a model whose weights are pickled: transformers would have the Hub convert them.

    Args:
        kind: what is opened, for the message.
        name: folder or Hub id.
        options: of `from_pretrained`.

    Raises:
        InputError: it has no weights as safetensors.
        OSError: there is no such folder or repository, or it cannot be asked.
    """
    hub = {key: options[key] for key in HUB_OPTIONS if options.get(key) is not None}
    missing: Exception | None = None
    for file in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
        if (Path(name) / hub.get("subfolder", "") / file).is_file():
            return
        if Path(name).is_dir():
            continue
        try:
            hf_hub_download(str(name), file, **hub)
            return
        except EntryNotFoundError as error:
            # That it is not in the cache, while nobody can be asked, tells more than that there is no such file.
            missing = missing if isinstance(missing, LocalEntryNotFoundError) else error
    if isinstance(missing, LocalEntryNotFoundError):
        raise missing
    raise InputError(
        f"{kind} {str(name)!r} cannot be opened: it holds no {SAFE_WEIGHTS_NAME}, and nothing else is opened: pickled "
        "weights (.bin, .pt) run code when they are. Ask its owner to save it as safetensors"
    ) from missing


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
