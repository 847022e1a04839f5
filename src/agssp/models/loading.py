"""What opening a saved model of ours has in common: whose it is, no code, safetensors alone, and errors that help."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.import_utils import is_peft_available

from agssp.errors import InputError
from agssp.files import restore_folder
from agssp.network_sizes import built_within, stored_numbers
from agssp.parsing import read_json
from agssp.saved_configs import check_config
from agssp.tensor_files import EXPECTED

SETTINGS = ("config.json", "preprocessor_config.json", "generation_config.json", SAFE_WEIGHTS_INDEX_NAME)
HUB_OPTIONS = ("cache_dir", "revision", "token", "local_files_only", "subfolder")
ADAPTER = "adapter_config.json"


@contextmanager
def opening(kind: str, name: str | PathLike | None) -> Iterator[None]:
    """Turn what transformers and the Hub's client raise into an InputError.

    Args:
        kind: what is opened, for the message, such as `detector`.
        name: folder or Hub id.

    Raises:
        InputError: it cannot be opened.
    """
    if name is not None:
        restore_folder(name)
        _check_settings(name)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # The client is imported with transformers anyway; the rooms that publish are not.
        from agssp.hub_client.errors import explain

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


@contextmanager
def checked(kind: str, config_class: Any, name: str | PathLike, options: Mapping[str, Any]) -> Iterator[None]:
    """Around what opens a saved model: refuse one that asks for more than its own weights as safetensors.

    Within the block no network is built that has far more parameters than the weights have numbers.

    Args:
        kind: what is opened, for the message.
        config_class: of the model.
        name: folder or Hub id.
        options: of `from_pretrained`.

    Raises:
        InputError: its config.json asks for code, other files or other repositories, for more than any network has (see
            `check_config`), for far more than its weights hold (see `built_within`) or cannot be used, an adapter lies
            beside it, or its weights are no safetensors.
        OSError: there is no such folder or repository, or it cannot be asked.
    """
    owner, hub = f"{kind} {str(name)!r}", _hub_options(options)
    check_config(saved_config(name, options), owner)
    try:
        # Features are found by building the backbone without memory.
        with built_within(None, owner):
            config_class.from_pretrained(str(name), **hub)
    except InputError as error:
        raise InputError(f"{owner}: its config.json cannot be used: {error}") from error
    except OSError:
        raise
    except Exception as error:
        # Every field is a stranger's; each class has its own ways to fail on one.
        raise InputError(f"{owner}: its config.json cannot be used: {type(error).__name__}: {error}") from error
    _refuse_adapters(owner, name, hub)
    files = require_safetensors(kind, name, options)
    with built_within(stored_numbers(files), owner):
        yield


def saved_config(name: str | PathLike, options: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the config.json that transformers would read; nothing is made of it.

    Args:
        name: folder or Hub id.
        options: of `from_pretrained`.

    Raises:
        OSError: there is no such folder or repository, no such file in it, or it cannot be read.
    """
    try:
        found, _ = PreTrainedConfig.get_config_dict(str(name), **_hub_options(options))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise OSError(f"its config.json is none: {error!r}") from error
    if not isinstance(found, dict):
        raise OSError("its config.json is none: expected names and values")
    return found


def _check_settings(name: str | PathLike | None) -> None:
    """Name the settings of a folder that are no JSON, of which transformers and others say this or that."""
    for file in SETTINGS:
        if name is not None and (place := Path(name) / file).is_file():
            read_json(place, remedy="fetch or save the model again")


def require_safetensors(kind: str, name: str | PathLike, options: Mapping[str, Any]) -> list[Path]:
    """Refuse a model whose weights are pickled: transformers would have the Hub convert them.

    Args:
        kind: what is opened, for the message.
        name: folder or Hub id.
        options: of `from_pretrained`.

    Returns:
        The files of its weights, on this machine.

    Raises:
        InputError: it has no weights as safetensors, or its index names other files.
        OSError: there is no such folder or repository, or it cannot be asked.
    """
    hub = _hub_options(options)
    missing: Exception | None = None
    for file in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
        if Path(name).is_dir():
            found = Path(name) / hub.get("subfolder", "") / file
            if not found.is_file():
                continue
            return [found.parent / shard for shard in _shards(found)]
        try:
            found = Path(hf_hub_download(str(name), file, **hub))
            # transformers takes them from the cache afterwards.
            return [
                found if shard == file else Path(hf_hub_download(str(name), shard, **hub)) for shard in _shards(found)
            ]
        except EntryNotFoundError as error:
            # That it is not in the cache, while nobody can be asked, tells more than that there is no such file.
            missing = missing if isinstance(missing, LocalEntryNotFoundError) else error
    if isinstance(missing, LocalEntryNotFoundError):
        raise missing
    raise InputError(
        f"{kind} {str(name)!r} cannot be opened: it holds no {SAFE_WEIGHTS_NAME}, and nothing else is opened: pickled "
        "weights (.bin, .pt) run code when they are. Ask its owner to save it as safetensors"
    ) from missing


def _shards(file: Path) -> list[str]:
    """Names of the files of weights; an index that names anything but safetensors beside it is refused.

    transformers would open whatever it names.
    """
    if not file.name.endswith(".index.json"):
        return [file.name]
    places = read_json(file, keys=("weight_map",))["weight_map"]
    names = set(map(str, places.values())) if isinstance(places, dict) else {str(places)}
    strange = sorted(name for name in names if Path(name).name != name or not name.endswith(".safetensors"))
    if strange:
        raise InputError(f"{file}: expected names of .safetensors files beside it, got {strange[0]!r}")
    return sorted(names)


def _refuse_adapters(owner: str, name: str | PathLike, hub: dict[str, Any]) -> None:
    """Refuse an adapter of PEFT: where that is installed, it names another model, which is opened in its place."""
    found = (Path(name) / hub.get("subfolder", "") / ADAPTER).is_file()
    if not found and not Path(name).is_dir() and is_peft_available():
        try:
            hf_hub_download(str(name), ADAPTER, **hub)
            found = True
        except EntryNotFoundError:
            pass
    if found:
        raise InputError(
            f"{owner}: holds {ADAPTER}, an adapter of another model, and none is opened; merge the two and save the "
            "whole, or open a copy without the file"
        )


def _hub_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: options[key] for key in HUB_OPTIONS if options.get(key) is not None}


def saved_model_type(name: str | PathLike, options: Mapping[str, Any]) -> str | None:
    """model_type of a saved config.json; None where it names none, as timm's do not.

    Args:
        name: folder or Hub id.
        options: of `from_pretrained`.
    """
    kind = saved_config(name, options).get("model_type")
    # What transformers calls a config.json of timm's when it reads it.
    return None if kind == "timm_wrapper" else kind
