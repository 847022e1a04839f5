"""Compare one part of agssp with its bare counterpart, both in the same run, and print the ratio.

python scripts/benchmark.py kead --model ViT-B-16-plus-240 --batch 8
python scripts/benchmark.py data --threads 1
python scripts/benchmark.py store
python scripts/benchmark.py boxes
python scripts/benchmark.py streaming
python scripts/benchmark.py readers --against HEAD~1

The names are the modules in scripts/benchmarks/; `NAME --help` lists the flags of each.
"""

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "benchmarks"


def main() -> None:
    """Run the benchmark named first on the command line."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        raise SystemExit(f"usage: python scripts/benchmark.py {{{'|'.join(names)}}} [flags]")
    sys.path.insert(0, str(FOLDER))
    importlib.import_module(sys.argv[1]).main(sys.argv[2:])


if __name__ == "__main__":
    main()
