"""Every number of a score, computed from predictions alone."""

from typing import Any

import numpy as np
import pyarrow as pa

from caskit.evaluate.intervals import wilson
from caskit.manifests.classes import ClassList

NUM_BINS = 15  # of the calibration error (Guo et al. 2017)


def accuracy(successes: int, trials: int) -> dict[str, float]:
    """Return `{value, low, high}` of an accuracy with its Wilson interval at 95 %, fractions."""
    low, high = wilson(successes, trials)
    return {"value": successes / trials, "low": low, "high": high}


def top_k(predictions: pa.Table, k: int) -> dict[str, float]:
    """Return the share of images whose label is among the k classes ranked first, with its interval."""
    ranks = predictions.column("rank").to_numpy()
    return accuracy(int((ranks < k).sum()), len(ranks))


def negative_log_likelihood(predictions: pa.Table) -> float:
    """Return the mean of -log p(label), in nats."""
    return float(-predictions.column("log_probability").to_numpy().mean())


def brier(predictions: pa.Table) -> float:
    """Return the mean over images of `sum_c (p_c - [c = label])^2`, 0 to 2 (Brier 1950)."""
    label_probability = np.exp(predictions.column("log_probability").to_numpy())
    squares = predictions.column("sum_squared_probabilities").to_numpy()
    return float((1 - 2 * label_probability + squares).mean())


def calibration_error(predictions: pa.Table) -> float:
    """Return the expected calibration error of the first answer in 15 bins of equal width (Guo et al. 2017, eq. 3)."""
    confidence = np.exp(first_log_probabilities(predictions))
    correct = predictions.column("rank").to_numpy() == 0
    bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    surplus = np.bincount(bins, weights=correct - confidence, minlength=NUM_BINS)
    return float(np.abs(surplus).sum() / len(confidence))


def first_log_probabilities(predictions: pa.Table) -> np.ndarray:
    """Return log p of the class ranked first, [N] float64."""
    lists = predictions.column("top5_log_probabilities").combine_chunks()
    first: np.ndarray = lists.flatten().to_numpy()[lists.offsets.to_numpy()[:-1] - lists.offsets[0].as_py()]
    return first


def per_class(predictions: pa.Table, classes: ClassList) -> list[dict[str, Any]]:
    """Return top-1 per class in label order: label, id, name, num, top1, low, high.

    A class without a test image has top1 null and the interval 0..1.
    """
    labels = predictions.column("label").to_numpy()
    counts = np.bincount(labels, minlength=len(classes))
    correct = np.bincount(labels[predictions.column("rank").to_numpy() == 0], minlength=len(classes))
    rows = []
    for label, (num, hits) in enumerate(zip(counts.tolist(), correct.tolist(), strict=True)):
        low, high = wilson(hits, num)
        rows.append(
            {
                "label": label,
                "id": classes.ids[label],
                "name": classes.names[label],
                "num": num,
                "top1": hits / num if num else None,
                "low": low,
                "high": high,
            }
        )
    return rows


def summary(predictions: pa.Table, classes: ClassList) -> dict[str, Any]:
    """Return all metrics of a set of predictions; `top5` is null where there are five classes or fewer."""
    return {
        "num_test": predictions.num_rows,
        "top1": top_k(predictions, 1),
        "top5": top_k(predictions, 5) if len(classes) > 5 else None,
        "nll": negative_log_likelihood(predictions),
        "brier": brier(predictions),
        "ece": calibration_error(predictions),
        "per_class": per_class(predictions, classes),
    }
