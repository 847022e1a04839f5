"""One small detector for tests that change nothing in it."""

import pytest
from yolo_cases import build


@pytest.fixture(scope="session")
def detector():
    return build().eval()
