"""What several runs that differ in their seed say together."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student_t

# What an interval over seeds means, for whoever reads one
INTERVAL_NOTE = (
    "The interval is Student's, for the mean over seeds, and takes their results for normally distributed. It covers "
    "what the seed decides: first weights, order of the batches, dropout, and the validation split where one is cut. "
    "It does not cover the choice of the test rows, of the training rows, or of the settings."
)


@dataclass(frozen=True)
class SeedStatistics:
    """One figure over several seeds.

    Args:
        mean: The mean.
        standard_deviation: Sample standard deviation, with one seed less than there are in the denominator; `None`
            for a single seed.
        interval: Bounds between which the mean over all seeds lies with a probability of `confidence`; `None` for a
            single seed.
        confidence: That probability.
        values: The figure of each seed.
    """

    mean: float
    standard_deviation: float | None
    interval: tuple[float, float] | None
    confidence: float
    values: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        return asdict(self) | {"interval": None if self.interval is None else list(self.interval)}


def seed_statistics(values: Sequence[float], confidence: float = 0.95) -> SeedStatistics:
    """Return mean, spread and interval of a figure over seeds.

    Args:
        values: The figure of each seed, at least one.
        confidence: Probability that the interval covers the mean over all seeds (Student, 1908).

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
    # not through its argument `scale`, which makes NaN of no spread at all
    low, high = (
        center + float(bound) * spread / math.sqrt(len(values))
        for bound in student_t.interval(confidence, len(values) - 1)
    )
    return SeedStatistics(center, spread, (low, high), confidence, tuple(values))


def percent(values: Sequence[float], digits: int = 1) -> str:
    """Return the mean of shares in percent, with the standard deviation where there are several.

    Example:
        >>> percent([0.5, 0.7]), percent([0.5], digits=2)
        ('60.0 ± 14.1', '50.00')
    """
    figures = seed_statistics(values)
    spread = "" if figures.standard_deviation is None else f" ± {100 * figures.standard_deviation:.{digits}f}"
    return f"{100 * figures.mean:.{digits}f}{spread}"
