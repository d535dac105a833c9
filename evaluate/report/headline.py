"""The report's first screen: the score beside Real, and the table of all scores."""

from collections.abc import Mapping, Sequence

from caskit.evaluate.report.chart import Axis, Interval, axis_around, axis_labels, dot_row
from caskit.evaluate.report.record import MEASURES, METRICS, RealRow, Score
from caskit.evaluate.report.text import Html, count, join, name_tag, percent, plural, shorten, signed, tag

_MEANING = {
    "CAS": "A classifier was trained on synthetic images only and tested on real ones.",
    "reconstructions": (
        "A classifier was trained on a generator's reconstructions of real images and tested on other real ones."
    ),
    "GAN-test": "A classifier was trained on real images and tested on synthetic ones.",
    "real": "A classifier was trained on real images and tested on real ones: the row that others stand beside.",
}


def title(scores: Sequence[Score]) -> str:
    """Name the page: the generator and the test set, or how many scores it compares."""
    if len(scores) == 1 and scores[0].metric == "GAN-test":
        return f"GAN-test of {shorten(scores[0].title, 80)}"
    tests = {score.test.facts.get("dataset", score.test.title) for score in scores}
    where = shorten(next(iter(tests)), 80) if len(tests) == 1 else plural(len(tests), "test set")
    if len(scores) > 1:
        return f"{plural(len(scores), 'score')} on {where}"
    return f"{'Real' if scores[0].metric == 'real' else shorten(scores[0].title, 80)} on {where}"


def heading(scores: Sequence[Score]) -> str:
    """Name what the scores measure; only scores of classifiers trained on samples are a CAS."""
    metrics = {score.metric for score in scores}
    if "GAN-test" in metrics:
        return "GAN-test" if len(metrics) == 1 else "Classification scores"
    if "CAS" in metrics:
        return "Classification Accuracy Score"
    return "Reconstructions" if "reconstructions" in metrics else "Real baseline"


def headline(scores: Sequence[Score]) -> Html:
    """Write the heading, the tiles of the score (if there is one only) and every score on one axis."""
    first = scores[0]
    parts = [
        tag("p", {"class": "eyebrow"}, heading(scores)),
        tag("h1", None, title(scores)),
        tag("p", {"class": "lead"}, _lead(scores)),
    ]
    if len(scores) == 1:
        parts.append(_tiles(first))
    return tag("header", None, parts, _figure(scores))


def _lead(scores: Sequence[Score]) -> str:
    if len(scores) > 1:
        return " ".join(_MEANING[metric] for metric in METRICS if metric in {score.metric for score in scores})
    score = scores[0]
    return f"{_MEANING[score.metric]} {count(score.train.num)} training images, {count(score.num_test)} test images."


def _tile(label: str, kind: str, value: str, unit: str, note: str) -> Html:
    return tag(
        "div",
        {"class": "tile"},
        tag("div", {"class": "label"}, label),
        tag("div", {"class": f"value {kind}"}, value, tag("small", None, f" {unit}")),
        tag("div", {"class": "note"}, note),
    )


def _interval_note(interval: Interval) -> str:
    return f"95 % interval {percent(interval.low)} to {percent(interval.high)}"


def _tiles(score: Score) -> Html:
    name = f"{METRICS[score.metric]}, top-1"
    kind = "real-text" if score.metric == "real" else "score-text"
    tiles = [_tile(name, kind, percent(score.top1.value), "%", _interval_note(score.top1))]
    if score.real is not None:
        tiles.append(
            _tile("Real, top-1", "real-text", percent(score.real.top1.value), "%", _interval_note(score.real.top1))
        )
    if score.gap_points is not None and score.gap_relative is not None:
        side = "below" if score.gap_points >= 0 else "above"
        note = f"{side} Real, {percent(abs(score.gap_relative), 1)} % relative"
        tiles.append(_tile("Gap", "", f"{abs(score.gap_points):.2f}", "points", note))
    warning = None
    if score.metric in ("CAS", "reconstructions") and score.real is None:
        text = "There is no Real row: the score was made without a baseline. It says little without the accuracy that "
        warning = tag("p", {"class": "warn"}, text + "the same recipe reaches on real images.")
    return join(tag("div", {"class": "tiles"}, tiles), warning)


def _figure(scores: Sequence[Score]) -> Html:
    values = [v for s in scores for i in (s.top1, s.real.top1 if s.real else None) if i for v in (i.low, i.high)]
    axis = axis_around(values)
    head = tag(
        "tr",
        None,
        tag("th", {"class": "class"}, ""),
        tag("th", {"class": "strip"}, axis_labels(axis)),
        tag("th", {"class": "wide number"}, "top-1, %"),
        tag("th", {"class": "figure number"}, "points"),
    )
    table = tag("table", {"class": "rows"}, tag("thead", None, head), tag("tbody", None, _figure_rows(scores, axis)))
    caption = "Top-1 accuracy in per cent with 95 % intervals (Wilson); the axis does not start at zero. "
    caption += "Points are differences to the Real row of the same recipe and test set, the dashed line."
    return tag("figure", None, table, tag("figcaption", None, caption))


def _entries(scores: Sequence[Score]) -> list[tuple[Score, RealRow | None]]:
    """Return the rows of figure and table: each score after its Real row, what has one score_id once."""
    entries: list[tuple[Score, RealRow | None]] = []
    known = {score.ids["score_id"] for score in scores}
    for score in scores:
        if score.real is not None and score.real.score_id not in known:
            known.add(score.real.score_id)
            entries.append((score, score.real))
        entries.append((score, None))
    return entries


def _figure_rows(scores: Sequence[Score], axis: Axis) -> list[Html]:
    rows: list[Html] = []
    for score, real in _entries(scores):
        guide = score.real.top1.value if score.real is not None else None
        if real is not None:
            rows.append(_figure_row("Real", axis, real.top1, None, guide, None))
        elif score.metric == "real":
            rows.append(_figure_row(score.title, axis, score.top1, None, guide, None))
        else:
            rows.append(_figure_row(score.title, axis, None, score.top1, guide, score.gap_points))
    return rows


def _figure_row(
    name: str, axis: Axis, real: Interval | None, score: Interval | None, guide: float | None, gap: float | None
) -> Html:
    interval = score or real
    assert interval is not None, "a row has a score or a real accuracy"
    numbers = f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"
    return tag(
        "tr",
        None,
        tag("td", {"class": "class"}, name_tag(name)),
        tag("td", {"class": "strip"}, dot_row(axis, real=real, score=score, guide=guide)),
        tag("td", {"class": "wide number"}, numbers),
        tag("td", {"class": "figure number"}, "" if gap is None else signed(-gap)),
    )


def score_table(scores: Sequence[Score]) -> Html:
    """List every score with its intervals, its gap and its recipe; scores that cannot be compared say so."""
    names = [name for name in MEASURES if any(name in score.measures for score in scores)]
    measures = [MEASURES[name] for name in names]
    columns = ["", "metric", "images", "top-1, %", "top-5, %", "gap, points", "gap, %", *measures, "recipe", "seed"]
    head = [tag("th", {"class": None if c in ("", "metric", "recipe") else "number"}, c) for c in columns]
    rows = [
        _score_row(score, names) if real is None else _real_row(real, score.recipe, names)
        for score, real in _entries(scores)
    ]
    unequal = len({(score.recipe_id, score.test.ids["content_root"]) for score in scores}) > 1
    warning = "These scores were made with different recipes or test sets: compare gaps, not accuracies."
    table = tag("table", None, tag("thead", None, tag("tr", None, head)), tag("tbody", None, rows))
    return tag(
        "section",
        None,
        tag("h2", None, "Scores"),
        tag("p", {"class": "warn"}, warning) if unequal else None,
        tag("div", {"class": "scroll"}, table),
    )


def _accuracy_cell(interval: Interval | None) -> Html:
    if interval is None:
        return tag("td", {"class": "number"}, "")
    note = tag("small", None, f"{percent(interval.low)} to {percent(interval.high)}")
    return tag("td", {"class": "number"}, percent(interval.value), note)


def _number(text: str | None) -> Html:
    return tag("td", {"class": "number"}, text)


def _measure_cells(measures: Mapping[str, float], names: Sequence[str]) -> list[Html]:
    return [_number(f"{measures[name]:.4f}" if name in measures else None) for name in names]


def _real_row(real: RealRow, recipe: str, names: Sequence[str]) -> Html:
    cells = [
        tag("td", None, "Real"),
        tag("td", None, METRICS["real"]),
        _number(None),
        _accuracy_cell(real.top1),
        _accuracy_cell(real.top5),
        _number(None),
        _number(None),
        *_measure_cells(real.measures, names),
        tag("td", None, shorten(recipe, 40)),
        _number(str(real.seed)),
    ]
    return tag("tr", {"class": "real"}, cells)


def _score_row(score: Score, names: Sequence[str]) -> Html:
    cells = [
        tag("td", None, name_tag(score.title)),
        tag("td", None, METRICS[score.metric]),
        _number(count(score.train.num)),
        _accuracy_cell(score.top1),
        _accuracy_cell(score.top5),
        _number(None if score.gap_points is None else f"{score.gap_points:.2f}"),
        _number(None if score.gap_relative is None else percent(score.gap_relative, 1)),
        *_measure_cells(score.measures, names),
        tag("td", None, shorten(score.recipe, 40)),
        _number(str(score.seed)),
    ]
    return tag("tr", None, cells)
