"""Confidence intervals of accuracies."""

import math
import statistics

from caskit.evaluate.quantiles import beta_quantile

LEVEL = 0.95  # of every interval
Z_95 = statistics.NormalDist().inv_cdf(0.975)


def wilson(successes: int, trials: int, *, z: float = Z_95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927), at 95 % unless told; of no trials it is (0, 1).

    It stays inside 0..1 and keeps its coverage where accuracies are near 0 or 1, as per-class ones often are.
    """
    assert 0 <= successes <= trials, f"{successes} of {trials}"
    if trials == 0:
        return 0.0, 1.0
    proportion, square = successes / trials, z * z
    centre = (proportion + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * math.sqrt(proportion * (1 - proportion) / trials + square / (4 * trials**2))
    # At the ends the bound is exact; floating point must not put it outside, or the value outside the interval.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def least_share(successes: int, trials: int, *, error: float) -> float:
    """Return the exact lower bound of a proportion, wrong with at most this probability (Clopper and Pearson 1934)."""
    assert 0 <= successes <= trials and 0 < error < 1, f"{successes} of {trials}, {error}"
    return 0.0 if successes == 0 else beta_quantile(error, successes, trials - successes + 1)


def newcombe(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float]:
    """Return the interval of first minus second, two accuracies as (value, low, high), taken as independent.

    The hybrid score interval (Newcombe 1998, method 10). Answers to the same images agree more than independent ones
    do, so it is wider than a paired interval.
    """
    difference = first[0] - second[0]
    low = difference - math.hypot(first[0] - first[1], second[2] - second[0])
    high = difference + math.hypot(first[2] - first[0], second[0] - second[1])
    return max(-1.0, low), min(1.0, high)
