"""A score folder, or the folder of `caskit cas`, checked by somebody who does not trust it.

1. The record is whole: score_id, the digest of predictions.parquet, ids that are named twice.
2. No row of the predictions contradicts itself, and their keys and labels are the test set's.
3. Every number follows from the predictions (`numbers.score_numbers`, `cas.cas_numbers`).
4. Every set, classifier and Real row that is at hand is the one that is named.
5. On request the classifier answers again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from caskit.evaluate.baseline import baseline_predictions
from caskit.evaluate.bootstrap import Bootstrap
from caskit.evaluate.cas import CAS_NAME, cas_numbers
from caskit.evaluate.check.fidelity import check_metrics
from caskit.evaluate.check.findings import Report, shared
from caskit.evaluate.check.overlap import check_judgement, check_overlap
from caskit.evaluate.check.rows import contradictions
from caskit.evaluate.check.sources import Sources, check_classifier, find_real
from caskit.evaluate.fidelity.record import METRICS_NAME
from caskit.evaluate.numbers import score_numbers
from caskit.evaluate.overlap import leaked_images
from caskit.evaluate.predict import PREDICTIONS_NAME, predict, read_predictions
from caskit.evaluate.rows import Scored
from caskit.evaluate.score import SCORE_NAME, metric_name, read_score
from caskit.evaluate.statistics import STATISTICS_VERSION, UNPAIRED
from caskit.evaluate.trainings import SYNTHETIC_FOLDER
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.dataset import FrozenSet
from caskit.shards.untrusted import read_record
from caskit.train.training import load_classifier

MAX_REPLICATES = 10_000  # that a record may ask a checker for
MAX_ROWS_SHOWN = 5
LOG_TOLERANCE = 1e-3  # of a log-probability on another processor, nats


def check_folder(folder: Path, sources: Sources, *, again: torch.device | None = None) -> Report:
    """Check a score folder, every score of a folder of `caskit cas` and cas.json itself, or one of `caskit metrics`.

    Args:
        folder: with score.json, cas.json or metrics.json.
        sources: finds sets.
        again: classify the test images again, or extract features, on this device; None leaves it out.

    Raises:
        InputError: the folder holds none of them, or its record is not of our form.
    """
    report = Report()
    if (folder / METRICS_NAME).exists():
        check_metrics(folder, sources, report, again=again)
        return report
    if (folder / SCORE_NAME).exists() or not (folder / CAS_NAME).exists():
        check_score(folder, sources, report, again=again)
        return report
    record = _read(folder / CAS_NAME)
    try:
        entries = [
            (row["name"], score["location"], score["score_id"]) for row in record["rows"] for score in row["scores"]
        ]
        spread = record.get("sampling_seeds")
        seeds = [] if spread is None else [int(seed) for seed in spread["seeds"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / CAS_NAME}: is no record of `caskit cas` ({error!r})") from error
    scored: dict[str, list[Scored]] = {}
    for name, location, score_id in entries:
        inside = folder / str(location)
        if not inside.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{folder / CAS_NAME}: location {location!r} leaves the folder")
        found = check_score(inside, sources, report, again=again)
        if found.get("score_id") != score_id:
            report.differs(
                folder / CAS_NAME, f"{location} is score {score_id}, the folder's is {found.get('score_id')}"
            )
        scored.setdefault(str(name), []).append(_scored(inside, found, folder))
    if report.passed:
        _check_cas(record, scored, seeds, folder, report)
    return report


def _check_cas(
    record: dict[str, Any], scored: Mapping[str, list[Scored]], seeds: list[int], folder: Path, report: Report
) -> None:
    names = [SYNTHETIC_FOLDER, *(name for name in scored if name.startswith("sampling-seed-"))]
    if seeds and len(seeds) != len(names):
        report.differs(folder / CAS_NAME, f"sampling_seeds has {len(seeds)} seeds for {len(names)} rows")
        return
    if not all((entry.folder / PREDICTIONS_NAME).is_file() for entries in scored.values() for entry in entries):
        report.missing(
            folder / CAS_NAME, "predictions of some scores are not there, its intervals cannot be made again"
        )
        return
    try:
        due = cas_numbers(scored, folder, sampling_seeds=dict(zip(names, seeds, strict=True)) if seeds else {})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / CAS_NAME}: its rows do not make a score ({error!r})") from error
    if "statistics" not in record:
        report.missing(folder / CAS_NAME, "was written before it had intervals; the numbers that it has are compared")
        due = shared(due, record)
    report.compare(folder / CAS_NAME, due, record, "the score folders")


def _scored(folder: Path, record: Mapping[str, Any], root: Path) -> Scored:
    real = record.get("real")
    where = None
    if isinstance(real, dict):
        near = _near(folder)
        named = Path(str(real.get("location")))
        where = named if named.is_dir() else near
    return Scored(
        seed=record["classifier"]["seed"],
        folder=folder,
        record=record,
        num=record["classifier"]["train"]["num"],
        real=where,
    )


def _near(folder: Path) -> Path:
    """Return where the Real row of a score would be in a folder of `caskit cas`: DIR/real/seed-S/score."""
    return folder.parent.parent.parent / "real" / folder.parent.name / folder.name


def check_score(folder: Path, sources: Sources, report: Report, *, again: torch.device | None = None) -> dict[str, Any]:
    """Check one score folder and return its record. Raises InputError for what is no record of ours."""
    path = folder / SCORE_NAME
    try:
        record = read_score(folder)
        report.agrees(path, f"score_id {record['score_id'][:16]} and the digest of {PREDICTIONS_NAME} follow")
    except IntegrityError as error:
        report.differs(folder, str(error))
        record = _read(path)  # the numbers are compared all the same, which tells what was edited
    try:
        return _check_record(folder, record, sources, report, again)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not a score ({error!r})") from error


def _check_record(
    folder: Path, record: dict[str, Any], sources: Sources, report: Report, again: torch.device | None
) -> dict[str, Any]:
    path = folder / SCORE_NAME
    classifier, test, real = record["classifier"], record["test"], record["real"]
    listed = [{"id": row["id"], "name": row["name"]} for row in record["per_class"]]
    classes = ClassList.from_json(listed, name=f"{path}: per_class")
    inputs = {
        "classifier_id": classifier["classifier_id"],
        "test": test["replica_id"],
        "baseline": None if real is None else real["score_id"],
    }
    due = {
        "class_list_sha256": classes.digest,
        "metric": metric_name(
            classifier["train"]["kind"],
            test["kind"],
            str(path),
            leaked=leaked_images(record.get("overlap"), record.get("duplicates")),
        ),
        "inputs": inputs,
    }
    report.compare(path, due, record, "the record itself")
    run = check_classifier(report, classifier)
    trained = sources.find_sets(report, "training", classifier["train"])
    data = sources.find_set(report, "test", test)
    check_judgement(report, record, where=path)
    check_overlap(report, record, trained, data, near=_near(folder), where=path)
    if not (folder / PREDICTIONS_NAME).is_file():
        report.missing(folder / PREDICTIONS_NAME, "no number can be made again")
        return record
    predictions = read_predictions(folder / PREDICTIONS_NAME)
    faults = list(contradictions(predictions, len(classes)))
    for key, message in faults[:MAX_ROWS_SHOWN]:
        report.differs(folder / PREDICTIONS_NAME, f"key {key[:100]}: {message}")
    if faults:
        report.differs(folder / PREDICTIONS_NAME, f"{len(faults):,} rows contradict themselves")
        return record
    if data is not None:
        _check_images(folder / PREDICTIONS_NAME, predictions, data, report)
    _check_numbers(folder, record, classes, predictions, report)
    if again is not None and data is not None and run is not None:
        _classify_again(folder, classifier, predictions, data, again, report)
    return record


def _check_images(path: Path, predictions: pa.Table, data: FrozenSet, report: Report) -> None:
    keys, labels = predictions.column("key").to_pylist(), predictions.column("label").to_numpy()
    if len(keys) != len(data):
        report.differs(path, f"has {len(keys):,} rows, the test set {len(data):,} images")
        return
    for row, (key, due) in enumerate(zip(keys, data.keys, strict=True)):
        if key != due or labels[row] != data.labels[row]:
            found = f"key {key[:100]}, label {labels[row]}"
            report.differs(path, f"row {row}: {found}; the test set has key {due}, label {data.labels[row]}")
            return
    report.agrees(path, f"{len(keys):,} keys and labels are the test set's")


def _check_numbers(
    folder: Path, record: dict[str, Any], classes: ClassList, predictions: pa.Table, report: Report
) -> None:
    """Make every number again and compare."""
    path, block = folder / SCORE_NAME, record.get("statistics")
    real, real_predictions = None, None
    if record["real"] is not None:
        found = find_real(report, record["real"], _near(folder))
        real = _recorded_real(record) if found is None else found[0]
        real_predictions = None if found is None else baseline_predictions(found[1])
    bootstrap = None
    if block is not None:
        if block["version"] != STATISTICS_VERSION:
            raise InputError(f"{path}: statistics are of version {block['version']!r}, known is {STATISTICS_VERSION}")
        bootstrap = Bootstrap(replicates=block["bootstrap"]["replicates"], seed=block["bootstrap"]["seed"])
        if bootstrap.replicates > MAX_REPLICATES:
            raise InputError(f"{path}: {bootstrap.replicates} replicates, a check makes at most {MAX_REPLICATES}")
        if real is not None and block["gap_points"]["method"] == UNPAIRED:
            real_predictions = None
    try:
        due = score_numbers(predictions, classes, real=real, real_predictions=real_predictions, bootstrap=bootstrap)
    except InputError as error:
        report.differs(path, str(error))
        return
    if block is None:
        report.missing(path, "was written before it had statistics; the numbers that it has are compared")
        due = shared(due, record)
    elif real is not None and real_predictions is None and block["gap_points"]["method"] != UNPAIRED:
        report.missing(path, "what needs the Real row's predictions: intervals of the gap, McNemar, q_differs")
        due = _without_pairs(due)
    report.compare(path, due, record, PREDICTIONS_NAME)


def _recorded_real(record: dict[str, Any]) -> dict[str, Any]:
    """Return a stand-in for the Real row's record, with what the score itself says of it."""
    real = record["real"]
    rows = [{name: row[f"real_{name}"] for name in ("top1", "low", "high")} for row in record["per_class"]]
    return {
        **real,
        "classifier": {**real, "train": {"replica_id": real["train_replica_id"]}},
        "per_class": rows,
    }


def _without_pairs(numbers: dict[str, Any]) -> dict[str, Any]:
    """Leave out what follows from both sets of predictions."""
    block = {k: v for k, v in numbers["statistics"].items() if k not in ("gap_points", "gap_relative", "mcnemar")}
    block["classes"] = {k: v for k, v in block["classes"].items() if not k.startswith("credibly_")}
    rows = [{k: v for k, v in row.items() if k != "q_differs"} for row in numbers["per_class"]]
    return {**numbers, "statistics": block, "per_class": rows}


def _classify_again(
    folder: Path,
    classifier: Mapping[str, Any],
    predictions: pa.Table,
    data: FrozenSet,
    device: torch.device,
    report: Report,
) -> None:
    """Let the classifier answer once more: what finds an edit that everything else was made to fit."""
    fresh = predict(load_classifier(Path(classifier["location"]), device=device), data)
    ours, theirs = (table.column("log_probability").to_numpy() for table in (fresh, predictions))
    far = np.abs(ours - theirs) > LOG_TOLERANCE * np.maximum(1, np.abs(ours))
    ranks = fresh.column("rank").to_numpy() != predictions.column("rank").to_numpy()
    where, num = folder / PREDICTIONS_NAME, len(theirs)
    if far.any():
        key = predictions.column("key")[int(np.flatnonzero(far)[0])].as_py()
        report.differs(
            where, f"{int(far.sum()):,} of {num:,} answers are not the classifier's, the first key {key[:100]}"
        )
    else:
        report.agrees(where, f"the classifier gives all {num:,} answers again, {int(ranks.sum()):,} with another rank")


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON record without believing it."""
    return read_record(path, what="a record of ours")
