"""What a network says of a set, reduced to what metrics need: moments of all images, features of the first ones."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from caskit.evaluate.fidelity.extractor import Extractor, Outputs
from caskit.evaluate.fidelity.moments import Moments, ScoreSums, splits_of
from caskit.evaluate.fidelity.subset import Subset
from caskit.manifests.errors import IntegrityError, NotFinished, RunFailed
from caskit.shards.dataset import FrozenSet
from caskit.train.engine import Progress
from caskit.train.images import Images

BATCH_SIZE = 64
MAX_CLASS_BYTES = 2**30  # of the covariances per class


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of N images with D features.

    Attributes:
        num: N.
        mean: [D] float64.
        covariance: [D, D] float64, unbiased.
        features: of the first M images, [M, D] float32.
        labels: theirs, [M] int64.
        class_counts: images per class among the N, [classes] int64.
        split_scores: inception score per split, [SPLITS] float64, nan for an empty split; None without logits.
        class_scores: inception score over all images of a class, [classes] float64; None without logits.
        class_moments: mean and covariance by label, of the classes with more images than features, if all of these
            fit into MAX_CLASS_BYTES.
    """

    num: int
    mean: np.ndarray
    covariance: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    class_counts: np.ndarray
    split_scores: np.ndarray | None
    class_scores: np.ndarray | None
    class_moments: dict[int, tuple[np.ndarray, np.ndarray]]

    @property
    def dim(self) -> int:
        """D."""
        return len(self.mean)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return it as named arrays; `from_arrays` reads them."""
        found = {
            "num": np.array([self.num], dtype=np.int64),
            "class_labels": np.array(sorted(self.class_moments), dtype=np.int64),
            **{name: getattr(self, name) for name in _REQUIRED},
        }
        if self.split_scores is not None and self.class_scores is not None:
            found |= {"split_scores": self.split_scores, "class_scores": self.class_scores}
        for label, (mean, covariance) in self.class_moments.items():
            found |= {f"class_mean.{label}": mean, f"class_covariance.{label}": covariance}
        return found

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], *, name: str) -> "Statistics":
        """Read what `to_arrays` gave. Raises IntegrityError if something is missing."""
        try:
            required: dict[str, Any] = {field: arrays[field] for field in _REQUIRED}
            found = cls(
                num=int(arrays["num"][0]),
                **required,
                split_scores=arrays.get("split_scores"),
                class_scores=arrays.get("class_scores"),
                class_moments={
                    label: (arrays[f"class_mean.{label}"], arrays[f"class_covariance.{label}"])
                    for label in arrays["class_labels"].tolist()
                },
            )
        except (KeyError, IndexError, ValueError) as error:
            raise IntegrityError(f"{name}: no statistics of features ({error!r})") from error
        if found.covariance.shape != (found.dim, found.dim) or found.features.shape != (len(found.labels), found.dim):
            raise IntegrityError(f"{name}: statistics of features whose shapes do not fit together")
        return found


_REQUIRED = ("mean", "covariance", "features", "labels", "class_counts")


class _Sums:
    """The running sums of an extraction; what they are of is known with the first batch."""

    def __init__(self, first: Outputs, subset: Subset, num_classes: int) -> None:
        dim = first.features.shape[1]
        self.all = Moments(dim)
        counts = np.bincount(subset.labels, minlength=num_classes)
        able = np.flatnonzero(counts > dim)
        fits = len(able) * dim * dim * 8 <= MAX_CLASS_BYTES
        self.by_class = {int(label): Moments(dim) for label in able} if fits else {}
        self.counts = counts
        self._splits = splits_of(len(subset))
        num_logits = None if first.logits is None else first.logits.shape[1]
        self.split = None if num_logits is None else ScoreSums(self._splits.max() + 1, num_logits)
        self.score_by_class = None if num_logits is None else ScoreSums(num_classes, num_logits)

    def add(self, start: int, outputs: Outputs, labels: np.ndarray) -> None:
        self.all.add(outputs.features)
        for label in np.unique(labels).tolist():
            if label in self.by_class:
                self.by_class[label].add(outputs.features[labels == label])
        if self.split is not None and self.score_by_class is not None:
            assert outputs.logits is not None, "all batches have logits or none"
            self.split.add(self._splits[start : start + len(labels)], outputs.logits)
            self.score_by_class.add(labels, outputs.logits)


def extract(
    extractor: Extractor,
    data: FrozenSet,
    subset: Subset,
    *,
    num_features: int,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Statistics:
    """Run a network over some samples of a set, read from its shards.

    Args:
        extractor: the network.
        data: the open set.
        subset: which samples, in which order.
        num_features: features of so many of the first samples are kept.
        batch_size: images per forward pass.
        progress: called after every batch.
        stop: asked before every batch.

    Raises:
        InputError: the network cannot read these images.
        NotFinished: `stop` said so.
        RunFailed: a feature is not finite.
    """
    kept: list[np.ndarray] = []
    sums: _Sums | None = None
    for start, outputs in each_batch(extractor, data, subset.ids, batch_size=batch_size, progress=progress, stop=stop):
        if sums is None:
            sums = _Sums(outputs, subset, len(data.classes))
        sums.add(start, outputs, subset.labels[start : start + len(outputs.features)])
        if start < num_features:
            kept.append(outputs.features[: num_features - start])
    assert sums is not None, "a subset has samples"
    features = np.concatenate(kept).astype(np.float32)
    return Statistics(
        num=len(subset),
        mean=sums.all.mean,
        covariance=sums.all.covariance,
        features=features,
        labels=subset.labels[: len(features)],
        class_counts=sums.counts,
        split_scores=None if sums.split is None else sums.split.scores(),
        class_scores=None if sums.score_by_class is None else sums.score_by_class.scores(),
        class_moments={label: (one.mean, one.covariance) for label, one in sums.by_class.items()},
    )


def each_batch(
    extractor: Extractor,
    data: FrozenSet,
    ids: np.ndarray,
    *,
    batch_size: int = BATCH_SIZE,
    command: str = "metrics",
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Outputs]]:
    """Yield what a network makes of samples [n], as the place of a batch's first one and its outputs.

    Batches have one size, the last one padded, so that the last bits of all images are those of one batch size.

    Raises:
        InputError: the network cannot read these images.
        NotFinished: `stop` said so.
        RunFailed: a feature is not finite.
    """
    location = data.store.location
    images = Images(data, one_size=extractor.one_size, hold=())  # each is read once
    extractor.check(images, location)
    num_batches, started = -(-len(ids) // batch_size), time.monotonic()
    for batch in range(num_batches):
        if stop():
            raise NotFinished(f"{command}: stopped after {batch} of {num_batches} batches of {location}")
        start = batch * batch_size
        part = ids[start : start + batch_size]
        padded = np.concatenate([part, np.full(batch_size - len(part), part[0])])
        outputs = _first(extractor(images.each(padded)), len(part))
        _check_finite(outputs, data, part)
        yield start, outputs
        if progress is not None:
            progress(_at(batch + 1, num_batches, batch_size, time.monotonic() - started))


def _first(outputs: Outputs, num: int) -> Outputs:
    return Outputs(features=outputs.features[:num], logits=None if outputs.logits is None else outputs.logits[:num])


def _check_finite(outputs: Outputs, data: FrozenSet, ids: np.ndarray) -> None:
    fine = np.isfinite(outputs.features).all(axis=1)
    if outputs.logits is not None:
        fine &= np.isfinite(outputs.logits).all(axis=1)
    if not fine.all():
        key = data.keys[int(ids[int(np.flatnonzero(~fine)[0])])]
        raise RunFailed(f"{data.store.location}: the features of key {key} are not finite")


def _at(done: int, num_batches: int, batch_size: int, elapsed_s: float) -> Progress:
    per_batch_s = elapsed_s / done
    options: dict[str, Any] = {"metrics": {}, "stage": "features"}
    return Progress(
        step=done,
        num_steps=num_batches,
        images_per_s=batch_size / max(per_batch_s, 1e-9),
        eta_s=per_batch_s * (num_batches - done),
        **options,
    )
