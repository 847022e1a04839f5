"""Write the cards of a whole run into one folder, to look at before anything is published; no Hub is asked.

python scripts/cards.py --owner me --corpus corpus --maps maps --models backbone detector my-detector --output cards
"""

import argparse
import re
from pathlib import Path

from agssp.cli import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owner", required=True, help="user or organisation on the Hub")
    parser.add_argument("--corpus", help="images of the pretraining")
    parser.add_argument("--maps", help="their map store")
    parser.add_argument("--licence", help="of images of your own")
    parser.add_argument("--models", nargs="*", default=[], help="folders of backbones, detectors and KeAD")
    parser.add_argument("--output", required=True, help="folder; gets one folder a card")
    arguments = parser.parse_args()
    if arguments.corpus:
        name = Path(arguments.corpus).resolve().name
        words = [arguments.corpus, f"{arguments.owner}/{name}"]
        for flag in ("maps", "licence"):
            if value := getattr(arguments, flag):
                words += [f"--{flag}", value]
        run("dataset push", [*words, "--card-only", f"{arguments.output}/{name}"])
    for folder in arguments.models:
        # The Hub takes neither other characters nor longer names.
        name = re.sub(r"[^\w.-]+", "-", Path(folder).resolve().name)[:90].strip("-.")
        run("push", [folder, f"{arguments.owner}/{name}", "--card-only", f"{arguments.output}/{name}"])


if __name__ == "__main__":
    main()
