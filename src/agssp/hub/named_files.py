"""Names of a user's own files in what a model's push uploads: left out, told, or published as digests."""

import json
import re
from pathlib import Path
from typing import Any

from agssp.hub.image_ids import published_id
from agssp.tensor_files import facts_of, open_tensors

_NO_NAME = re.compile(r"reference \d+|[0-9a-f]{16,64}")
"""What references are called that were given no name, and hashes of their content."""


def published_run(run: dict[str, Any], ids: str) -> tuple[dict[str, Any], list[str]]:
    """A run's record as it is published.

    Files that the reports of reading name as examples are left out, at any depth; images that were skipped are named
    as `ids` says.

    Args:
        run: content of run.json.
        ids: one of `image_ids.IDS`.

    Returns:
        The record, and the names of images in it, as the folder has them.
    """
    names: list[str] = []
    return _published(run, ids, names), names


def _published(value: Any, ids: str, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_published(part, ids, names) for part in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, part in value.items():
        if key == "skipped" and isinstance(part, dict):
            names += part
            found[key] = {
                (shown := published_id(name, ids)): str(reason).replace(name, shown) for name, reason in part.items()
            }
        elif key == "reading":
            found[key] = _without_examples(part)
        else:
            found[key] = _published(part, ids, names)
    return found


def _without_examples(value: Any) -> Any:
    """A report of reading without the places where something happened; `ReadReport.as_json(places=False)`."""
    if not isinstance(value, dict):
        return value
    empty = {"examples": [], "labels_from": ""}
    return {key: empty[key] if key in empty else _without_examples(part) for key, part in value.items()}


def published_references(file: Path, ids: str) -> tuple[Path | bytes, list[str]]:
    """The references of a KeAD as they are published.

    Args:
        file: references.safetensors.
        ids: one of `image_ids.IDS`.

    Returns:
        The file, or with digests its content with other names; and the names of images in it, as the folder has them.

    Raises:
        InputError: it cannot be read.
    """
    from safetensors.torch import save

    with open_tensors(file) as content:
        facts = facts_of(content, "banks", file)
        banks = facts.values() if isinstance(facts, dict) else ()
        lists = [
            bank["image_ids"] for bank in banks if isinstance(bank, dict) and isinstance(bank.get("image_ids"), list)
        ]
        names = [str(name) for names in lists for name in names if not _NO_NAME.fullmatch(str(name))]
        if ids != "hash" or not names:
            return file, names
        tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    for each in lists:
        each[:] = [name if _NO_NAME.fullmatch(str(name)) else published_id(str(name), ids) for name in each]
    return save(tensors, metadata={"banks": json.dumps(facts, sort_keys=True)}), names
