"""Scores that differ by their training seed alone, as one: the mean, with an interval over images and trainings."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from caskit.evaluate.predict import PREDICTIONS_NAME
from caskit.evaluate.report.chart import Interval
from caskit.evaluate.report.record import Score, real_folder
from caskit.evaluate.rows import Scored, hit_intervals, read_hits
from caskit.manifests.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Scores of one metric, set, recipe and test set.

    Attributes:
        scores: two or more, of different training seeds.
        mean: of their top-1.
        top1: the mean with its interval over test images and trainings; None without predictions.
        gap: mean gap to Real in points, and its bounds where the predictions of Real are at hand as well.
    """

    scores: tuple[Score, ...]
    mean: float
    top1: Interval | None
    gap: float | None
    gap_bounds: tuple[float, float] | None

    @property
    def title(self) -> str:
        """What its row is called."""
        return f"{self.scores[0].title}, mean of {len(self.scores)}"


def group_scores(scores: Sequence[Score]) -> list[Group]:
    """Find the scores that differ by their training seed alone, in the order of the page."""
    found: dict[tuple[str, ...], dict[int, Score]] = {}
    for score in scores:
        key = (score.metric, score.train.ids["set_id"], score.recipe_id, score.test.ids["content_root"])
        found.setdefault(key, {}).setdefault(score.seed, score)
    return [_group(list(members.values())) for members in found.values() if len(members) > 1]


def _group(scores: Sequence[Score]) -> Group:
    gaps = [score.gap_points for score in scores]
    known = [gap for gap in gaps if gap is not None]
    intervals = _intervals(scores)
    mean = sum(score.top1.value for score in scores) / len(scores)
    top1, bounds = None, None
    if intervals is not None:
        whole = intervals["top1"]["all"]
        top1 = Interval(value=mean, low=max(0.0, whole["low"]), high=min(1.0, whole["high"]))
        if intervals["gap_points"] is not None:
            bounds = intervals["gap_points"]["all"]["low"], intervals["gap_points"]["all"]["high"]
    gap = sum(known) / len(known) if len(known) == len(scores) else None
    return Group(scores=tuple(scores), mean=mean, top1=top1, gap=gap, gap_bounds=bounds if gap is not None else None)


def _intervals(scores: Sequence[Score]) -> dict[str, Any] | None:
    """Return the intervals of `rows.hit_intervals`; None where predictions are not at hand or of other images."""
    if not all((score.directory / PREDICTIONS_NAME).is_file() for score in scores):
        return None
    entries = [
        Scored(seed=score.seed, folder=score.directory, record={}, num=score.train.num, real=real_folder(score))
        for score in scores
    ]
    try:
        return hit_intervals(read_hits(entries))
    except (InputError, OSError):
        return None  # the page then shows the mean alone, and the scores one by one
