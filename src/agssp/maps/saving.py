"""KeAD as a folder: settings, words and reference patches; of the teacher's weights only where they come from."""

import json
from pathlib import Path
from typing import Any

import yaml

from agssp.errors import InputError
from agssp.files import whole_files, write_text
from agssp.maps.knowledge_base import KnowledgeBase
from agssp.maps.teacher_weights import file_hash
from agssp.network_sizes import check_sizes
from agssp.parsing import read_json

MODEL_TYPE = "agssp_kead"
CONFIG, KNOWLEDGE, REFERENCES = "config.json", "knowledge.yaml", "references.safetensors"
FILES = (CONFIG, KNOWLEDGE, REFERENCES)
_NEEDED = ("teacher", "layers", "image_size", "dtype", "image_score")
_TYPES: dict[str, tuple[Any, ...]] = {
    "teacher": (str,),
    "pretrained": (str, None),
    "weights": (str, None),
    "weights_sha256": (str, None),
    "layers": ([int],),
    "image_size": (int,),
    "surgery_from": (int, None),
    "dtype": (str,),
    "image_score": (str,),
}
"""What each field is; a list stands for one of such values."""
_LARGEST = 16_384
_MOST_SIDE = 4096
"""px: networks of timm with positions are built for the side that is asked for."""
_CHECKED = ("layers", "image_size", "grid_size", "surgery_from", "knowledge")
"""What must be the same again after loading; with the weights' hash it decides the maps."""


def save_kead(kead: Any, folder: str | Path) -> None:
    """Write a KeAD to a folder.

    Args:
        kead: a `KeAD`.
        folder: gets config.json, knowledge.yaml (teachers that read text), and references.safetensors with the
            reference patches and the text features computed so far.

    Raises:
        InputError: the teacher has random weights.
    """
    if kead.teacher.pretrained == "random":
        raise InputError(f"teacher {kead.teacher.name}: its random weights would be others when it is opened again")
    config = {
        "model_type": MODEL_TYPE,
        **kead.describe(),
        "weights": None if kead.teacher.weights is None else str(kead.teacher.weights),
        "categories": {name: len(bank.image_ids) for name, bank in kead.banks.items()},
        "described": [] if kead.knowledge is None else list(kead.knowledge.categories),
    }
    with whole_files(folder, last=CONFIG) as part:
        if kead.knowledge is not None:
            words = {
                name: {"object": entry.object, "normal": list(entry.normal), "defects": dict(entry.defects)}
                for name, entry in kead.knowledge.categories.items()
            }
            write_text(part / KNOWLEDGE, yaml.safe_dump(words, sort_keys=False, allow_unicode=True))
        kead.save_references(part / REFERENCES)
        write_text(part / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def open_kead(
    kead_class: Any,
    source: str | Path,
    *,
    teacher: str | None = None,
    weights: str | Path | None = None,
    device: Any = None,
    dtype: Any = None,
    **hub: Any,
) -> Any:
    """Open what `save_kead` wrote.

    Args:
        kead_class: `KeAD`.
        source: folder or Hub id.
        teacher: instead of the recorded one: where a local teacher lies on this machine.
        weights: the same for a safetensors file of its weights.
        device: default: CUDA where there is one.
        dtype: default: as it was saved with.
        hub: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        InputError: it holds no KeAD, the teacher cannot be loaded, is not the one that it was saved with, or has no
            safetensors though nobody but the saved file names it.
    """
    folder = _folder(source, hub)
    config = _config(folder, source)
    if weights is None and teacher is None:
        weights = config.get("weights")
    if weights is not None and not Path(weights).is_file():
        local = str(config["teacher"]).startswith("local-dir:")
        raise InputError(
            f"{source}: its teacher's weights were a file ({weights}), which is not on this machine; give "
            + ('teacher="local-dir:/FOLDER/OF/TEACHER"' if local else "weights=FILE.safetensors")
        )
    expected = config.get("weights_sha256")
    if weights is not None:
        _check_weights(source, expected, file_hash(weights), str(weights))
    vision_only = str(config["teacher"]).startswith("timm:")
    kead = kead_class.from_teacher(
        teacher or config["teacher"],
        config.get("pretrained"),
        weights,
        KnowledgeBase.load(folder / KNOWLEDGE) if (folder / KNOWLEDGE).is_file() else None,
        layers=config["layers"],
        surgery_from=config.get("surgery_from"),
        image_size=config["image_size"] if vision_only else None,
        dtype=dtype or config["dtype"],
        device=device,
        image_score=config["image_score"],
        subtract_empty_prompt=config.get("subtract_empty_prompt") is not False,
        # The folder may come from anybody; only who sits here may say that a pickle is to be trusted.
        safetensors_only=teacher is None,
    )
    made = kead.describe()
    # A teacher that was named brought weights of its own.
    _check_weights(source, expected, made["weights_sha256"], f"teacher {teacher}")
    other = [name for name in _CHECKED if made[name] != config.get(name)]
    if other:
        differences = "; ".join(f"{name}: saved {config.get(name)}, now {made[name]}" for name in other)
        raise InputError(f"{source}: cannot be made again as it was saved ({differences})")
    kead.load_references(folder / REFERENCES)
    return kead


def _check_weights(source: str | Path, expected: str | None, found: str | None, name: str) -> None:
    if expected is not None and found != expected:
        raise InputError(
            f"{source}: was made with weights of sha256 {expected}..., {name} has {found or 'others'}...; its "
            "references would be compared with another teacher's patches"
        )


def _folder(source: str | Path, hub: dict[str, Any]) -> Path:
    """The folder itself, or the files of a repository in the cache."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    from agssp.hub_client.errors import hub_errors

    with hub_errors(str(source)):
        return Path(snapshot_download(str(source), allow_patterns=list(FILES), **hub))


def _config(folder: Path, source: str | Path) -> dict[str, Any]:
    file = folder / CONFIG
    try:
        config = read_json(file)
    except (OSError, InputError) as error:
        raise InputError(f"{source}: holds no readable {CONFIG} of a KeAD: {error}") from error
    if config.get("model_type") != MODEL_TYPE:
        raise InputError(f"{source}: a model of type {config.get('model_type')!r}; expected {MODEL_TYPE!r}")
    missing = [name for name in _NEEDED if name not in config]
    if missing:
        raise InputError(f"{source}: its {CONFIG} lacks {', '.join(missing)}; save the KeAD again")
    for name, kinds in _TYPES.items():
        if not any(_is_a(config.get(name), kind) for kind in kinds):
            raise InputError(
                f"{source}: {name} of its {CONFIG} is {config.get(name)!r:.80}, which no KeAD was saved with"
            )
    check_sizes(config, f"KeAD {str(source)!r}", CONFIG)
    if config["image_size"] > _MOST_SIDE:
        raise InputError(
            f"{source}: image_size of its {CONFIG} is {config['image_size']:,} px; expected {_MOST_SIDE:,} at most"
        )
    return config


def _is_a(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if isinstance(kind, list):
        return isinstance(value, list) and len(value) <= _LARGEST and all(_is_a(part, kind[0]) for part in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    return isinstance(value, kind)
