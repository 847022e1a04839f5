"""Cases of the commands serve the steps."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "commands"))
