"""A module imports from its own room and lower ones only, and no two modules need each other."""

import ast
from collections import deque
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import agssp

ROOT = Path(agssp.__file__).parent
FLOORS = (
    "ground", "data", "maps", "boxes", "models", "evaluation", "training", "report", "hub", "sources", "steps", "study",
    "commands", "cli", "top",
)  # fmt: skip
"""Rooms, the lowest first."""
ABOVE = {
    "__init__": "top", "auto_classes": "top", "cli": "cli", "__main__": "cli", "arguments": "cli", "flag_parser": "cli",
    "hub_client": "ground",
}  # fmt: skip
"""Files and folders of the package that are no rooms of their own; all other single files are the ground."""
LOOK_UP = {"agssp", "agssp.auto_classes", "agssp.cli"}
"""Modules that may import by names, as they announce what stands below them."""
EXCEPTIONS = {
    ("agssp.commands.quickstart", "agssp.arguments"),
    ("agssp.study.checks", "agssp.arguments"),
    ("agssp.study.runner", "agssp.arguments"),
    ("agssp.study.study_file", "agssp.arguments"),
}
"""What is not as it should be yet; this list only shrinks."""
LOOK_UP_YET = {"agssp.commands.quickstart", "agssp.study.python_stages", "agssp.study.stage"}


def find_modules(root: Path) -> dict[str, Path]:
    """Dotted names of all modules below a package's folder."""
    found = {}
    for path in root.rglob("*.py"):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_by(name: str, path: Path, known: dict[str, Path], types: bool = True) -> Iterator[str]:
    """Modules of the package that a module imports anywhere, inside of functions too; with or without mere types."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    if not types:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                found = f"{module}.{alias.name}"
                if (found if found in known else module) in known:
                    yield found if found in known else module


def floor_of(name: str) -> int:
    parts = name.split(".")
    room = parts[1] if len(parts) > 1 else "__init__"
    is_file = len(parts) < 3 and not (ROOT / room).is_dir()
    return FLOORS.index(ABOVE.get(room, "ground" if is_file else room))


MODULES = find_modules(ROOT)
IMPORTS = {name: set(imported_by(name, path, MODULES)) - {name} for name, path in MODULES.items()}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, the first of them last as well; empty if there is no circle."""
    try:
        deque(TopologicalSorter(imports).static_order(), maxlen=0)
    except CycleError as error:
        return error.args[1][::-1]
    return []


def test_nothing_is_no_circle():
    assert circle({}) == []


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ({"a": {"b"}, "b": set()}, set()),
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}, "d": set()}, {"a", "b"}),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}}, {"a", "b", "c"}),
    ],
)
def test_circles_are_found(imports, expected):
    found = circle(imports)
    assert set(found) == expected
    assert all(second in imports[first] for first, second in pairwise(found))


def test_imports_are_found_wherever_they_stand(tmp_path):
    (tmp_path / "house" / "cellar").mkdir(parents=True)
    (tmp_path / "house" / "__init__.py").write_text("")
    (tmp_path / "house" / "roof.py").write_text(
        "import house.cellar.wine\nfrom .cellar import beer\ndef f():\n    from .cellar.wine import x\n"
    )
    for name in ("__init__", "wine", "beer"):
        (tmp_path / "house" / "cellar" / f"{name}.py").write_text("from ..roof import y\n")
    modules = find_modules(tmp_path / "house")
    assert set(modules) == {"house", "house.roof", "house.cellar", "house.cellar.wine", "house.cellar.beer"}
    assert set(imported_by("house.roof", modules["house.roof"], modules)) == {"house.cellar.wine", "house.cellar.beer"}
    assert list(imported_by("house.cellar", modules["house.cellar"], modules)) == ["house.roof"]


def test_every_module_has_a_floor():
    assert all(floor_of(name) >= 0 for name in MODULES)


def test_modules_import_from_their_own_floor_and_lower_ones():
    upwards = {
        (name, other)
        for name in MODULES
        for other in IMPORTS[name]
        if floor_of(other) > floor_of(name) < len(FLOORS) - 1
    }
    assert upwards == EXCEPTIONS


def test_no_two_modules_need_each_other():
    imports = {name: set(imported_by(name, path, MODULES, types=False)) - {name} for name, path in MODULES.items()}
    assert circle(imports) == []


def test_nobody_else_imports_by_names():
    found = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "import_module"
    }
    assert {name for name in found - LOOK_UP if "agssp" in MODULES[name].read_text()} <= LOOK_UP_YET | {
        "agssp.models.backbone.start_weights"  # of timm
    }
