import numpy as np
import pytest
from scipy.stats import ttest_1samp

from rnn_hf.reporting.seeds import seed_statistics


def test_the_statistics_are_numpys_and_scipys() -> None:
    values = [0.917, 0.921, 0.915, 0.922]
    figures = seed_statistics(values, confidence=0.9)
    assert figures.mean == pytest.approx(np.mean(values))
    assert figures.standard_deviation == pytest.approx(np.std(values, ddof=1))
    assert figures.interval == pytest.approx(tuple(ttest_1samp(values, 0).confidence_interval(0.9)))


def test_the_interval_of_three_seeds_covers_the_mean_as_often_as_it_says() -> None:
    """The normal distribution's interval would cover it in 81 % of the cases."""
    draws = np.random.default_rng(0).normal(size=(2000, 3))
    intervals = [seed_statistics(list(draw)).interval for draw in draws]
    assert np.mean([low <= 0 <= high for low, high in filter(None, intervals)]) == pytest.approx(0.95, abs=0.015)


def test_equal_results_have_an_interval_without_width() -> None:
    assert seed_statistics([0.5, 0.5, 0.5]).interval == (0.5, 0.5)


def test_a_single_seed_has_no_spread() -> None:
    figures = seed_statistics([0.5]).as_dict()
    assert figures == {
        "mean": 0.5, "standard_deviation": None, "interval": None, "confidence": 0.95, "values": (0.5,),
    }  # fmt: skip
