"""How a metric goes with CAS over generators: Pearson, Spearman, Kendall, bootstrapped by family.

Eight truncations of one model are not eight models: what is resampled are families, each with all of its rows, and from
fewer than MIN_FAMILIES nothing can be said about other models, so there is no interval.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caskit.evaluate.intervals import LEVEL
from caskit.manifests.seeds import philox_words

MIN_FAMILIES = 5
REPLICATES = 2000
COEFFICIENTS = ("pearson", "spearman", "kendall")
_KEY = hashlib.sha256(b"caskit/compare/1\0").digest()[:16]
_CHUNK = 2**21  # numbers in an array of replicates
_ZERO = 1e-12  # a spread below this share of the largest value is rounding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a comparison.

    Attributes:
        name: of the run or model.
        family: rows of one family are one model at several settings.
        cas: the score, in any unit; only its order and ratios of differences are used.
        metrics: the others by name; None where the row has none.
        marks: what makes a metric's value doubtful, by its name.
    """

    name: str
    family: str
    cas: float
    metrics: Mapping[str, float | None]
    marks: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def correlations(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return for every metric how it goes with CAS, over the rows that have it.

    Returns:
        `{metric, num, num_families, pearson, spearman, kendall, interval}` each; a coefficient is `{value, low, high}`,
        value null where the metric or CAS is constant, bounds null where there are too few families, which `interval`
        says. Spearman has middle ranks for ties, Kendall is tau-b.
    """
    names = dict.fromkeys(name for entry in entries for name in entry.metrics)
    found = []
    for name in names:
        rows = [entry for entry in entries if entry.metrics.get(name) is not None]
        x = np.array([entry.metrics[name] for entry in rows], dtype=np.float64)
        y = np.array([entry.cas for entry in rows], dtype=np.float64)
        found.append({"metric": name, **correlate(x, y, [entry.family for entry in rows])})
    return found


def correlate(x: np.ndarray, y: np.ndarray, families: Sequence[str]) -> dict[str, Any]:
    """Return the three coefficients of x [n] and y [n] with intervals over families [n]."""
    labels = {family: place for place, family in enumerate(dict.fromkeys(families))}
    groups = np.array([labels[family] for family in families], dtype=np.int64)
    num_families = len(labels)
    few = num_families < MIN_FAMILIES
    values = coefficients(x, y, np.ones((1, len(x)))) if len(x) > 1 else dict.fromkeys(COEFFICIENTS, np.full(1, np.nan))
    result: dict[str, Any] = {"num": len(x), "num_families": num_families}
    resampled = None if few else _resampled(x, y, groups, num_families)
    for name in COEFFICIENTS:
        value = float(values[name][0])
        bounds: tuple[float | None, float | None] = (None, None)
        if resampled is not None and math.isfinite(value):
            kept = resampled[name][np.isfinite(resampled[name])]
            low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            bounds = float(low), float(high)
        result[name] = {"value": value if math.isfinite(value) else None, "low": bounds[0], "high": bounds[1]}
    few_text = f"none: {num_families} of at least {MIN_FAMILIES} families"
    result["interval"] = few_text if few else f"bootstrap of {num_families} families, {REPLICATES} replicates"
    return result


def _resampled(x: np.ndarray, y: np.ndarray, groups: np.ndarray, num_families: int) -> dict[str, np.ndarray]:
    step = max(1, _CHUNK // max(1, len(x)))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in COEFFICIENTS}
    for begin in range(0, REPLICATES, step):
        num = min(step, REPLICATES - begin)
        words = philox_words(_KEY, "families", begin * num_families, num * num_families)
        drawn = ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53 * num_families).astype(np.int64)
        drawn += np.repeat(np.arange(num), num_families) * num_families
        counts = np.bincount(drawn, minlength=num * num_families).reshape(num, num_families)
        found = coefficients(x, y, counts[:, groups].astype(np.float64))
        for name, values in found.items():
            parts[name].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def coefficients(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return the coefficients of rows that occur so many times.

    Args:
        x: [n] float64.
        y: [n] float64.
        weights: [B, n] float64, whole numbers: how often each row occurs, a replicate per row.

    Returns:
        [B] float64 each; nan where x or y is constant.
    """
    ranks = [_middle_ranks(values, weights) for values in (x, y)]
    signs = [np.sign(values[:, None] - values[None, :]) for values in (x, y)]

    def pairs(matrix: np.ndarray) -> np.ndarray:
        found: np.ndarray = ((weights @ matrix) * weights).sum(axis=1)
        return found

    return {
        "pearson": _pearson(np.broadcast_to(x, weights.shape), np.broadcast_to(y, weights.shape), weights),
        "spearman": _pearson(ranks[0], ranks[1], weights),
        "kendall": _ratio(pairs(signs[0] * signs[1]), pairs(np.abs(signs[0])), pairs(np.abs(signs[1]))),
    }


def _middle_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ranks [B, n] among rows that occur so many times; equal values share the middle of their places."""
    below = (values[:, None] < values[None, :]).astype(np.float64)
    same = (values[:, None] == values[None, :]).astype(np.float64)
    ranks: np.ndarray = weights @ below + (weights @ same + 1) / 2
    return ranks


def _pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    x, y = _centred(x, weights), _centred(y, weights)
    return _ratio((weights * x * y).sum(axis=1), (weights * x * x).sum(axis=1), (weights * y * y).sum(axis=1))


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return values [B, n] less their mean; what is rounding beside the largest value is 0, so constants stay so."""
    found: np.ndarray = values - (weights * values).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    found[np.abs(found) <= _ZERO * np.abs(values).max()] = 0.0
    return found


def _ratio(both: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    below = np.sqrt(first) * np.sqrt(second)
    found: np.ndarray = np.divide(both, below, out=np.full_like(both, np.nan), where=below > 0)
    found.clip(-1.0, 1.0, out=found)
    return found
