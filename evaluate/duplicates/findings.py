"""What distances say: how many copies there are, how many are due, and which of it is a fault.

A blurred image is nearer to everything than a sharp one, so a distance alone convicts nobody. What gives a copy away
is that it is much nearer to one image than to the next ones: its distance to the nearest, over the mean distance to
the five after it (as Carlini et al. 2023 normalise theirs). The null is what real test images, which copied nothing,
have to the same training set.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from caskit.evaluate.duplicates.pixels import Pixels
from caskit.evaluate.intervals import newcombe, wilson

NUM_NEIGHBOURS = 6
NULL_QUANTILE = 0.01  # of real test images' ratios: below it an image is called close
EXCESS = 3.0  # times the null's share that a share has to be above, and credibly above it at all
EXACT_WITHOUT_NULL = 0.01  # copies allowed where there is no test set to give a null
DUPLICATES_ALLOWED = 0.05  # of a replica's images
COLLAPSED_SHARE, COLLAPSED_SPREAD = 0.5, 0.25
POSING = 0.5
MAX_PAIRS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Nearest neighbours of some images.

    Attributes:
        distances: [n, k] float64, rms grey levels, ascending.
        places: [n, k] int64, of the neighbours.
    """

    distances: np.ndarray
    places: np.ndarray

    @property
    def nearest(self) -> np.ndarray:
        """Distance to the nearest, [n] float64."""
        found: np.ndarray = self.distances[:, 0]
        return found

    @property
    def ratios(self) -> np.ndarray:
        """Distance to the nearest over the mean of those after it, [n] float64 from 0 to 1; of equal images 0."""
        after = self.distances[:, 1:].mean(axis=1)
        found: np.ndarray = np.divide(self.nearest, after, out=np.zeros_like(after), where=self.nearest > 0)
        return found


def share(hits: np.ndarray) -> dict[str, Any]:
    """Return how many of [n] bool are true, with Wilson's 95 % interval."""
    count, num = int(np.count_nonzero(hits)), len(hits)
    low, high = wilson(count, num)
    return {"count": count, "num": num, "share": count / num if num else None, "low": low, "high": high}


def spread_of(distances: np.ndarray) -> dict[str, float]:
    """Return the least distance, the 1 % quantile and the median."""
    low, quantile, median = np.quantile(distances, [0.0, 0.01, 0.5]).tolist()
    return {"min": low, "q01": quantile, "median": median}


def equal_to(ours: Pixels, theirs: Pixels) -> np.ndarray:
    """Return which of our images, none of one colour, are pixel by pixel among theirs, [n] bool."""
    found: np.ndarray = np.isin(ours.digests.view("S32"), theirs.digests.view("S32")) & ~ours.blank
    return found


def within_numbers(images: Pixels, found: Found, tolerance: float) -> dict[str, Any]:
    """Count the images of a set that are equal to an earlier one, and those near another one; [n] neighbours."""
    _, first = np.unique(images.digests.view("S32"), return_index=True)
    repeated = np.ones(len(images), dtype=bool)
    repeated[first] = False
    return {
        "exact": share(repeated),
        "near": share(found.nearest <= tolerance),
        "distance": spread_of(found.nearest),
    }


def copy_numbers(
    equal: np.ndarray, found: Found, blank: np.ndarray, tolerance: float, threshold: float | None
) -> dict[str, Any]:
    """Count the images that are, or are near, or are close to one of another set.

    Args:
        equal: which are equal to one, [n] bool.
        found: neighbours in the other set.
        blank: which have one colour, [n] bool; they are nobody's copies.
        tolerance: below it two images are near, grey levels.
        threshold: of the ratio; None without a null.
    """
    return {
        "exact": share(equal),
        "near": share((found.nearest <= tolerance) & ~blank),
        "close": None if threshold is None else share((found.ratios < threshold) & ~blank),
        "distance": spread_of(found.nearest),
    }


def beyond(found: Mapping[str, Any], null: Mapping[str, Any]) -> bool:
    """Return whether a share is above EXCESS times the null's, and the interval of their difference above 0."""
    ours, theirs = ((one["share"], one["low"], one["high"]) for one in (found, null))
    return bool(ours[0] > EXCESS * theirs[0] and newcombe(ours, theirs)[0] > 0)


def memorised(numbers: Mapping[str, Any], null: Mapping[str, Any] | None) -> list[str]:
    """Return which counts of `copy_numbers` say that training images were copied: exact, near, close."""
    if null is None:
        return ["exact"] if numbers["exact"]["low"] > EXACT_WITHOUT_NULL else []
    return [name for name in ("exact", "near", "close") if beyond(numbers[name], null[name])]


def class_numbers(
    images: Pixels, near: np.ndarray, real: Pixels | None, real_near: np.ndarray | None, num_classes: int
) -> list[dict[str, Any]]:
    """Return per label how many different images there are and how widely they are spread.

    Args:
        images: of the replica.
        near: which have another image of it within the tolerance, [n] bool.
        real: the real training set, or None.
        real_near: its share of such images by label, [num_classes] float64, or None.
        num_classes: in the class list.

    Returns:
        `num`, `distinct`, `near` (share), `spread` (rms distance from the class' mean, grey levels), `real_spread`,
        `real_near`, and `collapsed`, by label.
    """
    rows = []
    for label in range(num_classes):
        mine = np.flatnonzero(images.labels == label)
        row: dict[str, Any] = {"label": label, "num": len(mine), "distinct": 0, "near": None, "spread": None}
        row |= {"real_spread": None, "real_near": None, "collapsed": False}
        if len(mine):
            row["distinct"] = len(np.unique(images.digests[mine].view("S32")))
            row["near"], row["spread"] = float(near[mine].mean()), _spread(images.vectors, mine)
        if real is not None and real_near is not None and len(theirs := np.flatnonzero(real.labels == label)):
            row["real_spread"], row["real_near"] = _spread(real.vectors, theirs), float(real_near[label])
        row["collapsed"] = _collapsed(row)
        rows.append(row)
    return rows


def _collapsed(row: Mapping[str, Any]) -> bool:
    if row["num"] < 2:
        return False
    few = row["distinct"] < COLLAPSED_SHARE * row["num"]
    alike = row["near"] > COLLAPSED_SHARE and (row["real_near"] is None or row["real_near"] < COLLAPSED_SHARE / 2)
    narrow = row["real_spread"] is not None and row["spread"] < COLLAPSED_SPREAD * row["real_spread"]
    return bool(few or alike or narrow)


def _spread(vectors: np.ndarray, rows: np.ndarray) -> float:
    """Return the rms distance of some vectors from their mean, grey levels; sums are of whole numbers, so exact."""
    total = np.zeros(vectors.shape[1], dtype=np.int64)
    squares = 0
    for start in range(0, len(rows), 4096):
        part = vectors[rows[start : start + 4096]].astype(np.int64)
        total += part.sum(axis=0)
        squares += int((part * part).sum())
    values = len(rows) * vectors.shape[1]
    variance = squares / values - int((total * total).sum()) / len(rows) / values
    return float(np.sqrt(max(variance, 0.0)))


def worst_pairs(found: Found, among: np.ndarray, ours: Pixels, theirs: Pixels, *, once: bool) -> list[dict[str, Any]]:
    """Return the nearest pairs, each of our images beside another one of theirs.

    Args:
        found: neighbours of our images.
        among: which of our images may be shown, [n] bool.
        ours: the set that is looked at.
        theirs: where the neighbours are.
        once: whether a pair of one set is shown from one side only.
    """
    rows = np.flatnonzero(among)
    rows = rows[np.lexsort((rows, found.ratios[rows], found.nearest[rows]))]
    shown: set[int] = set()
    pairs = []
    for row in rows.tolist():
        place = int(found.places[row, 0])
        if place in shown or (once and row in shown):
            continue
        shown |= {place, row} if once else {place}
        pair = {"key": ours.keys[row], "other": theirs.keys[place], "distance": float(found.nearest[row])}
        pairs.append({**pair, "ratio": float(found.ratios[row]), "places": (row, place)})
        if len(pairs) == MAX_PAIRS:
            break
    return pairs
