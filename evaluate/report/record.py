"""A score folder as the report needs it, typed and checked."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caskit.evaluate import score as folder
from caskit.evaluate.report.chart import Interval
from caskit.evaluate.report.fields import Fields
from caskit.manifests.errors import InputError

METRICS = {
    "CAS": "CAS",
    "real": "Real",
    "reconstructions": "Reconstructions",
    "GAN-test": "GAN-test",
    "leaked": "Leaked, no CAS",
}
MEASURES = {"nll": "NLL, nats", "brier": "Brier", "ece": "ECE"}  # of score.json and their column
_REAL_IDS = ("score_id", "classifier_id", "train_replica_id")
_SCORE_IDS = ("score_id", "predictions_sha256", "class_list_sha256")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: its accuracy with interval, and Real's if the score has a baseline; fractions."""

    label: int
    id: str
    name: str
    num: int
    score: Interval
    real: Interval | None
    failed: bool = False  # credibly below half of Real's accuracy, see docs/scores.md

    @property
    def difference(self) -> float | None:
        """Accuracy minus Real's."""
        return None if self.real is None else self.score.value - self.real.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beyond:
    """What a score says beyond its values: the gap's interval in points, and how many classes differ credibly.

    Both are None where the score is older than these, or Real's predictions were not at hand.
    """

    gap: tuple[float, float] | None = None
    classes: tuple[int, int] | None = None  # above Real, below Real


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetRecord:
    """A set that a score names: ids, where it was found, and what is worth saying about it.

    Attributes:
        family: `family:preset` of the generator; None for a set without one.
        settings: the numbers among the sampler's settings.
    """

    kind: str
    title: str
    location: str | None
    ids: Mapping[str, str]
    facts: Mapping[str, str]
    num: int
    family: str | None = None
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def replica_id(self) -> str:
        """The set's id."""
        return self.ids["replica_id"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RealRow:
    """The baseline: the same recipe trained on the real set, tested on the same images."""

    score_id: str
    top1: Interval
    top5: Interval | None
    measures: Mapping[str, float]
    seed: int
    location: str | None
    ids: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One score folder.

    Attributes:
        directory: the folder.
        measures: of MEASURES, by name.
        names: what to call every label.
        classes: those with test images.
        gap_points, gap_relative: Real minus this score's top-1, in points and as a fraction of Real's.
        beyond: intervals and decisions.
        ids: of score, classifier and predictions.
    """

    directory: Path
    metric: str
    top1: Interval
    top5: Interval | None
    num_test: int
    measures: Mapping[str, float]
    names: Sequence[str]
    classes: Sequence[ClassScore]
    real: RealRow | None
    gap_points: float | None
    gap_relative: float | None
    beyond: Beyond
    recipe: str
    recipe_id: str
    seed: int
    train: SetRecord
    test: SetRecord
    ids: Mapping[str, str]
    caveats: Sequence[str]
    versions: Mapping[str, str]
    copies: tuple[str, Path] | None = None  # duplicates_id and folder of the search for copies that it names
    told_by: tuple[str, ...] = ()  # settings that tell it from other scores on the page

    @property
    def about(self) -> SetRecord:
        """The set that the score is about."""
        return self.test if self.metric == "GAN-test" else self.train

    @property
    def title(self) -> str:
        """What a row of the table is called: the generator, or the real set that was trained on."""
        return ", ".join([self.about.title, *self._settings])

    @property
    def short_title(self) -> str:
        """The same for where little of it may be seen: first what tells it from others."""
        return ", ".join([*self._settings, self.about.title])

    @property
    def _settings(self) -> list[str]:
        found = self.about.settings
        return [f"{name} {found[name]:g}" for name in self.told_by if name in found]

    def ranked(self) -> list[ClassScore]:
        """Return the classes from best to worst: by difference to Real as in the paper, or by accuracy without Real."""

        def merit(one: ClassScore) -> float:
            return one.score.value if one.difference is None else one.difference

        return sorted(self.classes, key=lambda one: (-merit(one), one.label))


def read_score(directory: Path) -> Score:
    """Read score.json of a score folder, with the checks of `caskit.evaluate.score.read_score`.

    Raises:
        InputError: the folder holds no score, or a field is missing or of the wrong type.
        IntegrityError: score or predictions were changed.
    """
    record = Fields(folder.read_score(directory), str(directory / folder.SCORE_NAME))
    metric = record.text("metric")
    if metric not in METRICS:
        raise InputError(f"{record.where}: metric is {metric!r}, allowed: {', '.join(METRICS)}")
    classifier = record.fields("classifier")
    real = _real(record.fields("real")) if record.has("real") else None
    names, classes = _classes(record)
    return Score(
        directory=directory,
        metric=metric,
        top1=record.interval("top1"),
        top5=record.interval("top5") if record.has("top5") else None,
        num_test=record.integer("num_test"),
        measures=_measures(record),
        names=names,
        classes=classes,
        real=real,
        gap_points=None if real is None else record.number("gap_points"),
        gap_relative=None if real is None else record.number("gap_relative"),
        beyond=_beyond(record),
        recipe=classifier.text("recipe"),
        recipe_id=classifier.text("recipe_id"),
        seed=classifier.integer("seed"),
        train=_set(classifier.fields("train")),
        test=_set(record.fields("test")),
        ids={"classifier_id": classifier.text("classifier_id"), **{name: record.text(name) for name in _SCORE_IDS}},
        caveats=_caveats(record),
        versions=_versions(record),
        copies=_copies(record),
    )


def told_apart(scores: Sequence[Score]) -> list[Score]:
    """Return the scores, those of one generator at several settings with these in their titles."""
    by_title: dict[str, list[Score]] = {}
    for score in scores:
        by_title.setdefault(score.about.title, []).append(score)
    names = {}
    for title, members in by_title.items():
        settings = [score.about.settings for score in members]
        every = dict.fromkeys(name for one in settings for name in one)
        names[title] = tuple(name for name in every if len({one.get(name) for one in settings}) > 1)
    return [dataclasses.replace(score, told_by=names[score.about.title]) for score in scores]


def real_folder(score: Score) -> Path | None:
    """Return the folder of the Real row, if the very one that the score was compared with is still there."""
    if score.real is None or score.real.location is None:
        return None
    directory = Path(score.real.location)
    try:
        return directory if folder.read_score(directory)["score_id"] == score.real.score_id else None
    except (InputError, OSError):
        return None  # the page then says that it is not at hand


def _copies(record: Fields) -> tuple[str, Path] | None:
    if not record.has("duplicates"):
        return None
    block = record.fields("duplicates")
    return block.text("duplicates_id"), Path(block.text("location"))


def _beyond(record: Fields) -> Beyond:
    if not record.has("statistics"):
        return Beyond()
    block, gap, classes = record.fields("statistics"), None, None
    if block.has("gap_points"):
        found = block.fields("gap_points")
        gap = found.number("low"), found.number("high")
    if block.has("classes"):
        counts = block.fields("classes")
        if counts.has("credibly_above_real"):
            classes = counts.integer("credibly_above_real"), counts.integer("credibly_below_real")
    return Beyond(gap=gap, classes=classes)


def _measures(record: Fields) -> dict[str, float]:
    return {name: record.number(name) for name in MEASURES if record.has(name)}


def _classes(record: Fields) -> tuple[list[str], list[ClassScore]]:
    names, classes = [], []
    for label, value in enumerate(record.items("per_class")):
        one = Fields(value, f"{record.where}: per_class {label}")
        if one.integer("label") != label:
            raise InputError(f"{one.where}: label is {one.value['label']}, per_class lists the labels 0, 1, 2, ...")
        names.append(one.text("name") or one.text("id"))
        if one.integer("num") == 0:
            continue  # no test image, so there is no accuracy to speak of
        classes.append(
            ClassScore(
                label=label,
                id=one.text("id"),
                name=names[-1],
                num=one.integer("num"),
                score=_interval(one, ""),
                real=_interval(one, "real_") if one.has("real_top1") else None,
                failed=one.value.get("failed") is True,
            )
        )
    if not classes:
        raise InputError(f"{record.where}: per_class holds no class with test images")
    if len({one.real is None for one in classes}) > 1:
        raise InputError(f"{record.where}: per_class has Real's accuracy for some classes only")
    return names, classes


def _interval(one: Fields, prefix: str) -> Interval:
    value, low, high = (one.fraction(f"{prefix}{name}") for name in ("top1", "low", "high"))
    return Interval(value=value, low=low, high=high)


def _real(real: Fields) -> RealRow:
    return RealRow(
        score_id=real.text("score_id"),
        top1=real.interval("top1"),
        top5=real.interval("top5") if real.has("top5") else None,
        measures=_measures(real),
        seed=real.integer("seed"),
        location=real.text("location") if real.has("location") else None,
        ids={name: real.text(name) for name in _REAL_IDS},
    )


def _set(record: Fields) -> SetRecord:
    kind = record.text("kind")
    facts = {name: record.text(name) for name in ("dataset", "split") if record.has(name)}
    ids = {name: record.text(name) for name in ("replica_id", "content_root", "set_id")}
    title = ", ".join(facts.values()) or kind
    family, settings = None, {}
    if record.has("generator"):
        generator = record.fields("generator")
        title = family = f"{generator.text('family')}:{generator.text('preset')}"
        settings = _numbers(generator.value.get("sampler"))
        if generator.has("rejection"):  # another row than the same generator's without
            title += f", {_kept(generator.fields('rejection'))}"
        if kind == "reconstruction":
            title += " reconstructions"
        for name, value in generator.spelled().items():
            (ids if name.endswith("_id") else facts)[name] = value
    location = record.text("location") if record.has("location") else None
    return SetRecord(
        kind=kind,
        title=title,
        location=location,
        ids=ids,
        facts=facts,
        num=record.integer("num"),
        family=family,
        settings=settings,
    )


def _kept(rejection: Fields) -> str:
    """Return which of a sample's candidates was kept, for a title."""
    number = rejection.integer("candidates")
    return f"first good of {number}" if rejection.has("threshold") else f"best of {number}"


def _numbers(settings: Any) -> dict[str, float]:
    """Return the finite numbers among a sampler's settings."""
    found = settings.items() if isinstance(settings, dict) else ()
    return {
        str(name): value
        for name, value in found
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _versions(record: Fields) -> dict[str, str]:
    found = record.fields("versions").spelled()
    if record.has("git_commit"):
        found["git commit"] = record.text("git_commit")
    if record.has("hardware"):
        found |= record.fields("hardware").spelled()
    return found


def _caveats(record: Fields) -> list[str]:
    caveats = record.items("caveats")
    if not all(isinstance(caveat, str) for caveat in caveats):
        raise InputError(f"{record.where}: caveats must be a list of texts")
    return caveats
