"""Tables of YAML: find them, lay one over the other, and check their keys."""

import difflib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.parsing import parse_yaml, read_yaml


def packaged_studies() -> list[str]:
    """Names of the studies that come with the package."""
    names = (Path(item.name) for item in files("agssp.study").joinpath("studies").iterdir())
    return sorted(name.stem for name in names if name.suffix == ".yaml" and not name.stem.startswith("_"))


def near(word: str, known: Iterable[str]) -> str:
    """A hint at names like this one, or a list of all."""
    names = [str(name) for name in known]
    found = difflib.get_close_matches(word, names, n=3)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else f"known are {', '.join(names) or 'none'}"


def load_table(source: str) -> Any:
    """The table of a study file, laid over that of the study which it `extends`.

    Tables are laid over each other key by key, and a key whose value is nothing is taken away; lists and other values
    replace what was there.

    Raises:
        InputError: there is no such study, it is not YAML, or it extends itself.
    """
    table, seen = _load(source), [source]
    while isinstance(table, dict) and isinstance(table.get("extends"), str):
        parent = table.pop("extends")
        if parent in seen:
            raise InputError(f"study {source}: extends itself, by way of {' and '.join(seen)}")
        seen.append(parent)
        under = _load(parent)
        table = _laid_over(under, table) if isinstance(under, dict) else table
    if not isinstance(table, dict):
        raise InputError(f"study {source}: expected a table with a title and scales, got {type(table).__name__}")
    return table


def _load(source: str) -> Any:
    packaged = files("agssp.study").joinpath("studies", f"{source}.yaml")
    if Path(source).suffix in (".yaml", ".yml"):
        if not Path(source).is_file():
            raise InputError(f"study {source}: no such file; packaged are {', '.join(packaged_studies())}")
        return read_yaml(source, name=f"study {source}")
    elif source.replace("_", "").isalnum() and packaged.is_file():
        return parse_yaml(packaged.read_text(encoding="utf-8"), f"study {source}")
    else:
        raise InputError(f"study {source!r}: not packaged and no .yaml file; {near(source, packaged_studies())}")


def _laid_over(under: dict, over: dict) -> dict:
    result = dict(under)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = _laid_over(result[key], value)
        else:
            result[key] = value
    return result


def checked(
    table: Any, where: str, expected: Mapping[str, Any], faults: list[str], required: Iterable[str] = ()
) -> dict[str, Any]:
    """The entries of a table that are known and of the right type; a fault for each other one."""
    if not isinstance(table, dict):
        faults.append(f"{where}: expected a table of {', '.join(expected)}, got {table!r}")
        return {}
    result = {}
    for key, value in table.items():
        if key not in expected:
            faults.append(f"{where}: no key {key!r}; {near(str(key), expected)}")
        elif value is not None and (not isinstance(value, expected[key]) or isinstance(value, bool)):
            types = expected[key] if isinstance(expected[key], tuple) else (expected[key],)
            faults.append(f"{where}.{key}: expected {' or '.join(type.__name__ for type in types)}, got {value!r}")
        elif value is not None:
            result[key] = value
    faults += [f"{where}: lacks {key!r}" for key in required if key not in table]
    return result
