"""Make the exports of labelling tools below tests/data/exports again, each tool in an environment of its own.

python scripts/make_exports.py
python scripts/make_exports.py labelme supervision

Each folder holds made-up images and what the tool wrote for them; NAME.expected.json beside it is what the tool's own
reader says of that folder. The modules in scripts/exports/ are run with the versions pinned here, in a temporary
folder; an environment takes 100 to 800 MB.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PICTURES = ["numpy==2.3.5", "pillow==12.0.0"]
PINS = {
    "label_studio": ["label-studio-sdk==2.1.2"],
    "labelme": ["labelme==6.3.1"],
    "labelimg": ["labelImg==1.8.6", *PICTURES],
    "supervision": ["supervision==0.31.2"],
    "datumaro": ["datumaro==1.13.12"],
    "sahi": ["sahi==0.12.8"],
    "globox": ["globox==2.9.0", *PICTURES],
}
SCRIPTS = Path(__file__).resolve().parent
OUTPUT = SCRIPTS.parent / "tests" / "data" / "exports"


def make(tool: str) -> None:
    """Make a tool's exports in a folder of a neutral name, since some write it into their files."""
    with tempfile.TemporaryDirectory() as place:
        venv.create(f"{place}/venv", with_pip=True)
        python = f"{place}/venv/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS[tool]], check=True)
        line = Path(place, "line")
        line.mkdir()
        code = f"import sys; sys.path.append({str(SCRIPTS)!r}); from exports.{tool} import write; write()"
        subprocess.run([python, "-c", code], check=True, cwd=line)
        for expected in sorted(line.glob("*.expected.json")):
            folder = line / expected.name.removesuffix(".expected.json")
            for file in filter(Path.is_file, folder.rglob("*")):
                if place.encode() in file.read_bytes():
                    raise SystemExit(f"{file}: holds a path of this machine")
            shutil.rmtree(OUTPUT / folder.name, ignore_errors=True)
            shutil.copytree(folder, OUTPUT / folder.name)
            shutil.copy(expected, OUTPUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"{', '.join(PINS)}; default: all")
    tools = parser.parse_args().tools or list(PINS)
    for tool in tools:
        if tool not in PINS:
            parser.error(f"unknown tool {tool!r}; expected some of {', '.join(PINS)}")
        make(tool)


if __name__ == "__main__":
    sys.exit(main())
