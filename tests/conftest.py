"""How all tests run: on the CPU, and those that start processes first, so that no long file is left for the end."""

import gc
import os
from pathlib import Path

# They compare numbers to the last digits and count processes. test_gpu.py gives its own processes what was visible.
os.environ.setdefault("VISIBLE_GPUS", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
os.environ["CUDA_VISIBLE_DEVICES"] = ""

FIRST = ("hub", "training", "distributed")


def pytest_collection_modifyitems(items):
    folders = {item: item.path.relative_to(Path(__file__).parent).parts[0] for item in items}
    items.sort(key=lambda item: FIRST.index(folders[item]) if folders[item] in FIRST else len(FIRST))


def pytest_collection_finish():
    """Leave what the tests' imports made, a million objects that stay, out of every later collection of garbage.

    accelerate collects whenever a training begins, which takes most of a second where all of them are looked through.
    """
    gc.collect()
    gc.freeze()
