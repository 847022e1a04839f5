#!/usr/bin/env bash
# What is drawn into an image within map of `datasets` is gone where the image came from a folder.
# Expected: the image that the function hands back is the one that is kept, as with any other column.
# Seen: datasets 5.2.0 keeps the file name that Pillow still holds and not the pixels, so paste, thumbnail and
#   ImageDraw, which change an image in place, do nothing; the same function works on a copy, and on a data set that
#   save_to_disk wrote, as its images have no file of their own.
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


def paint_over(row):
    row["image"].paste(0, (0, 0, 32, 32))  # as for a region that no training shall see
    return row


def paint_over_a_copy(row):
    return paint_over({"image": row["image"].copy()})


folder = datasets.load_dataset("imagefolder", data_dir="line", split="train")
folder.save_to_disk("saved")
saved = datasets.load_from_disk("saved")
tries = {"folder": (folder, paint_over), "copy": (folder, paint_over_a_copy), "saved": (saved, paint_over)}
least = {name: data.map(function)[0]["image"].getextrema()[0] for name, (data, function) in tries.items()}
print("least grey value after painting black:", least)
assert least == {"folder": 100, "copy": 0, "saved": 0}
PY
