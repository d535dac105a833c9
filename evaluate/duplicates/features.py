"""Near copies, as a network sees them: moved or slightly changed, so that no pixel stays and every feature does.

A feature vector becomes a direction: what is left when the mean of real training images is taken off, scaled to a
length of SCALE and rounded to whole numbers, whose products are exact. How far two images are from each other says
little, for images of one class are alike; an image is *close* to another if it is much nearer to it than to the next
five, as by pixels. The null for training images are real test images, for test images real training images: neither
copied the other.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from caskit.evaluate.duplicates import findings
from caskit.evaluate.duplicates.findings import Found
from caskit.evaluate.duplicates.pixels import MAX_BYTES, Pixels
from caskit.evaluate.duplicates.search import Search, spaced
from caskit.evaluate.fidelity.extractor import Extractor
from caskit.evaluate.fidelity.statistics import each_batch
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet

SCALE = 4000  # with the rounding of up to 9,000 features below 4096, whose square a float32 holds
MAX_FEATURES = 9000
NULL_IMAGES = 10_000  # real images that a null and the centre are made of, evenly over the set
TRAIN, TEST = "features-train", "features-test"  # the parts of the nearest pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """A set that is looked at twice: as pixels and as features.

    Attributes:
        data: the open set.
        pixels: of it.
    """

    data: FrozenSet
    pixels: Pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearCopies:
    """What features say.

    Attributes:
        record: the block `features` of duplicates.json, without pairs.
        pairs: by part (TRAIN, TEST) the nearest pairs, see `worst_pairs`.
    """

    record: dict[str, Any]
    pairs: dict[str, list[dict[str, Any]]]


def find_near_copies(
    extractor: Extractor, ours: Looked, train: Looked, test: Looked, search: Search, *, weights: Path | None = None
) -> NearCopies:
    """Look for near copies of training and of test images.

    Args:
        extractor: the network.
        ours: the set.
        train: real images that its generator was fitted to.
        test: real images that it is scored on.
        search: device, progress and stop.
        weights: where the extractor's weights are, for the record.

    Raises:
        InputError: the network cannot read these images, or their features take more memory than is allowed.
        NotFinished: the search was stopped.
        RunFailed: a feature is not finite.
    """
    asked = spaced(len(train.data), NULL_IMAGES), spaced(len(test.data), NULL_IMAGES)
    centre = _centre(extractor, train.data, asked[0], search)
    total = sum(len(one.data) for one in (ours, train, test)) * len(centre) * 2
    if len(centre) > MAX_FEATURES or total > MAX_BYTES:
        raise InputError(
            f"extractor {extractor.identity.name}: {len(centre):,} features of all images take {total:,} bytes, "
            f"{MAX_BYTES:,} and {MAX_FEATURES:,} features are allowed; choose another extractor, or --first"
        )
    mine, theirs, tested = (
        _directions(extractor, one.data, centre, search, name)
        for one, name in ((ours, "the set"), (train, "the training set"), (test, "the test set"))
    )

    def find(left: np.ndarray, right: np.ndarray, stage: str) -> Found:
        return search.find(left, right, f"{stage}, by features", unit=SCALE)

    to_train, to_test = find(mine, theirs, "nearest training images"), find(mine, tested, "nearest test images")
    nulls = (
        find(tested[asked[1]], theirs, "test to training images"),
        find(theirs[asked[0]], tested, "training to test images"),
    )
    blank = ours.pixels.blank
    copied, close = _compared(to_train, nulls[0], blank, test.pixels.blank[asked[1]])
    beyond = findings.beyond(copied["close"], copied["null"]["close"])
    leaks, near_test = _compared(to_test, nulls[1], blank, train.pixels.blank[asked[0]])
    leaked = near_test & (to_test.nearest < to_train.nearest)
    share = findings.share(leaked)
    images = len(np.unique(to_test.places[leaked, 0]))
    record = {
        "extractor": extractor.identity.to_json(),
        "title": extractor.identity.title,
        "weights": {"location": None if weights is None else str(weights.resolve())},
        "dim": len(centre),
        "train": {**copied, "memorised": beyond},
        "test": {
            **leaks,
            "leaked": {**share, "test_images": images},
            "copied": findings.beyond(share, leaks["null"]["close"]),
        },
    }
    pairs = {
        TRAIN: _pairs(to_train, close, blank, ours, train),
        TEST: _pairs(to_test, leaked, blank, ours, test),
    }
    return NearCopies(record=record, pairs=pairs)


def _compared(
    found: Found, null: Found, blank: np.ndarray, null_blank: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """Count the close images beside the null's, whose NULL_QUANTILE is the threshold; return which are close, too."""
    threshold = float(np.quantile(null.ratios[~null_blank], findings.NULL_QUANTILE))
    close = (found.ratios < threshold) & ~blank
    numbers = {
        "close": findings.share(close),
        "distance": findings.spread_of(found.nearest),
        "threshold": threshold,
        "null": {
            "close": findings.share((null.ratios < threshold) & ~null_blank),
            "distance": findings.spread_of(null.nearest),
        },
    }
    return numbers, close


def _pairs(found: Found, close: np.ndarray, blank: np.ndarray, ours: Looked, theirs: Looked) -> list[dict[str, Any]]:
    return findings.worst_pairs(found, close if close.any() else ~blank, ours.pixels, theirs.pixels, once=False)


def _centre(extractor: Extractor, data: FrozenSet, ids: np.ndarray, search: Search) -> np.ndarray:
    """Return the mean features of some images, [D] float64."""
    total: np.ndarray | None = None
    shown = search.shown("mean features")
    for start, outputs in each_batch(extractor, data, ids, command="duplicates", stop=search.stop):
        part = outputs.features.astype(np.float64).sum(axis=0)
        total = part if total is None else total + part
        shown(start + len(outputs.features), len(ids))
    assert total is not None, "a set has images"
    found: np.ndarray = total / len(ids)
    return found


def _directions(extractor: Extractor, data: FrozenSet, centre: np.ndarray, search: Search, name: str) -> np.ndarray:
    """Return the features of a set as directions from the centre, [N, D] int16 of length SCALE; 0 at the centre."""
    found = np.empty((len(data), len(centre)), dtype=np.int16)
    shown = search.shown(f"features of {name}")
    for start, outputs in each_batch(extractor, data, np.arange(len(data)), command="duplicates", stop=search.stop):
        apart = outputs.features.astype(np.float64) - centre
        lengths = np.linalg.norm(apart, axis=1, keepdims=True)
        part = np.divide(SCALE * apart, lengths, out=np.zeros_like(apart), where=lengths > 0)
        found[start : start + len(part)] = np.rint(part).astype(np.int16)
        shown(start + len(part), len(data))
    return found
