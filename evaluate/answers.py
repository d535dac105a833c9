"""Predictions as arrays, in an order that any two sets of them on the same test images share."""

import dataclasses

import numpy as np
import pyarrow as pa

from caskit.evaluate.metrics import NUM_BINS, first_log_probabilities
from caskit.manifests.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What a classifier answered, an entry per test image, ordered by label and then by key.

    Attributes:
        keys: [N] text.
        labels: [N] int64.
        ranks: [N] int64, of the label, 0 is the best.
        log_probabilities: [N] float64, of the label, nats.
        squares: [N] float64, the sum of squared probabilities.
        first: [N] float64, log-probability of the class ranked first, nats.
    """

    keys: np.ndarray
    labels: np.ndarray
    ranks: np.ndarray
    log_probabilities: np.ndarray
    squares: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, predictions: pa.Table) -> "Answers":
        """Take the rows of a table of `predict.PREDICTION_SCHEMA`, in any order."""
        keys, labels = (
            np.array(predictions.column("key").to_pylist(), dtype=str),
            predictions.column("label").to_numpy(),
        )
        order = np.lexsort((keys, labels))

        def column(name: str) -> np.ndarray:
            values: np.ndarray = predictions.column(name).to_numpy()[order]
            return values

        return cls(
            keys=keys[order],
            labels=labels[order],
            ranks=column("rank"),
            log_probabilities=column("log_probability"),
            squares=column("sum_squared_probabilities"),
            first=first_log_probabilities(predictions)[order],
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def hits(self) -> np.ndarray:
        """1 where the first answer is right, else 0, [N] float64."""
        return self.hits_within(1)

    def hits_within(self, k: int) -> np.ndarray:
        """1 where the label is among the first k answers, else 0, [N] float64."""
        found: np.ndarray = (self.ranks < k).astype(np.float64)
        return found

    @property
    def brier(self) -> np.ndarray:
        """Each image's part of the Brier score, [N] float64."""
        found: np.ndarray = 1 - 2 * np.exp(self.log_probabilities) + self.squares
        return found

    @property
    def surplus(self) -> np.ndarray:
        """Hit minus confidence in the column of the image's bin of confidence, else 0, [N, NUM_BINS] float64."""
        confidence = np.exp(self.first)
        bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        columns = np.zeros((len(self), NUM_BINS))
        columns[np.arange(len(self)), bins] = self.hits - confidence
        return columns

    def counts(self, values: np.ndarray, num_classes: int) -> np.ndarray:
        """Sum whole numbers [N] by label, [num_classes] int64."""
        return np.bincount(self.labels, weights=values, minlength=num_classes).astype(np.int64)


def check_same_images(first: Answers, second: Answers, *, names: tuple[str, str]) -> None:
    """Raise InputError unless two classifiers answered to the same keys with the same labels."""
    if len(first) != len(second):
        raise InputError(f"{names[0]} has {len(first)} predictions, {names[1]} {len(second)}: not the same test images")
    differ = np.flatnonzero((first.keys != second.keys) | (first.labels != second.labels))
    if len(differ):
        at = int(differ[0])
        raise InputError(
            f"{names[0]} and {names[1]} are of other test images: label {first.labels[at]} key {first.keys[at]} there, "
            f"label {second.labels[at]} key {second.keys[at]} here"
        )
