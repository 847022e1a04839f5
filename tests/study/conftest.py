import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from study_cases import write_all


@pytest.fixture
def root(tmp_path):
    torch.set_num_threads(1)
    return write_all(tmp_path)
