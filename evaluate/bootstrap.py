"""The stratified bootstrap over test images: what a score would have been on other images of the same classes.

Every class is resampled by itself, since a test set has its classes by design. Of its n images n - 1 are drawn with
replacement: drawing n would give a variance that is too small by (n - 1) / n (Rao and Wu 1988), 2 % at ImageNet's 50.
The draws are raw Philox words (docs/scores.md), so everybody gets the same intervals from the same predictions.
"""

import dataclasses
import hashlib
import struct

import numpy as np

from caskit.evaluate.intervals import LEVEL, Z_95
from caskit.manifests.errors import InputError
from caskit.manifests.seeds import MAX_SEED, philox_words

MAX_REPLICATES = 100_000
_DOMAIN = b"caskit/bootstrap/1\0"
_CHUNK = 2**17  # draws at once: 1 MB per array, which stays in the cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How often the test images are resampled, and by which seed."""

    replicates: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.replicates) is not int or not 100 <= self.replicates <= MAX_REPLICATES:
            raise InputError(f"bootstrap replicates are {self.replicates!r}, allowed: 100..{MAX_REPLICATES}")
        if type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"bootstrap seed is {self.seed!r}, allowed: 0..{MAX_SEED}")

    @property
    def key(self) -> bytes:
        """The 16-byte key of its stream."""
        return hashlib.sha256(_DOMAIN + struct.pack(">Q", self.seed)).digest()[:16]


def strata_of(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where every run of equal labels begins, and its length, two [S] int64."""
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
    return starts, np.diff(np.r_[starts, len(labels)])


def grouped(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an order of images [N] int64 in which strata are contiguous, and the stratum of each in that order.

    A class of one image cannot be resampled by itself: such classes together are one stratum, the last one.
    """
    counts = np.bincount(labels)
    strata = np.where(counts[labels] > 1, labels, len(counts))
    order = np.argsort(strata, kind="stable")
    return order, strata[order]


def resampled_means(values: np.ndarray, labels: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Return the means of columns over resampled test images.

    Args:
        values: [N, M] float64, a row per image.
        labels: [N] int64, the class of each image, in ascending order; images of a class in the order of their keys.
        bootstrap: how many, by which seed.

    Returns:
        [replicates, M] float64. Columns share their draws, so differences of columns are paired.
    """
    order, strata = grouped(labels)
    starts, sizes = strata_of(strata)
    drawn = np.maximum(sizes - 1, 1)  # a single image left over is drawn for itself: it stays
    # Of stratum s the mean over `drawn` images counts as the mean over all of its `sizes`.
    scaled = values[order] * np.repeat(sizes / drawn, sizes)[:, None] / len(labels)
    first, span = np.repeat(starts, drawn), np.repeat(sizes, drawn).astype(np.float64)
    num, num_drawn = len(labels), len(first)
    step = max(1, _CHUNK // num_drawn)
    means = np.empty((bootstrap.replicates, values.shape[1]))
    for begin in range(0, bootstrap.replicates, step):
        rows = min(step, bootstrap.replicates - begin)
        words = philox_words(bootstrap.key, "images", begin * num_drawn, rows * num_drawn)
        uniforms = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        images = first + (uniforms.reshape(rows, num_drawn) * span).astype(np.int64)
        images += num * np.arange(rows)[:, None]
        counts = np.bincount(images.ravel(), minlength=rows * num).reshape(rows, num)
        means[begin : begin + rows] = counts.astype(np.float64) @ scaled
    return means


def percentile_interval(replicates: np.ndarray, *, level: float = LEVEL) -> dict[str, float]:
    """Return `{low, high, se}` of a statistic's replicates [B]: the middle `level` of them, and their deviation."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high), "se": float(replicates.std(ddof=1))}


def normal_interval(value: float, replicates: np.ndarray) -> dict[str, float]:
    """Return the value with 1.96 deviations of its replicates on either side, not below 0.

    For the calibration error: a sum of absolute values, to which noise adds, in the sample and again in a resample, so
    the replicates are not around the value. Their deviation is right, their quantiles are not (benchmarks/coverage.md).
    """
    se = float(replicates.std(ddof=1))
    return {"low": max(0.0, value - Z_95 * se), "high": value + Z_95 * se, "se": se}
