"""report.json: every number of a page, with the ids of what it was made from (docs/scores.md)."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import caskit
from caskit.evaluate.report.chart import Interval
from caskit.evaluate.report.confusion import Confusions
from caskit.evaluate.report.contents import Contents
from caskit.evaluate.report.groups import Group
from caskit.evaluate.report.headline import heading, title
from caskit.evaluate.report.record import RealRow, Score
from caskit.evaluate.report.sweep import Sweep

REPORT_VERSION = 1
SUFFIX = ".json"  # in the place of the page's .html


def document(contents: Contents) -> dict[str, Any]:
    """Return the record without `page`: what follows from the score folders alone."""
    return {
        "report_version": REPORT_VERSION,
        "caskit": caskit.__version__,
        "heading": heading(contents.scores),
        "title": title(contents.scores),
        "scores": [
            {**_score(score), **_confused(*confused, num=len(score.names))}
            for score, confused in zip(contents.scores, contents.confusions, strict=True)
        ],
        "groups": [_group(group) for group in contents.groups],
        "sweeps": [_sweep(sweep) for sweep in contents.sweeps],
        "rows": [
            {"name": entry.name, "family": entry.family, "cas": entry.cas, "metrics": dict(entry.metrics)}
            for entry in contents.entries
        ],
        "correlations": [dict(found) for found in contents.correlations],
        "duplicates": [{**_search(record), "location": str(folder.resolve())} for folder, record in contents.searches],
        "metrics": [{**_fidelity(one.record), "location": str(one.folder.resolve())} for one in contents.measured],
    }


def page_of(html: bytes, name: str) -> dict[str, Any]:
    """Return what report.json says of its page: `file`, `sha256`, `num_bytes`."""
    return {"file": name, "sha256": hashlib.sha256(html).hexdigest(), "num_bytes": len(html)}


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"value": interval.value, "low": interval.low, "high": interval.high}


def _bounds(bounds: tuple[float, float] | None) -> dict[str, float] | None:
    return None if bounds is None else {"low": bounds[0], "high": bounds[1]}


def _real(real: RealRow | None) -> dict[str, Any] | None:
    if real is None:
        return None
    return {
        **dict(real.ids),
        "seed": real.seed,
        "top1": _interval(real.top1),
        "top5": _interval(real.top5),
        **dict(real.measures),
    }


def _score(score: Score) -> dict[str, Any]:
    ranks = {one.label: rank for rank, one in enumerate(score.ranked(), start=1)}
    classes = [
        {
            "label": one.label,
            "id": one.id,
            "name": one.name,
            "num": one.num,
            "rank": ranks[one.label],
            "top1": _interval(one.score),
            "real": _interval(one.real),
            "difference": one.difference,
            "failed": one.failed,
        }
        for one in score.classes
    ]
    beyond = score.beyond.classes
    return {
        **dict(score.ids),
        "location": str(score.directory.resolve()),
        "title": score.title,
        "metric": score.metric,
        "recipe": score.recipe,
        "recipe_id": score.recipe_id,
        "seed": score.seed,
        "trained_on": {**dict(score.train.ids), "kind": score.train.kind, "num": score.train.num},
        "tested_on": {**dict(score.test.ids), "kind": score.test.kind, "num": score.test.num},
        "num_test": score.num_test,
        "top1": _interval(score.top1),
        "top5": _interval(score.top5),
        **dict(score.measures),
        "real": _real(score.real),
        "gap_points": score.gap_points,
        "gap_relative": score.gap_relative,
        "gap_interval": _bounds(score.beyond.gap),
        "credibly_above_real": None if beyond is None else beyond[0],
        "credibly_below_real": None if beyond is None else beyond[1],
        "per_class": classes,
        "caveats": list(score.caveats),
    }


def _confused(ours: Confusions | None, real: Confusions | None, *, num: int) -> dict[str, Any]:
    return {"confusions": _counts(ours, num), "real_confusions": _counts(real, num)}


def _counts(confusions: Confusions | None, num: int) -> list[list[int]] | None:
    """Return `[label, predicted, images]` of every pair that occurs, by label and from the most frequent."""
    if confusions is None:
        return None
    labels = [label for label in range(num) if label in confusions.pairs]
    return [[label, predicted, images] for label in labels for predicted, images in confusions.pairs[label]]


def _group(group: Group) -> dict[str, Any]:
    return {
        "score_ids": [score.ids["score_id"] for score in group.scores],
        "mean": group.mean,
        "top1": _interval(group.top1),
        "gap_points": group.gap,
        "gap_interval": _bounds(group.gap_bounds),
    }


def _sweep(sweep: Sweep) -> dict[str, Any]:
    points = [{"value": value, "top1": _interval(top1)} for value, top1 in sweep.points]
    real = None if sweep.real is None else sweep.real.ids["score_id"]
    return {"title": sweep.title, "setting": sweep.setting, "points": points, "real_score_id": real}


def _search(record: Mapping[str, Any]) -> dict[str, Any]:
    named = ("duplicates_id", "method", "images", "within", "train", "test", "classes", "origin", "findings")
    return {**{name: record[name] for name in named}, "features": record.get("features")}


def _fidelity(record: Mapping[str, Any]) -> dict[str, Any]:
    named = ("metrics_id", "extractor", "dim", "settings", "inputs", "metrics", "omitted", "per_class", "caveats")
    roots = {f"{role}_content_root": record[role]["content_root"] for role in ("replica", "reference")}
    return {**{name: record[name] for name in named}, **roots}


def beside(page: Path) -> Path:
    """Return where the numbers of a page are."""
    return page.with_suffix(SUFFIX)
