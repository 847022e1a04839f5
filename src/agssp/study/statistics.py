"""Mean and interval over seeds, and which row of a group is better than all others beyond chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: NaN without values.
        half_width: of the 95 % t interval; NaN for fewer than two values.
        count: number of values.
    """

    mean: float
    half_width: float
    count: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of some seeds' values with the half width of its 95 % interval by Student's t."""
    count = len(values)
    if not count:
        return Estimate(math.nan, math.nan, 0)
    mean = sum(values) / count
    if count == 1:
        return Estimate(mean, math.nan, 1)
    from scipy.stats import t

    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    quantile = float(t.ppf(0.5 + CONFIDENCE / 2, count - 1))
    return Estimate(mean, quantile * deviation / math.sqrt(count), count)


def separated_best(estimates: Mapping[str, Estimate]) -> str | None:
    """The row whose interval lies above that of every other row.

    Args:
        estimates: of all rows of a group; a row without interval cannot be told from any.

    Returns:
        Its name; None where no row is alone at the top, or there is only one.
    """
    if len(estimates) < 2:
        return None
    best = max(estimates, key=lambda name: _order(estimates[name]))
    others = [entry for name, entry in estimates.items() if name != best]
    # Comparisons with NaN are false, so that a row without interval keeps any other from winning.
    return best if all(estimates[best].low > entry.high for entry in others) else None


def _order(entry: Estimate) -> float:
    return -math.inf if math.isnan(entry.mean) else entry.mean
