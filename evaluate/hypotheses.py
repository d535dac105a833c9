"""Tests of hypotheses about accuracies: exact ones, and how many may be believed when there are a thousand."""

from collections.abc import Sequence

import numpy as np

from caskit.evaluate.intervals import least_share
from caskit.evaluate.quantiles import binomial_at_most

FAILED_SHARE = 0.5  # of Real's accuracy: a class that is credibly below it has failed
NUISANCE = 1e-5  # how often Real's accuracy may lie below its bound, which is added to the p-value


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value that two classifiers err equally often (McNemar 1947).

    Args:
        only_first: images that only the first one gets right.
        only_second: images that only the second one gets right.
    """
    return min(1.0, 2 * binomial_at_most(min(only_first, only_second), only_first + only_second, 0.5))


def failure(successes: int, real_successes: int, trials: int) -> float:
    """Return the p-value that a class is recognised at least `FAILED_SHARE` times as often as by the Real classifier.

    Both counts are of the same images. Real's own accuracy is not known either: the hypothesis is tested at the least
    accuracy that its count allows at 1 - NUISANCE, and NUISANCE is added (Berger and Boos 1994), which is valid however
    the two depend on each other.
    """
    share = FAILED_SHARE * least_share(real_successes, trials, error=NUISANCE)
    return min(1.0, binomial_at_most(successes, trials, share) + NUISANCE)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values: rejecting those up to q keeps the expected share of false rejections at q (1995)."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(-values, kind="stable")  # from the largest down
    scaled = values[order] * len(values) / np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum.accumulate(np.minimum(scaled, 1.0))
    found: list[float] = adjusted.tolist()
    return found
