#!/usr/bin/env bash
# One image with "test" in its file name makes imagefolder of `datasets` leave all the others out.
# Expected: a folder of images without folders for splits is one split that holds them all.
# Seen: datasets 5.2.0 looks for the names of splits in file names too, parted by anything that is no letter or digit,
#   and where it finds one takes the files that have one and no others, without a word: of three boards, only the one
#   named for its test station is left, and there is no split "train".
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
seen = {}
for folder, third in (("plain", "board_003.png"), ("station", "board_test_003.png")):
    Path(folder).mkdir()
    for name in ("board_001.png", "board_002.png", third):
        Image.new("L", (64, 64)).save(f"{folder}/{name}")
    splits = datasets.load_dataset("imagefolder", data_dir=folder)
    seen[third] = {split: len(rows) for split, rows in splits.items()}
print("images by split, by the name of the third file:", seen)
assert seen == {"board_003.png": {"train": 3}, "board_test_003.png": {"test": 1}}
PY
