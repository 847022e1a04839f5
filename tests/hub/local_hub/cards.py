"""What the Hub reads in a card's metadata: the YAML between the first two lines of three dashes in README.md."""

import re

import yaml

TYPES = {
    "base_model": (str, list),
    "configs": list,
    "datasets": (str, list),
    "language": (str, list),
    "library_name": str,
    "license": (str, list),
    "license_link": str,
    "license_name": str,
    "metrics": list,
    "model-index": list,
    "pipeline_tag": str,
    "pretty_name": str,
    "size_categories": (str, list),
    "tags": list,
    "task_categories": list,
}


def metadata(readme: str) -> dict:
    """The metadata of a card; empty where it has none.

    Raises:
        ValueError: They are no YAML mapping.
    """
    block = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", readme, re.DOTALL)
    if not block:
        return {}
    try:
        found = yaml.safe_load(block[1]) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"YAML metadata cannot be parsed: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("YAML metadata must be a mapping of names to values")
    return found


def validate(readme: str) -> tuple[list[str], list[str]]:
    """Errors, for which the Hub refuses the card, and warnings."""
    try:
        found = metadata(readme)
    except ValueError as error:
        return [str(error)], []
    errors = []
    for name, types in TYPES.items():
        if found.get(name) is not None and not isinstance(found[name], types):
            errors.append(f'"{name}" must be {types}, got {found[name]!r}')
    for model in found.get("model-index") or [] if not errors else []:
        if not isinstance(model, dict) or not {"name", "results"} <= model.keys():
            errors.append('"model-index" entries need "name" and "results"')
    return errors, [] if found else ["empty or missing yaml metadata in repo card"]
