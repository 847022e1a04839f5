"""A teacher's weights: where they come from, what licence they carry, and which dtype suits the machine."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from agssp.errors import InputError
from agssp.tensor_files import read_tensors

RESEARCH_ONLY = "research use only (Apple AMLR)"
# First letters of a tag -> licence of its weights, from the model cards; the first that fits counts.
LICENCES = {
    "datacompdr": RESEARCH_ONLY,  # MobileCLIP's
    "openai": "MIT",
    "laion": "MIT",
    "datacomp": "MIT",
    "commonpool": "MIT",
    "pypi": "Apache-2.0",
    "dfn": RESEARCH_ONLY,
    "metaclip": "CC-BY-NC-4.0",
    "random": "none",
}
# The same for the repository of an `hf-hub:` name, in lower case.
REPOSITORY_LICENCES = {
    "apple/dfn": RESEARCH_ONLY,
    "apple/mobileclip": RESEARCH_ONLY,
    "facebook/metaclip": "CC-BY-NC-4.0",
    "laion/": "MIT",
    "openai/": "MIT",
}


def best_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the hardware is good at it (`cuda_dtype`; CPUs with AMX or AVX512-bf16), else float32."""
    if device.type == "cuda":
        return cuda_dtype(torch.cuda.get_device_capability(device))
    # Older torch cannot be asked by a public name; float32 is right everywhere.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    good = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if good else torch.float32


def cuda_dtype(capability: tuple[int, int]) -> torch.dtype:
    """bf16 for a GPU that computes it in hardware: compute capability 8.0 (Ampere) or later; else float32."""
    return torch.bfloat16 if capability >= (8, 0) else torch.float32


def licence_of(tag: str | None, name: str = "") -> str:
    """Licence of a teacher's weights, as far as it is known; it decides what may be done with the maps.

    Args:
        tag: of open_clip or timm.
        name: of the teacher; that of an `hf-hub:` repository tells where there is no tag.
    """
    if tag is None and name.startswith("hf-hub:"):
        text, licences = name.removeprefix("hf-hub:").lower(), REPOSITORY_LICENCES
    else:
        text, licences = tag or "", LICENCES
    return next((licence for start, licence in licences.items() if text.startswith(start)), "unknown")


def load_weights(model: nn.Module, file: str | Path) -> None:
    """Load a safetensors state dict of the same network.

    Raises:
        InputError: no such file, or its keys or shapes are another network's.
    """
    path = Path(file)
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"--weights {file}: expected an existing .safetensors file")
    state = read_tensors(path)
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    wrong = sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape)
    # A classifier that the teacher does not use is the one thing a file may hold beside the network.
    unexpected = sorted(key for key in set(state) - set(own) if key.split(".")[0] not in ("fc", "head", "classifier"))
    if missing or wrong or unexpected:
        raise InputError(
            f"--weights {file}: is another network's: {len(missing)} keys missing ({', '.join(missing[:3])}), "
            f"{len(wrong)} of other shape ({', '.join(wrong[:3])}), {len(unexpected)} unexpected "
            f"({', '.join(unexpected[:3])})"
        )
    model.load_state_dict({key: value for key, value in state.items() if key in own})


def safetensors_file(name: str, repository: str, file: str) -> Path:
    """Download a teacher's weights, which must be safetensors: a file that came from elsewhere named the teacher.

    Args:
        name: of the teacher, for errors.
        repository: OWNER/NAME on the Hub.
        file: in that repository, with the suffix .safetensors.

    Raises:
        InputError: there is no such file, or the Hub cannot be asked.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    from agssp.hub_client.errors import hub_errors

    with hub_errors(repository):
        try:
            return Path(hf_hub_download(repository, file))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError as error:
            raise pickles_refused(name, f"{repository} has no {file}") from error


def pickles_refused(name: str, reason: str) -> InputError:
    """The error for a teacher without safetensors, where nobody on this machine has named it."""
    return InputError(
        f"teacher {name}: {reason}, and nothing else is opened because a saved file says so: pickled weights (.bin, "
        f'.pt) can run code. Ask its owner for safetensors, or, if you trust it, name it yourself: teacher="{name}"'
    )


def file_hash(file: str | Path) -> str:
    """The first 16 hexadecimal digits of a file's sha256."""
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]
