"""What an installed wheel needs beside its modules lies where the code looks for it."""

import tomllib
from pathlib import Path

from agssp.hub import templates
from agssp.sources import table

ROOT = Path(__file__).parents[1]


def test_folders_of_the_checkout_are_taken_into_the_package():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["packages"] == ["src/agssp"]
    read = {
        in_checkout.relative_to(ROOT).as_posix(): in_wheel.relative_to(ROOT / "src").as_posix()
        for in_wheel, in_checkout in (templates.FOLDERS, table.FOLDERS)
    }
    assert build["force-include"] == read
    assert all(any((ROOT / folder).iterdir()) for folder in read)
