"""A row of cas.json: the scores of several classifiers as one, with an interval for each thing that may differ.

test_images      other images of the same classes, the classifiers as they are: stratified bootstrap
training_seeds   other trainings on the same set, the test images as they are: Student's t over the seeds
sampling_seeds   other replicas of the same plan but its seed, each trained anew: Student's t over the replicas
all              all of it at once (`crossed.py`)
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caskit.evaluate.answers import Answers, check_same_images
from caskit.evaluate.bootstrap import Bootstrap, percentile_interval, resampled_means
from caskit.evaluate.crossed import parts_of, student_interval
from caskit.evaluate.predict import PREDICTIONS_NAME, read_predictions

POINTS = 100.0
TRAINING_SEEDS, SAMPLING_SEEDS = "training_seeds", "sampling_seeds"
MEASURES = ("top5", "nll", "brier", "ece")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """One classifier's score.

    Attributes:
        seed: of the training.
        folder: of the score.
        record: of its score.json.
        num: training images.
        real: the score folder of the Real row that it stands beside.
    """

    seed: int
    folder: Path
    record: Mapping[str, Any]
    num: int
    real: Path | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hits:
    """Which test images several classifiers got right.

    Attributes:
        labels: [N] int64, ascending.
        ours: [S, N] float64, 0 or 1, a row per classifier.
        reals: the same of the Real row that each one stands beside; None without one, or without its predictions.
    """

    labels: np.ndarray
    ours: np.ndarray
    reals: np.ndarray | None


def read_hits(entries: Sequence[Scored]) -> Hits:
    """Read the predictions of scores on the same test images. Raises InputError if they are not the same."""
    folders = [entry.folder for entry in entries]
    reals = [entry.real for entry in entries if entry.real is not None]
    if len(reals) < len(entries) or not all((folder / PREDICTIONS_NAME).is_file() for folder in reals):
        reals = []
    answers = {folder: Answers.of(read_predictions(folder / PREDICTIONS_NAME)) for folder in {*folders, *reals}}
    first = answers[folders[0]]
    for folder, other in answers.items():
        check_same_images(first, other, names=(str(folders[0]), str(folder)))
    return Hits(
        labels=first.labels,
        ours=np.stack([answers[folder].hits for folder in folders]),
        reals=np.stack([answers[folder].hits for folder in reals]) if reals else None,
    )


def make_row(name: str, entries: Sequence[Scored], hits: Hits, out: Path) -> dict[str, Any]:
    """Return a row of cas.json: what every classifier scored, the spread over them, and the intervals of the mean."""
    records = [entry.record for entry in entries]
    gaps = {field: [record[field] for record in records] for field in ("gap_points", "gap_relative")}
    scores = [
        {
            "seed": entry.seed,
            "top1": entry.record["top1"]["value"],
            "gap_points": entry.record["gap_points"],
            "score_id": entry.record["score_id"],
            "location": str(entry.folder.relative_to(out)),
        }
        for entry in entries
    ]
    return {
        "name": name,
        "metric": records[0]["metric"],
        "num": entries[0].num,
        "scores": scores,
        "top1": spread([score["top1"] for score in scores]),
        **{field: None if None in values else spread(values) for field, values in gaps.items()},
        **measure_spreads(records),
        "intervals": hit_intervals(hits),
    }


def sampling_spread(rows: Sequence[Mapping[str, Any]], hits: Sequence[Hits], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the block `sampling_seeds` of cas.json, from a row and its hits per replica.

    `top1` and `gap_points` are spreads of the replicas' means over their training seeds. `training_sd` is the deviation
    between trainings on one replica; `sampling_sd` that between replicas which the trainings do not explain, a
    fraction of 1 as top1 is, 0 where they explain all.
    """
    reals = [one.reals for one in hits if one.reals is not None]
    whole = Hits(
        labels=hits[0].labels,
        ours=np.stack([one.ours.mean(axis=0) for one in hits]),
        reals=np.stack([real.mean(axis=0) for real in reals]) if len(reals) == len(hits) else None,
    )
    means = [one.ours.mean() for one in hits]
    num_trainings, training_sd, noise = len(hits[0].ours), None, 0.0
    if num_trainings > 1:
        within = float(np.mean([one.ours.mean(axis=1).var(ddof=1) for one in hits]))
        training_sd, noise = math.sqrt(within), within / num_trainings
    gaps = [row["gap_points"] for row in rows]
    return {
        "seeds": list(seeds),
        "top1": spread([row["top1"]["mean"] for row in rows]),
        "gap_points": None if None in gaps else spread([gap["mean"] for gap in gaps]),
        "training_sd": training_sd,
        "sampling_sd": math.sqrt(max(0.0, float(np.var(means, ddof=1)) - noise)),
        "intervals": hit_intervals(whole, unit=SAMPLING_SEEDS),
    }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean, standard deviation (n - 1; None for one value), min and max."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": math.fsum(values) / len(values), "sd": deviation, "min": min(values), "max": max(values)}


def measure_spreads(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the spread of every other measure over score records; None for what some of them lack."""
    found: dict[str, Any] = {}
    for name in MEASURES:
        values = [record[name]["value"] if isinstance(record[name], dict) else record[name] for record in records]
        found[name] = None if None in values else spread(values)
    return found


def mean_intervals(values: np.ndarray, labels: np.ndarray, replicates: np.ndarray, *, unit: str) -> dict[str, Any]:
    """Return the intervals of a mean over classifiers and test images, `{low, high, se}` each.

    Args:
        values: [S, N] float64, a row per classifier.
        labels: [N] int64, ascending.
        replicates: [B] float64, the mean over resampled test images.
        unit: what the classifiers differ by: `training_seeds` or `sampling_seeds`; null for one classifier.
    """
    parts = parts_of(values, labels)
    seeds = None
    if parts.trainings is not None:
        seeds = student_interval(parts.mean, parts.trainings, parts.trainings_degrees)
    whole = student_interval(parts.mean, parts.variance, parts.degrees)
    return {"test_images": percentile_interval(replicates), unit: seeds, "all": whole}


def relative_values(reals: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Return [S, N] values whose mean is the relative gap, and which vary as it does to first order (delta method)."""
    real, score = reals.mean(), ours.mean()
    found: np.ndarray = 1 - score / real + (reals * score - ours * real) / real**2
    return found


def hit_intervals(hits: Hits, *, unit: str = TRAINING_SEEDS, bootstrap: Bootstrap | None = None) -> dict[str, Any]:
    """Return the block `intervals` of a row: of top1, and beside Real of gap_points and gap_relative.

    One Real row may stand beside all classifiers; then Real's training seed is no part of the spread.
    """
    values = {"top1": hits.ours}
    if hits.reals is not None:
        values["gap_points"] = POINTS * (hits.reals - hits.ours)
        if hits.reals.mean() > 0:
            values["gap_relative"] = relative_values(hits.reals, hits.ours)
    columns = np.column_stack([one.mean(axis=0) for one in values.values()])
    means = resampled_means(columns, hits.labels, bootstrap or Bootstrap())
    found: dict[str, Any] = dict.fromkeys(("top1", "gap_points", "gap_relative"))
    for (name, one), replicates in zip(values.items(), means.T, strict=True):
        found[name] = mean_intervals(one, hits.labels, replicates, unit=unit)
    return found
