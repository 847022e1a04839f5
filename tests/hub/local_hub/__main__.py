"""Brings the hub up to try by hand: `python -m local_hub --root DIR [--port N]` in tests/hub."""

import argparse
import threading
from pathlib import Path

from .server import LocalHub

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="local_hub", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the repositories")
    parser.add_argument("--port", type=int, default=0, help="port of 127.0.0.1; 0 is any free one")
    arguments = parser.parse_args()
    with LocalHub(arguments.root, arguments.port, verbose=True) as hub:
        print(f"export HF_ENDPOINT={hub.endpoint} HF_TOKEN={hub.tokens['write']} HF_HUB_DISABLE_XET=1", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("closed")
