"""Quantiles and tails of the beta, binomial and Student distributions, so that intervals need no scipy."""

import functools
import math
import statistics

_MAX_TERMS = 100_000
_TINY = 1e-300
_NORMAL_FROM = 1e7  # degrees of freedom from which Student's distribution is the normal one in float64, nearly


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), 0 <= x <= 1, a and b above 0.

    By the continued fraction of DLMF 8.17.22 (Lentz's method), on the side where it converges fast.
    """
    assert 0 <= x <= 1 and a > 0 and b > 0, f"I_{x}({a}, {b})"
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)) / a
    fraction, c, d = 1.0, 1.0, 0.0
    for term in range(_MAX_TERMS):
        half = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2 == 0:
            numerator = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            numerator = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        d = 1 / _away_from_zero(1 + numerator * d)
        c = _away_from_zero(1 + numerator / c)
        fraction *= c * d
        if abs(1 - c * d) < 1e-15:
            return min(1.0, front * (fraction - 1))
    raise AssertionError(f"I_{x}({a}, {b}) did not converge")


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


@functools.lru_cache(maxsize=65536)
def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the x with I_x(a, b) = probability, by bisection to the last bit."""
    low, high = 0.0, 1.0
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle


def binomial_at_most(successes: int, trials: int, probability: float) -> float:
    """Return P(X <= successes) of a binomial variable."""
    if successes < 0 or successes >= trials:
        return float(successes >= 0)
    return beta_cdf(1 - probability, trials - successes, successes + 1)


def student_quantile(probability: float, degrees: float) -> float:
    """Return the quantile of Student's t, probability above 1/2, degrees of freedom above 0 and not always whole."""
    assert 0.5 < probability < 1 and degrees > 0, f"quantile {probability} at {degrees} degrees of freedom"
    if degrees >= _NORMAL_FROM:
        return statistics.NormalDist().inv_cdf(probability)
    x = beta_quantile(2 * (1 - probability), degrees / 2, 0.5)
    return math.sqrt(degrees * (1 - x) / x)
