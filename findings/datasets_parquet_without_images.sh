#!/usr/bin/env bash
# A Parquet file that `datasets` writes of an image folder holds the paths of the images and not the images.
# Expected: to_parquet, like save_to_disk, puts the images into the file, which can then go to another machine.
# Seen: datasets 5.2.0 leaves the bytes empty and writes the absolute path; the file opens everywhere, with the right
#   number of rows, and the first image asked for is missing.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check datasets==5.2.0 pillow==13.0.0
venv/bin/python - <<'PY'
import os

os.environ["HF_HOME"], os.environ["HF_HUB_OFFLINE"] = "cache", "1"
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
Path("line").mkdir()
Image.new("L", (64, 64), 100).save("line/a.png")
folder = datasets.load_dataset("imagefolder", data_dir="line", split="train")
folder.to_parquet("line.parquet")
folder.save_to_disk("saved")
Path("line").rename("elsewhere")
saved = datasets.load_from_disk("saved")[0]["image"]
table = datasets.load_dataset("parquet", data_files="line.parquet", split="train")
stored = table.cast_column("image", datasets.Image(decode=False))[0]["image"]
try:
    table[0]["image"]
except FileNotFoundError as error:
    missing = Path(error.filename or str(error)).name
print("save_to_disk:", saved.size, "| to_parquet:", len(table), "row, bytes", stored["bytes"], "| missing:", missing)
assert saved.size == (64, 64)
assert stored["bytes"] is None and Path(stored["path"]).is_absolute()
assert missing.startswith("a.png")
PY
