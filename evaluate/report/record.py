"""What a report reads from a score folder, checked: numbers are numbers, text is text, whoever wrote them."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caskit.evaluate.report.chart import Interval
from caskit.manifests.canonical import MAX_JSON_BYTES
from caskit.manifests.errors import InputError
from caskit.manifests.plan import check_format_version

METRICS = {"CAS": "CAS", "real": "Real", "GAN-test": "GAN-test"}
MEASURES = {"nll": "NLL, nats", "brier": "Brier"}  # proper scoring rules of score.json and their column


class Fields:
    """A JSON object read field by field; every error names the file and the field."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InputError(f"{where}: must be a JSON object")
        self.value: dict[str, Any] = value
        self.where = where

    def has(self, name: str) -> bool:
        """Return whether a field is there and is not null."""
        return self.value.get(name) is not None

    def number(self, name: str) -> float:
        """Return a finite number."""
        value = self.value.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{self.where}: {name} is {value!r}, must be a number")
        return value

    def integer(self, name: str) -> int:
        """Return an integer of 0 or more."""
        value = self.value.get(name)
        if type(value) is not int or value < 0:
            raise InputError(f"{self.where}: {name} is {value!r}, must be an integer of 0 or more")
        return value

    def fraction(self, name: str) -> float:
        """Return a number between 0 and 1."""
        value = self.number(name)
        if not 0 <= value <= 1:
            raise InputError(f"{self.where}: {name} is {value!r}, must lie between 0 and 1")
        return value

    def text(self, name: str) -> str:
        """Return text."""
        value = self.value.get(name)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: {name} is {value!r}, must be text")
        return value

    def fields(self, name: str) -> "Fields":
        """Return an object inside this one."""
        return Fields(self.value.get(name), f"{self.where}: {name}")

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value = self.value.get(name)
        if not isinstance(value, list):
            raise InputError(f"{self.where}: {name} must be a list")
        return value

    def interval(self, name: str) -> Interval:
        """Return `{value, low, high}` as fractions."""
        inner = self.fields(name)
        return Interval(value=inner.fraction("value"), low=inner.fraction("low"), high=inner.fraction("high"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: its accuracy with interval, and Real's if the score has a baseline; fractions."""

    label: int
    id: str
    name: str
    num: int
    score: Interval
    real: Interval | None

    @property
    def difference(self) -> float | None:
        """Accuracy minus Real's."""
        return None if self.real is None else self.score.value - self.real.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetRecord:
    """A set that a score names: ids, where it was found, and what is worth saying about it."""

    kind: str
    title: str
    location: str | None
    ids: Mapping[str, str]
    facts: Mapping[str, str]
    num: int | None

    @property
    def replica_id(self) -> str:
        """The set's id."""
        return self.ids["replica_id"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RealRow:
    """The baseline: the same recipe trained on the real set, tested on the same images."""

    top1: Interval
    top5: Interval | None
    location: str | None
    facts: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One score folder. `gap_points` and `gap_relative` are Real minus this score, in points and as a fraction."""

    directory: Path
    metric: str
    top1: Interval
    top5: Interval | None
    num_test: int
    measures: Mapping[str, float]
    classes: Sequence[ClassScore]
    real: RealRow | None
    gap_points: float | None
    gap_relative: float | None
    recipe: str
    recipe_id: str
    seed: int | None
    train: SetRecord
    test: SetRecord
    caveats: Sequence[str]
    versions: Mapping[str, str]

    @property
    def title(self) -> str:
        """What a row of the table is called: the generator, or the real set."""
        return self.train.title

    def ranked(self) -> list[ClassScore]:
        """Return the classes from best to worst: by difference to Real as in the paper, or by accuracy without Real."""

        def merit(one: ClassScore) -> float:
            return one.score.value if one.difference is None else one.difference

        return sorted(self.classes, key=lambda one: (-merit(one), one.label))


def read_score(directory: Path) -> Score:
    """Read `score.json` of a score folder.

    Raises:
        InputError: the folder holds no score, or a field is missing or of the wrong type.
    """
    path = directory / "score.json"
    if not path.is_file():
        raise InputError(f"{directory}: holds no score.json; make one with `caskit score --out {directory}`")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InputError(f"{path}: more than {MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    score = Fields(value, str(path))
    check_format_version(score.value.get("format_version"), name=str(path))
    metric = score.text("metric")
    if metric not in METRICS:
        raise InputError(f"{path}: metric is {metric!r}, allowed: {', '.join(METRICS)}")
    classifier = score.fields("classifier")
    has_gap = score.has("real")
    return Score(
        directory=directory,
        metric=metric,
        top1=score.interval("top1"),
        top5=score.interval("top5") if score.has("top5") else None,
        num_test=score.integer("num_test"),
        measures={name: score.number(name) for name in MEASURES if score.has(name)},
        classes=_classes(score),
        real=_real(score) if score.has("real") else None,
        gap_points=score.number("gap_points") if has_gap else None,
        gap_relative=score.number("gap_relative") if has_gap else None,
        recipe=classifier.text("recipe"),
        recipe_id=classifier.text("recipe_id"),
        seed=classifier.integer("seed") if classifier.has("seed") else None,
        train=_set(classifier.fields("train")),
        test=_set(score.fields("test")),
        caveats=_caveats(score),
        versions=_facts(score.fields("versions")) if score.has("versions") else {},
    )


def _classes(score: Fields) -> list[ClassScore]:
    classes = []
    for index, value in enumerate(score.items("per_class")):
        one = Fields(value, f"{score.where}: per_class {index}")
        classes.append(
            ClassScore(
                label=one.integer("label"),
                id=one.text("id"),
                name=one.text("name"),
                num=one.integer("num"),
                score=Interval(value=one.fraction("top1"), low=one.fraction("low"), high=one.fraction("high")),
                real=_real_class(one) if one.has("real_top1") else None,
            )
        )
    if [one.label for one in classes] != list(range(len(classes))) or not classes:
        raise InputError(f"{score.where}: per_class must list the labels 0, 1, 2, ... in order")
    return classes


def _real_class(one: Fields) -> Interval:
    value = one.fraction("real_top1")
    if not (one.has("real_low") and one.has("real_high")):
        return Interval(value=value, low=value, high=value)
    return Interval(value=value, low=one.fraction("real_low"), high=one.fraction("real_high"))


def _real(score: Fields) -> RealRow:
    real = score.fields("real")
    return RealRow(
        top1=real.interval("top1"),
        top5=real.interval("top5") if real.has("top5") else None,
        location=real.text("location") if real.has("location") else None,
        facts=_facts(Fields({k: v for k, v in real.value.items() if isinstance(v, str)}, real.where)),
    )


def _set(record: Fields) -> SetRecord:
    facts = {name: record.text(name) for name in ("dataset", "split") if record.has(name)}
    ids = {name: record.text(name) for name in ("replica_id", "content_root", "set_id") if record.has(name)}
    title = facts.get("dataset", record.text("kind"))
    if record.has("generator"):
        generator = record.fields("generator")
        title = ":".join(generator.text(name) for name in ("family", "preset"))
        for name, value in _facts(generator).items():
            (ids if name.endswith("_id") else facts)[name] = value
    elif "split" in facts:
        title = f"{title}, {facts['split']}"
    location = record.text("location") if record.has("location") else None
    num = record.integer("num") if record.has("num") else None
    return SetRecord(kind=record.text("kind"), title=title, location=location, ids=ids, facts=facts, num=num)


def _facts(record: Fields) -> dict[str, str]:
    """Spell the values of an object for people; numbers and lists as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
        for name, value in record.value.items()
        if value is not None
    }


def _caveats(score: Fields) -> list[str]:
    caveats = score.items("caveats") if score.has("caveats") else []
    if not all(isinstance(caveat, str) for caveat in caveats):
        raise InputError(f"{score.where}: caveats must be a list of texts")
    return caveats
