"""One process of test_evaluate_ranks.py: `evaluate_worker.py MODEL IMAGES OUTPUT RECORDS`, under torchrun."""

import os
import sys
from pathlib import Path

from agssp.commands.evaluate import EvaluateArguments, main
from agssp.errors import InputError

if __name__ == "__main__":
    model, images, output, records = sys.argv[1:]
    try:
        main(EvaluateArguments(model=model, dataset=images, output=output, device="cpu"))
    except InputError as error:
        (Path(records) / os.environ["RANK"]).write_text(str(error))
