"""Random numbers of a microbatch: one stream per sample, addressed by (stream key, draw name, counter).

An image depends on its own stream and on nothing else: not on its batch, the worker, or numbers drawn before. The maps
from raw words to uniforms and normals are ours and normative (docs/format.md). They use only IEEE-754 operations whose
result is fully determined (+ - * / sqrt, and exact scaling), so the same numbers come out on every platform; numpy's
`log` and `normal` promise neither.
"""

import decimal
import functools
import math
from collections.abc import Sequence

import numpy as np

from caskit.manifests.seeds import philox_words

STREAM_KEY_BYTES = 16

# AS241, routine PPND16 (Wichura 1988, "The percentage points of the normal distribution", Applied Statistics 37:477).
# Coefficients from the constant term up, numerator and denominator.
_CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_MIDDLE = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_TAIL = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip

_LN2_HIGH = 6.93147180369123816490e-01  # 33 bits of ln 2, so that a product with an exponent is exact
_LN2_LOW = 1.90821492927058770002e-10
_LOG_TERMS = 12  # of the atanh series; the next one is below 2^-60 of the sum

_PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937511")
_WHOLE_MASS = 9.0  # bounds from here on leave out less than 2^-54 of the normal's mass


class Streams:
    """The streams of N samples, in the order of a microbatch.

    Attributes:
        keys: N stream keys of 16 bytes (`manifests.seeds.stream_key`).
        num: N.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = tuple(keys)
        assert all(len(key) == STREAM_KEY_BYTES for key in self.keys), "a stream key has 16 bytes"

    @property
    def num(self) -> int:
        """Number of streams."""
        return len(self.keys)

    def words(self, draw: str, count: int, start: int = 0) -> np.ndarray:
        """Return raw words `start <= i < start + count` of a draw for every sample, [N, count] uint64."""
        words = np.empty((self.num, count), dtype=np.uint64)
        for row, key in enumerate(self.keys):
            words[row] = philox_words(key, draw, start, count)
        return words

    def uniform(self, draw: str, shape: tuple[int, ...], start: int = 0) -> np.ndarray:
        """Return uniforms in [0, 1), [N, *shape] float64; element i in C order takes word `start + i`."""
        return uniform_from_words(self.words(draw, math.prod(shape), start)).reshape(self.num, *shape)

    def normal(self, draw: str, shape: tuple[int, ...], start: int = 0) -> np.ndarray:
        """Return standard normals, [N, *shape] float64; element i in C order takes word `start + i`."""
        return normal_from_words(self.words(draw, math.prod(shape), start)).reshape(self.num, *shape)

    def truncated_normal(self, draw: str, shape: tuple[int, ...], bound: float, start: int = 0) -> np.ndarray:
        """Return standard normals truncated to -bound..bound, [N, *shape] float64, a word each as in `normal`."""
        words = self.words(draw, math.prod(shape), start)
        return truncated_normal_from_words(words, bound).reshape(self.num, *shape)


def uniform_from_words(words: np.ndarray) -> np.ndarray:
    """Map words to `(w >> 11) * 2^-53`, float64 in [0, 1)."""
    uniforms: np.ndarray = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniforms


def normal_from_words(words: np.ndarray) -> np.ndarray:
    """Map each word to the standard normal quantile of `((w >> 11) + 1/2) * 2^-53`, float64, by AS241."""
    return _quantile(_centred(words))


def truncated_normal_from_words(words: np.ndarray, bound: float) -> np.ndarray:
    """Map each word to a quantile of the standard normal truncated to -bound..bound, float64.

    With p the probability of `normal_from_words` and m = `central_mass(bound)`, the normal between its quantiles at
    (1 - m) / 2 and (1 + m) / 2 has the quantile at p where the whole one has it at `1/2 + (p - 1/2) m`. No draw is
    rejected, so a number depends on one word. The last bit of AS241 could overstep the bound: the result is clamped.
    """
    assert bound > 0, f"bound is {bound}, must be positive"
    truncated: np.ndarray = np.clip(_quantile(_centred(words) * central_mass(bound)), -bound, bound)
    return truncated


@functools.cache
def central_mass(bound: float) -> float:
    """Return `erf(bound / sqrt(2))`, the mass of the standard normal in -bound..bound, correctly rounded to float64.

    `sqrt(2/pi) exp(-b^2/2) (b + b^3/3 + b^5/15 + ...)`, all terms positive, in decimal arithmetic of 40 digits, which
    is the same everywhere; libm's erf is not.
    """
    if bound >= _WHOLE_MASS:
        return 1.0
    with decimal.localcontext(decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN)):
        b = decimal.Decimal(bound)  # exact
        square = b * b
        term, total, odd = b, b, 1
        while term > total * decimal.Decimal("1e-38"):
            odd += 2
            term = term * square / odd
            total += term
        return float((2 / _PI).sqrt() * (-square / 2).exp() * total)


def _centred(words: np.ndarray) -> np.ndarray:
    """Return `p - 1/2`, exact, for the probability p = `((w >> 11) + 1/2) * 2^-53` of each word.

    p lies strictly inside (0, 1) and symmetrically around 1/2. Near 1 it has no float64 of its own, so that nothing
    here is computed from p itself.
    """
    integers = (words >> np.uint64(11)).astype(np.int64) - 2**52
    centred: np.ndarray = (integers.astype(np.float64) + 0.5) * 2.0**-53
    return centred


def _quantile(q: np.ndarray) -> np.ndarray:
    """Return the standard normal quantile of `1/2 + q` by AS241; `min(p, 1 - p) = 1/2 - |q|` is exact where used."""
    centre = np.abs(q) <= 0.425
    normals = np.empty_like(q)
    inner = q[centre]
    normals[centre] = inner * _ratio(_CENTRE, 0.180625 - inner * inner)
    outer = q[~centre]
    r = np.sqrt(-natural_log(0.5 - np.abs(outer)))
    # |outer| > 0.425 gives r > 1.6; min(p, 1 - p) >= 2^-54 gives r < 6.2.
    magnitude = np.where(r <= 5.0, _ratio(_MIDDLE, r - 1.6), _ratio(_TAIL, r - 5.0))
    normals[~centre] = np.where(outer < 0, -magnitude, magnitude)
    return normals


def natural_log(x: np.ndarray) -> np.ndarray:
    """Return ln x of positive normal float64 values from IEEE + - * / alone, within a few units in the last place.

    x = m 2^e with sqrt(1/2) <= m < sqrt(2) and s = (m - 1) / (m + 1): ln x = e ln 2 + 2 (s + s^3/3 + s^5/5 + ...).
    """
    mantissa, exponent = np.frexp(x)  # exact; mantissa in [1/2, 1)
    small = mantissa < 0.7071067811865476
    mantissa = np.where(small, mantissa * 2.0, mantissa)
    exponent = (exponent - small).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    squared = s * s
    series = np.full_like(s, 1.0 / (2 * _LOG_TERMS - 1))
    for term in range(_LOG_TERMS - 2, -1, -1):
        series = series * squared + 1.0 / (2 * term + 1)
    logarithm: np.ndarray = exponent * _LN2_HIGH + (2.0 * s * series + exponent * _LN2_LOW)
    return logarithm


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], r: np.ndarray) -> np.ndarray:
    """Evaluate a rational function by Horner's rule, both polynomials from their highest coefficient down."""
    numerator, denominator = (np.full_like(r, polynomial[-1]) for polynomial in coefficients)
    for top, bottom in zip(reversed(coefficients[0][:-1]), reversed(coefficients[1][:-1]), strict=True):
        numerator = numerator * r + top
        denominator = denominator * r + bottom
    quotient: np.ndarray = numerator / denominator
    return quotient
