"""What the Hub reads in a card's metadata: the YAML between the first two lines of three dashes in README.md."""

import re

import yaml

# Those that the Hub knows (docs/hub/repositories-licenses); it refuses a card that names another one.
LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd
bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0
cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m
deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1
lgpl-3.0 lgpl-lr llama2 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 other pddl
postgresql unknown unlicense wtfpl zlib
"""

TYPES: dict[str, type | tuple[type, ...]] = {
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
        ValueError: they are no YAML mapping.
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
        value = found.get(name)
        if value is not None and not isinstance(value, types):
            errors.append(f'"{name}" must be {types}, got {value!r}')
    if errors:
        return errors, []
    named = found.get("license") or []
    for license in [named] if isinstance(named, str) else named:
        if license not in LICENSES.split():
            errors.append(f'"license" must be one of those the Hub knows, got {license!r}')
    for model in found.get("model-index") or []:
        if not isinstance(model, dict) or not {"name", "results"} <= model.keys():
            errors.append('"model-index" entries need "name" and "results"')
    warnings = [] if found else ["empty or missing yaml metadata in repo card"]
    if "other" in named and not found.get("license_name"):
        warnings.append('"license: other" should come with a "license_name"')
    return errors, warnings
