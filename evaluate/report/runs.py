"""The scores of a page by what was trained on: a mean per set, whatever the number of training seeds."""

import dataclasses
from collections.abc import Sequence

from caskit.evaluate.report.chart import Interval
from caskit.evaluate.report.groups import Group
from caskit.evaluate.report.record import Score


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One set as CAS has it.

    Attributes:
        scores: of it, by training seed.
        top1: their mean with its interval: over test images, and over trainings where there are several and their
            predictions are at hand.
        gan_test: top-1 of the other direction, a fraction; None where it is not on the page.
    """

    scores: tuple[Score, ...]
    top1: Interval
    gan_test: float | None

    @property
    def first(self) -> Score:
        """The score whose set stands for the run."""
        return self.scores[0]


def cas_runs(scores: Sequence[Score], groups: Sequence[Group]) -> list[Run]:
    """Return the CAS of every set that has one, in the order of the page; recipes and test sets are kept apart."""
    found: dict[tuple[str, ...], list[Score]] = {}
    for score in scores:
        if score.metric == "CAS":
            key = (score.train.ids["set_id"], score.recipe_id, score.test.ids["content_root"])
            found.setdefault(key, []).append(score)
    return [_run(members, scores, groups) for members in found.values()]


def _run(members: Sequence[Score], scores: Sequence[Score], groups: Sequence[Group]) -> Run:
    other = [
        score.top1.value
        for score in scores
        if score.metric == "GAN-test" and score.test.ids["content_root"] == members[0].train.ids["content_root"]
    ]
    group = next((group for group in groups if group.scores[0] is members[0]), None)
    mean = sum(score.top1.value for score in members) / len(members)
    top1 = members[0].top1 if len(members) == 1 else Interval(value=mean, low=mean, high=mean)
    if group is not None and group.top1 is not None:
        top1 = group.top1
    return Run(scores=tuple(members), top1=top1, gan_test=sum(other) / len(other) if other else None)
