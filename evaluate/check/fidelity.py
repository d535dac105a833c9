"""metrics.json checked: its id and names, the sets and subsets it names, and its numbers, as far as they are at hand.

Numbers follow from statistics of features, which are large and lie in the cache of who extracted them: there they are
made again at once. Elsewhere, or with `--again`, the extractor looks at all images once more.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from caskit.evaluate.check.findings import ABSOLUTE, MAX_SHOWN, Report, equal, pairs, shown
from caskit.evaluate.check.sources import Sources
from caskit.evaluate.fidelity.cache import default_folder, entry_key, read_statistics
from caskit.evaluate.fidelity.extractor import CLASSIFIER, Identity, open_extractor
from caskit.evaluate.fidelity.measuring import statistics_of
from caskit.evaluate.fidelity.numbers import BELOW_DIMENSION, Settings, metric_numbers, short_names
from caskit.evaluate.fidelity.record import METRICS_NAME, due_names, metrics_id, parse_metrics
from caskit.evaluate.fidelity.statistics import Statistics
from caskit.evaluate.fidelity.subset import Subset, take_subset
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet
from caskit.train.training import read_run
from caskit.train.weights import file_digest

FROM_CACHE, FROM_IMAGES = 1e-6, 1e-3  # relative: eigenvalues by other threads, features by another processor
_SETS = ("replica", "reference")


def check_metrics(
    folder: Path, sources: Sources, report: Report, *, again: torch.device | None = None, cache: Path | None = None
) -> None:
    """Check a folder of `caskit metrics`.

    Args:
        folder: with metrics.json.
        sources: finds sets.
        report: gets the findings.
        again: extract all features once more on this device; None leaves it out.
        cache: where statistics may lie; None for the usual folder.

    Raises:
        InputError: it holds no record of ours.
    """
    path, record = folder / METRICS_NAME, parse_metrics(folder)
    try:
        _check_record(path, record, report)
        identity, settings = Identity.from_json(record["extractor"]), Settings(**record["settings"])
        ready: list[tuple[FrozenSet, Subset]] = []
        for role in _SETS:
            data = sources.find_set(report, role, record[role])
            subset = None if data is None else _subset(report, path, role, data, record["inputs"][f"{role}_subset"])
            if data is not None and subset is not None:
                ready.append((data, subset))
        usable = _check_weights(report, record, identity)
        if len(ready) < len(_SETS):
            report.missing(path, "no number can be made again without both sets")
            return
        _check_numbers(report, path, record, identity, settings, ready, again if usable else None, cache)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no record of `caskit metrics` ({error!r})") from error


def _check_record(path: Path, record: Mapping[str, Any], report: Report) -> None:
    """Compare what the record says twice, and its id."""
    if record["metrics_id"] != metrics_id(dict(record)):
        report.differs(path, "metrics_id does not follow from the record, it was edited")
    else:
        report.agrees(path, f"metrics_id {record['metrics_id'][:16]} follows")
    names = short_names(Identity.from_json(record["extractor"]))
    below = min(record["inputs"][f"{role}_subset"]["num"] for role in _SETS) < record["dim"]
    due = {
        "metrics": [
            {"name": name, "marks": [BELOW_DIMENSION] if below and entry["metric"] == names["frechet"] else []}
            for name, entry in zip(due_names(dict(record)), record["metrics"], strict=True)
        ],
        "inputs": {
            "extractor": record["extractor"],
            "settings": record["settings"],
            **{role: record[role]["replica_id"] for role in _SETS},
        },
    }
    report.compare(path, due, record, "the record itself")


def _subset(report: Report, path: Path, role: str, data: FrozenSet, stored: Mapping[str, Any]) -> Subset | None:
    """Compare which samples were measured; None where they are not those."""
    try:
        subset = take_subset(data, stored["num"])
    except InputError as error:
        report.differs(path, str(error))
        return None
    before = len(report.of("differs"))
    report.compare(path, {f"{role}_subset": {"sha256": subset.sha256}}, {f"{role}_subset": stored}, "the set")
    return subset if len(report.of("differs")) == before else None


def _check_weights(report: Report, record: Mapping[str, Any], identity: Identity) -> bool:
    """Compare the extractor's weights with their digest; False where they are not at hand or others."""
    location = record["weights"]["location"]
    place = None if location is None else Path(str(location))
    if place is None or not place.exists():
        report.missing(place or identity.name, f"the weights {identity.digest[:16]} are not there")
        return False
    try:
        digest = str(read_run(place)["classifier_id"]) if identity.name == CLASSIFIER else file_digest(place)
    except (InputError, OSError) as error:
        report.differs(place, str(error))
        return False
    report.compare(place, {"digest": digest}, {"digest": identity.digest}, "the weights")
    return digest == identity.digest


def _check_numbers(
    report: Report,
    path: Path,
    record: Mapping[str, Any],
    identity: Identity,
    settings: Settings,
    sets: list[tuple[FrozenSet, Subset]],
    again: torch.device | None,
    cache: Path | None,
) -> None:
    found: list[Statistics | None]
    if again is not None:
        location = record["weights"]["location"]
        extractor = open_extractor(
            identity.name, weights=Path(str(location)), resize=identity.resize, device=again, fetch=False
        )
        if extractor.identity != identity:
            report.differs(path, f"the extractor is {extractor.identity.title}, with other constants than recorded")
            return
        found = [statistics_of(extractor, *one, settings=settings, cache=None) for one in sets]
        what, tolerance = "the extractor", FROM_IMAGES
    else:
        place = cache or default_folder()
        found = [read_statistics(place, entry_key(identity, *one, settings.num_features)) for one in sets]
        what, tolerance = "the features kept here", FROM_CACHE
    ours, theirs = found
    if ours is None or theirs is None:
        report.missing(path, "features of both sets are not kept here, so no number was made again; --again extracts")
        return
    due = metric_numbers(identity, ours, theirs, settings, sets[0][0].classes)
    _compare(report, path, {"dim": ours.dim, **due}, record, what, tolerance)


def _compare(
    report: Report, path: Path, due: Mapping[str, Any], stored: Mapping[str, Any], what: str, tolerance: float
) -> None:
    """Note every value that is not what is due within a tolerance, or that all of them are."""
    faults, count = [], 0
    for place, ours, theirs in pairs(due, stored):
        count += 1
        both = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (ours, theirs))
        near = both and isinstance(ours, float) and math.isclose(ours, theirs, rel_tol=tolerance, abs_tol=ABSOLUTE)
        if not near and not equal(ours, theirs):
            faults.append(f"{place} is {shown(theirs)}, {what} gives {shown(ours)}")
    for fault in faults[:MAX_SHOWN]:
        report.differs(path, fault)
    if len(faults) > MAX_SHOWN:
        report.differs(path, f"{len(faults) - MAX_SHOWN} more values differ")
    if not faults:
        report.agrees(path, f"{count:,} values are what {what} gives, within {tolerance:g}")
