"""Build public data sets from their owners' downloads as Parquet; the table of sources is in `sources/`.

python datasets_scripts/build.py --list
python datasets_scripts/build.py magnetic-tile --root downloads --output magnetic-tile
python datasets_scripts/build.py corpus --root downloads --output corpus
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("dataset build", sys.argv[1:])
