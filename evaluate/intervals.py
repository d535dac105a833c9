"""Confidence intervals of accuracies."""

import math
import statistics

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
