"""Every number of metrics.json, computed from statistics of features alone, and the names that the numbers go by."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from caskit.evaluate.fidelity.distances import Value, frechet, inception_score, kernel, kernel_of_all
from caskit.evaluate.fidelity.extractor import Identity
from caskit.evaluate.fidelity.manifold import NEAREST_K, prdc
from caskit.evaluate.fidelity.moments import SPLITS
from caskit.evaluate.fidelity.statistics import Statistics
from caskit.evaluate.fidelity.subset import number_text
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

NUM_FEATURES, KID_SUBSET_SIZE = 10_000, 1000
MIN_CLASS = 100  # images of a class on both sides, below which nothing is said of it
BELOW_DIMENSION = "n-below-dimension"
MANIFOLD = ("precision", "recall", "density", "coverage")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How metrics are computed.

    Attributes:
        num_features: KID, precision, recall, density and coverage are over so many of the first images of each set.
        kid_subset_size: of KID's subsets.
        nearest_k: neighbours of precision, recall, density and coverage.
    """

    num_features: int = NUM_FEATURES
    kid_subset_size: int = KID_SUBSET_SIZE
    nearest_k: int = NEAREST_K

    def __post_init__(self) -> None:
        for name, least in (("num_features", 2), ("kid_subset_size", 2), ("nearest_k", 1)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= 10**6:
                raise InputError(f"metrics: {name} is {value!r}, must be a whole number from {least} to 1000000")

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON values."""
        return dataclasses.asdict(self)


def short_names(identity: Identity) -> dict[str, str]:
    """Return what the three metrics that Inception gave its name to are called with an extractor."""
    if identity.is_inception:
        return {"score": "is", "frechet": "fid", "kernel": "kid"}
    return {"score": "cs", "frechet": "fd", "kernel": "kd"}


def metric_name(metric: str, identity: Identity, num: int, settings: Settings) -> str:
    """Return a metric's whole name, `fid[inception-2015@6726825d]@50k`; settings are in it where they are not usual."""
    chosen = ""
    if metric in ("kid", "kd") and settings.kid_subset_size != KID_SUBSET_SIZE:
        chosen = f"(size={settings.kid_subset_size})"
    if metric in MANIFOLD and settings.nearest_k != NEAREST_K:
        chosen = f"(k={settings.nearest_k})"
    return f"{metric}{chosen}[{identity.title}]@{number_text(num)}"


def metric_numbers(
    identity: Identity, ours: Statistics, theirs: Statistics, settings: Settings, classes: ClassList
) -> dict[str, Any]:
    """Return `metrics`, `omitted` and `per_class` of metrics.json (docs/scores.md).

    Args:
        identity: of the extractor.
        ours: of the set that is measured.
        theirs: of the real set beside it.
        settings: how.
        classes: of both.
    """
    names = short_names(identity)
    kept = settings.num_features
    features = ours.features[:kept], theirs.features[:kept]
    counts, few = (len(features[0]), len(features[1])), min(map(len, features))
    metrics: list[dict[str, Any]] = []
    omitted: list[dict[str, str]] = []

    def add(metric: str, value: Value, num: tuple[int, int | None], marks: tuple[str, ...] = ()) -> None:
        metrics.append(
            {
                "name": metric_name(metric, identity, num[0], settings),
                "metric": metric,
                "value": value.value,
                "sd": value.sd,
                "num": num[0],
                "num_reference": num[1],
                "marks": list(marks),
            }
        )

    if ours.split_scores is None:
        omitted.append({"metric": names["score"], "reason": "the extractor knows no classes"})
    elif ours.num < SPLITS:
        omitted.append({"metric": names["score"], "reason": f"needs {SPLITS} images, {ours.num} are there"})
    else:
        add(names["score"], inception_score(ours), (ours.num, None))
    marks = (BELOW_DIMENSION,) if min(ours.num, theirs.num) < ours.dim else ()
    distance = frechet((ours.mean, ours.covariance), (theirs.mean, theirs.covariance))
    add(names["frechet"], distance, (ours.num, theirs.num), marks)
    if few < settings.kid_subset_size:
        reason = f"its subsets are of {settings.kid_subset_size} images, {few} are there; --kid-subset-size changes it"
        omitted.append({"metric": names["kernel"], "reason": reason})
    else:
        add(names["kernel"], kernel(*features, subset_size=settings.kid_subset_size), counts)
    if few <= settings.nearest_k:
        reason = f"needs more than {settings.nearest_k} images, {few} are there"
        omitted += [{"metric": metric, "reason": reason} for metric in MANIFOLD]
    else:
        found = prdc(features[1], features[0], nearest_k=settings.nearest_k)
        for metric in MANIFOLD:
            add(metric, Value(value=found[metric]), counts)
    return {
        "metrics": metrics,
        "omitted": omitted,
        "per_class": [_of_class(label, identity, ours, theirs, settings, classes) for label in range(len(classes))],
    }


def _of_class(
    label: int, identity: Identity, ours: Statistics, theirs: Statistics, settings: Settings, classes: ClassList
) -> dict[str, Any]:
    """Return a class's numbers, null where it has too few images."""
    names = short_names(identity)
    kept = settings.num_features
    features = [one.features[:kept][one.labels[:kept] == label] for one in (ours, theirs)]
    few = min(map(len, features))
    counts = [int(one.class_counts[label]) for one in (ours, theirs)]
    row: dict[str, Any] = {
        "label": label,
        "id": classes.ids[label],
        "name": classes.names[label],
        "num": counts[0],
        "num_reference": counts[1],
        "num_features": len(features[0]),
        "num_reference_features": len(features[1]),
        **dict.fromkeys((*names.values(), *MANIFOLD)),
    }

    def of(allowed: bool, compute: Callable[[], float]) -> float | None:
        return compute() if allowed else None

    scores = ours.class_scores
    row[names["score"]] = None if scores is None else of(counts[0] >= MIN_CLASS, lambda: float(scores[label]))
    both = label in ours.class_moments and label in theirs.class_moments and min(counts) >= MIN_CLASS
    row[names["frechet"]] = of(both, lambda: frechet(ours.class_moments[label], theirs.class_moments[label]).value)
    row[names["kernel"]] = of(few >= MIN_CLASS, lambda: kernel_of_all(features[0], features[1]).value)
    if few >= max(MIN_CLASS, settings.nearest_k + 1):
        row |= prdc(features[1], features[0], nearest_k=settings.nearest_k)
    return row


def is_finite(numbers: dict[str, Any]) -> bool:
    """Tell whether all values of `metric_numbers` are, as JSON needs them."""
    values = [entry["value"] for entry in numbers["metrics"]]
    values += [v for row in numbers["per_class"] for v in row.values() if isinstance(v, float)]
    return bool(np.isfinite(values).all())
