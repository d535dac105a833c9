"""Two generators on the same test images: by how much one is better, and whether that is more than chance."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from caskit.evaluate.bootstrap import Bootstrap, percentile_interval, resampled_means
from caskit.evaluate.compare.runs import Run
from caskit.evaluate.crossed import parts_of, student_interval
from caskit.evaluate.hypotheses import benjamini_hochberg, mcnemar
from caskit.evaluate.rows import POINTS

MAX_RUNS = 40  # 780 pairs


def compare_pairs(runs: Sequence[Run], bootstrap: Bootstrap | None = None) -> list[dict[str, Any]]:
    """Return for every two runs with predictions how much the first is above the second.

    All share their resampled test images, so every difference is a paired one.

    Returns:
        `{first, second, points, test_images, all, mcnemar}`, the better run first. `test_images` is the paired
        bootstrap with the classifiers as they are; `all` takes other trainings into account, null unless both have
        the same number of seeds, at least two. `mcnemar` has an entry per pair of trainings, in the order of their
        seeds, with the exact `p`, and `q`, which is p adjusted over all pairs (Benjamini and Hochberg).
    """
    able = sorted((run for run in runs if run.hits is not None), key=lambda run: -run.entry.cas)[:MAX_RUNS]
    if len(able) < 2:
        return []
    hits = {run.entry.name: run.hits for run in able if run.hits is not None}
    labels = next(iter(hits.values())).labels
    means = resampled_means(
        np.column_stack([one.ours.mean(axis=0) for one in hits.values()]), labels, bootstrap or Bootstrap()
    )
    columns = dict(zip(hits, means.T, strict=True))
    found: list[dict[str, Any]] = []
    for place, first in enumerate(able):
        for second in able[place + 1 :]:
            names = first.entry.name, second.entry.name
            ours, theirs = hits[names[0]].ours, hits[names[1]].ours
            difference = POINTS * (columns[names[0]] - columns[names[1]])
            whole = None
            if len(ours) == len(theirs) > 1:
                parts = parts_of(POINTS * (ours - theirs), labels)
                whole = student_interval(parts.mean, parts.variance, parts.degrees)
            found.append(
                {
                    "first": names[0],
                    "second": names[1],
                    "points": float(POINTS * (ours.mean() - theirs.mean())),
                    "test_images": percentile_interval(difference),
                    "all": whole,
                    "mcnemar": [
                        {"seeds": [a, b], **_mcnemar(ours[at], theirs[at])}
                        for at, (a, b) in enumerate(zip(first.seeds, second.seeds, strict=False))
                    ],
                }
            )
    tests = [test for pair in found for test in pair["mcnemar"]]
    for test, adjusted in zip(tests, benjamini_hochberg([test["p"] for test in tests]), strict=True):
        test["q"] = adjusted
    return found


def _mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    return {
        "only_first": only_first,
        "only_second": only_second,
        "p": mcnemar(only_first, only_second),
    }
