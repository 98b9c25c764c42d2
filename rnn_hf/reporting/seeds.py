"""Statistics over runs that differ only in their seed."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student_t

# Shown with every interval over seeds
INTERVAL_NOTE = (
    "The interval is Student's t interval of the mean over seeds; it assumes normally distributed results. It covers "
    "what depends on the seed: initial weights, order of batches, dropout and, if it is split off the training rows, "
    "the validation split. It does not cover the choice of test rows, training rows or hyperparameters."
)


@dataclass(frozen=True)
class SeedStatistics:
    """A metric over several seeds.

    Args:
        mean: The mean.
        standard_deviation: Sample standard deviation (`ddof=1`); `None` for a single seed.
        interval: Confidence interval of the mean; `None` for a single seed.
        confidence: Confidence level of the interval.
        values: The value of each seed.
    """

    mean: float
    standard_deviation: float | None
    interval: tuple[float, float] | None
    confidence: float
    values: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics in a form that JSON can hold."""
        return asdict(self) | {"interval": None if self.interval is None else list(self.interval)}


def seed_statistics(values: Sequence[float], confidence: float = 0.95) -> SeedStatistics:
    """Return mean, standard deviation and confidence interval of a metric over seeds.

    Args:
        values: The value of each seed, at least one.
        confidence: Confidence level of the interval (Student, 1908).

    Example:
        >>> figures = seed_statistics([0.90, 0.92, 0.94])
        >>> low, high = figures.interval
        >>> round(figures.mean, 2), round(figures.standard_deviation, 2), round(low, 2), round(high, 2)
        (0.92, 0.02, 0.87, 0.97)
    """
    center = mean(values)
    if len(values) == 1:
        return SeedStatistics(center, None, None, confidence, tuple(values))
    spread = stdev(values)
    # `interval(..., scale=0)` would be NaN if all values are equal
    low, high = (
        center + float(bound) * spread / math.sqrt(len(values))
        for bound in student_t.interval(confidence, len(values) - 1)
    )
    return SeedStatistics(center, spread, (low, high), confidence, tuple(values))


def percent(values: Sequence[float], digits: int = 1) -> str:
    """Return the mean of shares in percent and, of several, the standard deviation.

    Example:
        >>> percent([0.5, 0.7]), percent([0.5], digits=2)
        ('60.0 ± 14.1', '50.00')
    """
    figures = seed_statistics(values)
    spread = "" if figures.standard_deviation is None else f" ± {100 * figures.standard_deviation:.{digits}f}"
    return f"{100 * figures.mean:.{digits}f}{spread}"
