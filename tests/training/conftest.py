import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from chain_cases import backbone_arguments, write_all

from agssp.commands import pretrain_backbone


@pytest.fixture
def root(tmp_path):
    torch.set_num_threads(1)
    return write_all(tmp_path)


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """What `root` holds, and `whole`, a backbone pretrained on it; for tests that leave both as they are."""
    torch.set_num_threads(1)
    folder = write_all(tmp_path_factory.mktemp("pretrained"))
    pretrain_backbone.main(*backbone_arguments(folder, "whole"))
    return folder
