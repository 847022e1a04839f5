import math

import numpy as np
import pytest
from scipy import stats

from agssp.study.statistics import Estimate, estimate, separated_best


def test_nothing():
    found = estimate([])
    assert math.isnan(found.mean)
    assert math.isnan(found.half_width)
    assert found.count == 0
    assert separated_best({}) is None


def test_one_seed_has_no_interval():
    found = estimate([0.4])
    assert found.mean == 0.4
    assert math.isnan(found.half_width)


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_interval_is_scipys(count):
    values = np.random.default_rng(count).normal(50, 4, count)
    found = estimate(values.tolist())
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.count) == (pytest.approx(values.mean()), count)


@pytest.mark.parametrize(
    ("entries", "best"),
    [
        ({"a": (50, 1)}, None),  # nothing to be better than
        ({"a": (50, 1), "b": (40, 2)}, "a"),
        ({"a": (40, 2), "b": (50, 1), "c": (47, 1)}, "b"),
        ({"a": (50, 5), "b": (44, 2)}, None),  # 45 to 55 and 42 to 46 overlap
        ({"a": (50, 5), "b": (43, 2)}, None),  # they touch
        ({"a": (50, 1), "b": (40, 2), "c": (46, 4)}, None),  # one of the others reaches it
        ({"a": (50, math.nan), "b": (40, 2)}, None),  # one seed of the best
        ({"a": (50, 1), "b": (40, math.nan)}, None),  # one seed of another
        ({"a": (50, 1), "b": (math.nan, math.nan)}, None),  # another has not run
        ({"a": (50, 0), "b": (50, 0)}, None),
    ],
)
def test_best_only_where_intervals_separate(entries, best):
    found = {name: Estimate(mean, width, 3) for name, (mean, width) in entries.items()}
    assert separated_best(found) == best
    assert separated_best(dict(reversed(found.items()))) == best
