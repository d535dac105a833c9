"""What a score says about its own uncertainty: intervals over test images, and which classes may be called failed."""

from typing import Any

import numpy as np

from caskit.evaluate.answers import Answers
from caskit.evaluate.bootstrap import Bootstrap, normal_interval, percentile_interval, resampled_means
from caskit.evaluate.hypotheses import FAILED_SHARE, benjamini_hochberg, failure, mcnemar
from caskit.evaluate.intervals import LEVEL, newcombe

STATISTICS_VERSION = 1  # of the procedures; docs/scores.md
FALSE_DISCOVERIES = 0.05  # the expected share of wrong names among the classes that are named
PAIRED, UNPAIRED = "paired bootstrap", "unpaired (Newcombe)"


def describe_procedure(bootstrap: Bootstrap) -> dict[str, Any]:
    """Return what a reader needs to compute the same intervals again."""
    return {
        "version": STATISTICS_VERSION,
        "level": LEVEL,
        "bootstrap": {"replicates": bootstrap.replicates, "seed": bootstrap.seed, "strata": "classes"},
        "false_discoveries": FALSE_DISCOVERIES,
        "failed_share": FAILED_SHARE,
    }


def score_statistics(
    answers: Answers, *, num_classes: int, real: Answers | None = None, bootstrap: Bootstrap | None = None
) -> dict[str, Any]:
    """Return the block `statistics` of score.json.

    Args:
        answers: the score's own.
        num_classes: of the class list.
        real: the Real row's answers to the same images, checked to be so; None where there is no Real row, or its
            predictions are not at hand.
        bootstrap: how to resample; None for the usual way.

    Returns:
        The procedure and `test_images`: `{low, high, se}` over resampled test images for top1, top5 (null for five
        classes or fewer), nll, brier and ece. With `real` also `gap_points`, `gap_relative` and `mcnemar`.
    """
    bootstrap = bootstrap or Bootstrap()
    columns = {"top1": answers.hits, "top5": answers.hits_within(5), "nll": -answers.log_probabilities}
    columns["brier"] = answers.brier
    if real is not None:
        columns["real"] = real.hits
    values = np.column_stack([*columns.values(), answers.surplus])
    means = resampled_means(values, answers.labels, bootstrap)
    found = dict(zip(columns, means.T, strict=False))
    intervals: dict[str, Any] = {name: percentile_interval(found[name]) for name in ("top1", "top5", "nll", "brier")}
    if num_classes <= 5:
        intervals["top5"] = None
    surplus = slice(len(columns), None)
    calibration_error = float(np.abs(values[:, surplus].mean(axis=0)).sum())
    intervals["ece"] = normal_interval(calibration_error, np.abs(means[:, surplus]).sum(axis=1))
    block = {**describe_procedure(bootstrap), "test_images": intervals}
    if real is not None:
        block |= _paired(answers, real, found)
    return block


def _paired(answers: Answers, real: Answers, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what a score says beside Real's answers to the same images; `found` has the replicates of both."""
    gap = found["real"] - found["top1"]
    ours, reals = answers.hits, real.hits
    only_this, only_real = int((ours > reals).sum()), int((reals > ours).sum())
    relative = gap[found["real"] > 0] / found["real"][found["real"] > 0]
    return {
        "gap_points": {**percentile_interval(100 * gap), "method": PAIRED},
        "gap_relative": {**percentile_interval(relative), "method": PAIRED},
        "mcnemar": {"only_this": only_this, "only_real": only_real, "p": mcnemar(only_this, only_real)},
    }


def unpaired_gap(top1: dict[str, float], real_top1: dict[str, float]) -> dict[str, Any]:
    """Return `gap_points` of two accuracies `{value, low, high}` where the Real row's predictions are not at hand."""
    first, second = ((one["value"], one["low"], one["high"]) for one in (real_top1, top1))
    low, high = newcombe(first, second)
    return {"gap_points": {"low": 100 * low, "high": 100 * high, "se": None, "method": UNPAIRED}}


def class_decisions(
    rows: list[dict[str, Any]], *, answers: Answers | None = None, real: Answers | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Decide which classes differ from Real's accuracy and which have failed, and count them.

    A class is *failed* if its accuracy is credibly below half of Real's in that class. It *differs* if it is credibly
    below or above Real's, by McNemar's test on the class's images, which needs both sets of answers. Both are p-values
    adjusted over all tested classes (Benjamini and Hochberg 1995) and compared with FALSE_DISCOVERIES.

    Args:
        rows: per_class with Real's columns.
        answers: the score's own.
        real: those of the Real row.

    Returns:
        The rows with `q_failed`, `failed` and `q_differs` (null where nothing was tested), and `classes`: counts, with
        the names that the paper's section on classes uses.
    """
    tested = [row for row in rows if row["num"] > 0]
    hits = {row["label"]: round(row["top1"] * row["num"]) for row in tested}
    reals = {row["label"]: round(row["real_top1"] * row["num"]) for row in tested}
    failed = benjamini_hochberg([failure(hits[r["label"]], reals[r["label"]], r["num"]) for r in tested])
    differs: list[float] | list[None] = [None] * len(tested)
    if answers is not None and real is not None:
        above = answers.counts(answers.hits > real.hits, len(rows))
        below = answers.counts(answers.hits < real.hits, len(rows))
        differs = benjamini_hochberg([mcnemar(int(above[r["label"]]), int(below[r["label"]])) for r in tested])
    decided = {
        row["label"]: {"q_failed": q_failed, "failed": q_failed <= FALSE_DISCOVERIES, "q_differs": q_differs}
        for row, q_failed, q_differs in zip(tested, failed, differs, strict=True)
    }
    nothing = {"q_failed": None, "failed": None, "q_differs": None}
    merged = [{**row, **decided.get(row["label"], nothing)} for row in rows]
    return merged, _counted(merged)


def _counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    tested = [row for row in rows if row["num"] > 0]
    known = all(row["q_differs"] is not None for row in tested)
    credible = [row for row in tested if known and row["q_differs"] <= FALSE_DISCOVERIES]
    return {
        "num": len(tested),
        "at_zero": sum(row["top1"] == 0 for row in tested),
        "above_real": sum(row["difference"] > 0 for row in tested),
        "equal_real": sum(row["difference"] == 0 for row in tested),
        "below_real": sum(row["difference"] < 0 for row in tested),
        "credibly_above_real": sum(row["difference"] > 0 for row in credible) if known else None,
        "credibly_below_real": sum(row["difference"] < 0 for row in credible) if known else None,
        "failed": [row["id"] for row in tested if row["failed"]],
    }
