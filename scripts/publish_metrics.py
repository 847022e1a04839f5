"""Publish the metrics as Spaces on the Hub, for `evaluate.load("OWNER/agssp_detection")`; needs a token that may write.

python scripts/publish_metrics.py --owner me
"""

import argparse

from agssp.arguments import exit_with
from agssp.errors import InputError
from agssp.hub.metric_spaces import publish_metric


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owner", required=True, help="user or organisation on the Hub")
    arguments = parser.parse_args()
    try:
        for name in ("agssp_detection", "agssp_anomaly"):
            print(publish_metric(name, arguments.owner))
    except InputError as error:
        exit_with(f"error: {error}", 2)


if __name__ == "__main__":
    main()
