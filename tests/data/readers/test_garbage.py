import gc

import pytest

from agssp.data.readers.garbage import NEW_OBJECTS, rare_collections


@pytest.fixture
def thresholds():
    usual = gc.get_threshold()
    yield
    gc.set_threshold(*usual)


def look_and_fail(found):
    found.append(gc.get_threshold()[0])
    raise KeyError("inside")


@pytest.mark.parametrize(("usual", "inside"), [(700, NEW_OBJECTS), (0, 0), (10**6, 10**6)])
def test_thresholds_come_back_after_an_error(thresholds, usual, inside):
    gc.set_threshold(usual, 7, 8)
    found = []
    with pytest.raises(KeyError, match="inside"), rare_collections():
        look_and_fail(found)
    assert found == [inside]
    assert gc.get_threshold()[:2] == (usual, 7)
