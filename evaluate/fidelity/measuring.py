"""The fidelity of a set: how far its images are from real ones as a network sees them, read from the shards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from caskit.evaluate.fidelity.cache import entry_key, read_statistics, write_statistics
from caskit.evaluate.fidelity.extractor import Extractor
from caskit.evaluate.fidelity.numbers import BELOW_DIMENSION, Settings, is_finite, metric_numbers
from caskit.evaluate.fidelity.record import METRICS_NAME, METRICS_VERSION, metrics_id, read_metrics, write_metrics
from caskit.evaluate.fidelity.statistics import BATCH_SIZE, Statistics, extract
from caskit.evaluate.fidelity.subset import DEFAULT_NUM, Subset, take_subset
from caskit.manifests.errors import InputError, RunFailed
from caskit.manifests.plan import FORMAT_VERSION, differing_fields
from caskit.shards.dataset import FrozenSet
from caskit.shards.software import git_commit, versions
from caskit.train.engine import Progress
from caskit.train.provenance import describe_set, hardware

CAVEATS = (
    "These distances do not tell whether a classifier learns from the images: they need not rank generators as CAS "
    "does.",
    "Numbers of different extractors, N, or real sets cannot be compared; the first two are part of each name.",
)
BIASED = (
    "The Frechet distance is of fewer images than features: its covariance has not full rank and it is far too large; "
    "compare it with nothing."
)
OWN_JUDGE = (
    "The extractor is a classifier of this dataset's classes: it knows what separates them, not how real images look."
)
SAME_SET = "The images are those of the reference itself."


def measure(
    replica: FrozenSet,
    reference: FrozenSet,
    extractor: Extractor,
    *,
    out: Path,
    num: int | None = None,
    settings: Settings | None = None,
    weights: Path | None = None,
    cache: Path | None = None,
    batch_size: int = BATCH_SIZE,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Measure a set beside a real one; the same call returns at once when it was done before.

    Args:
        replica: what is measured.
        reference: the real images, all of which count.
        extractor: the network.
        out: folder of metrics.json.
        num: images of the replica, its first ones; None for DEFAULT_NUM, or all if there are fewer.
        settings: None for the usual ones.
        weights: where the extractor's weights are, for the record.
        cache: where statistics of features are kept; None: nowhere.
        batch_size: images per forward pass.
        device: where the extractor computes, for the record.
        progress: see `extract`.
        stop: see `extract`.

    Returns:
        The record of metrics.json (docs/scores.md).

    Raises:
        InputError: the sets do not fit together or to the extractor, or `out` holds other metrics.
        NotFinished: `stop` said so.
        RunFailed: a feature or a metric is not finite.
    """
    settings = settings or Settings()
    check_pair(replica, reference)
    subsets = (
        take_subset(replica, min(DEFAULT_NUM, len(replica)) if num is None else num),
        take_subset(reference, None),
    )
    inputs = {
        "extractor": extractor.identity.to_json(),
        "replica": replica.replica.replica_id,
        "replica_subset": {"num": len(subsets[0]), "sha256": subsets[0].sha256},
        "reference": reference.replica.replica_id,
        "reference_subset": {"num": len(subsets[1]), "sha256": subsets[1].sha256},
        "settings": settings.to_json(),
    }
    finished = _finished(out, inputs)
    if finished is not None:
        return finished
    found = [
        statistics_of(
            extractor, data, subset, settings=settings, cache=cache, batch_size=batch_size, progress=progress, stop=stop
        )
        for data, subset in zip((replica, reference), subsets, strict=True)
    ]
    numbers = metric_numbers(extractor.identity, found[0], found[1], settings, replica.classes)
    if not is_finite(numbers):
        raise RunFailed(f"{replica.store.location}: a metric is not finite; are all images alike?")
    record = {
        "format_version": FORMAT_VERSION,
        "metrics_version": METRICS_VERSION,
        **numbers,
        "extractor": extractor.identity.to_json(),
        "weights": {"location": None if weights is None else str(weights.resolve())},
        "dim": found[0].dim,
        "settings": settings.to_json(),
        "inputs": inputs,
        "replica": {**describe_set(replica), "location": str(Path(replica.store.location).resolve())},
        "reference": {**describe_set(reference), "location": str(Path(reference.store.location).resolve())},
        "class_list_sha256": replica.classes.digest,
        "caveats": _caveats(numbers, extractor, replica, reference),
        "versions": versions(),
        "git_commit": git_commit(),
        "hardware": hardware(device),
    }
    record["metrics_id"] = metrics_id(record)
    out.mkdir(parents=True, exist_ok=True)
    write_metrics(out, record)
    return record


def check_pair(replica: FrozenSet, reference: FrozenSet) -> None:
    """Raise InputError unless the second is a real set of the same classes."""
    if reference.kind != "real":
        raise InputError(
            f"{reference.store.location}: holds a set of kind {reference.kind}; fidelity is measured beside real images"
        )
    if replica.classes.digest != reference.classes.digest:
        raise InputError(f"{replica.store.location}: its class list is not that of {reference.store.location}")


def statistics_of(
    extractor: Extractor,
    data: FrozenSet,
    subset: Subset,
    *,
    settings: Settings,
    cache: Path | None,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Statistics:
    """Return the statistics of some samples, from the cache where they are in it."""
    key = entry_key(extractor.identity, data, subset, settings.num_features)
    found = None if cache is None else read_statistics(cache, key)
    if found is not None:
        return found
    found = extract(
        extractor,
        data,
        subset,
        num_features=settings.num_features,
        batch_size=batch_size,
        progress=progress,
        stop=stop,
    )
    if cache is not None:
        write_statistics(cache, key, found)
    return found


def _caveats(numbers: dict[str, Any], extractor: Extractor, replica: FrozenSet, reference: FrozenSet) -> list[str]:
    marked = any(BELOW_DIMENSION in entry["marks"] for entry in numbers["metrics"])
    return [
        *([SAME_SET] if replica.replica.content_root == reference.replica.content_root else []),
        *([BIASED] if marked else []),
        *([OWN_JUDGE] if extractor.identity.name == "classifier" else []),
        *CAVEATS,
    ]


def _finished(out: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a finished folder of these inputs, None if there is none."""
    if not (out / METRICS_NAME).exists():
        return None
    record = read_metrics(out)
    if record["inputs"] != inputs:
        fields = "; ".join(differing_fields(inputs, record["inputs"]))
        raise InputError(f"{out}: holds the metrics of other inputs, differing in {fields}; choose another folder")
    return record
