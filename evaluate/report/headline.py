"""The report's first screen: the score beside Real, and the table of all scores."""

from collections.abc import Mapping, Sequence

from caskit.evaluate.report.chart import Axis, Interval, axis_around, axis_labels, dot_row
from caskit.evaluate.report.groups import Group
from caskit.evaluate.report.record import MEASURES, METRICS, RealRow, Score
from caskit.evaluate.report.text import Html, count, join, name_tag, percent, plural, shorten, signed, tag

_MEANING = {
    "CAS": "A classifier was trained on synthetic images only and tested on real ones.",
    "reconstructions": (
        "A classifier was trained on a generator's reconstructions of real images and tested on other real ones."
    ),
    "GAN-test": "A classifier was trained on real images and tested on synthetic ones.",
    "leaked": "A classifier was trained on images of which some are in the test set: what follows is no CAS.",
    "real": "A classifier was trained on real images and tested on real ones: the row that others stand beside.",
}


def title(scores: Sequence[Score]) -> str:
    """Name the page: the generator and the test set, or how many scores it compares."""
    if len(scores) == 1 and scores[0].metric == "GAN-test":
        return f"GAN-test of {shorten(scores[0].title, 80)}"
    tests = {score.test.facts.get("dataset", score.test.title) for score in scores}
    where = shorten(next(iter(tests)), 80) if len(tests) == 1 else plural(len(tests), "test set")
    same = len({(score.metric, score.train.ids["set_id"], score.recipe_id) for score in scores}) == 1
    if len(scores) > 1 and not (same and len({score.seed for score in scores}) == len(scores)):
        return f"{plural(len(scores), 'score')} on {where}"
    if len(scores) > 1:
        trainings = f"{len(scores)} trainings"
        return f"{'Real' if scores[0].metric == 'real' else shorten(scores[0].title, 80)} on {where}, {trainings}"
    return f"{'Real' if scores[0].metric == 'real' else shorten(scores[0].title, 80)} on {where}"


def heading(scores: Sequence[Score]) -> str:
    """Name what the scores measure; only scores of classifiers trained on samples are a CAS."""
    metrics = {score.metric for score in scores}
    if "GAN-test" in metrics:
        return "GAN-test" if len(metrics) == 1 else "Classification scores"
    if "leaked" in metrics:
        return "Not a CAS" if len(metrics) == 1 else "Classification scores"
    if "CAS" in metrics:
        return "Classification Accuracy Score"
    return "Reconstructions" if "reconstructions" in metrics else "Real baseline"


def headline(scores: Sequence[Score], groups: Sequence[Group] = ()) -> Html:
    """Write the heading, the tiles of the score (if there is one only) and every score on one axis."""
    first = scores[0]
    parts = [
        tag("p", {"class": "eyebrow"}, heading(scores)),
        tag("h1", None, title(scores)),
        tag("p", {"class": "lead"}, _lead(scores)),
    ]
    if len(scores) == 1:
        parts.append(_tiles(first))
    elif groups and len(groups[0].scores) == len(scores):
        parts.append(_group_tiles(groups[0]))
    return tag("header", None, parts, _figure(scores, groups))


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


def spelled_bounds(bounds: tuple[float, float]) -> str:
    """Spell an interval of points."""
    low, high = (signed(bound).removeprefix("+") for bound in bounds)
    return f"{low} to {high}"


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
        if score.beyond.gap is not None:
            note += f"; Real is ahead by {spelled_bounds(score.beyond.gap)} (95 %)"
        tiles.append(_tile("Gap", "", f"{abs(score.gap_points):.2f}", "points", note))
    warning = None
    if score.metric in ("CAS", "reconstructions") and score.real is None:
        text = "There is no Real row: the score was made without a baseline. It says little without the accuracy that "
        warning = tag("p", {"class": "warn"}, text + "the same recipe reaches on real images.")
    return join(tag("div", {"class": "tiles"}, tiles), warning)


def _group_tiles(group: Group) -> Html:
    first, num = group.scores[0], len(group.scores)
    kind = "real-text" if first.metric == "real" else "score-text"
    over = f"mean of {num} trainings"
    note = f"{over}; {_interval_note(group.top1)}" if group.top1 is not None else over
    tiles = [_tile(f"{METRICS[first.metric]}, top-1", kind, percent(group.mean), "%", note)]
    if group.gap is not None:
        side = "below" if group.gap >= 0 else "above"
        note = f"{side} Real of equal seeds"
        if group.gap_bounds is not None:
            note += f"; Real is ahead by {spelled_bounds(group.gap_bounds)} (95 %)"
        tiles.append(_tile("Gap", "", f"{abs(group.gap):.2f}", "points", note))
    text = "These intervals hold for other test images and other trainings, not for another replica of the generator."
    return join(tag("div", {"class": "tiles"}, tiles), tag("p", {"class": "soft"}, text))


def _figure(scores: Sequence[Score], groups: Sequence[Group]) -> Html:
    shown = [i for s in scores for i in (s.top1, s.real.top1 if s.real else None) if i]
    shown += [group.top1 for group in groups if group.top1 is not None]
    axis = axis_around([value for interval in shown for value in (interval.low, interval.high)])
    head = tag(
        "tr",
        None,
        tag("th", {"class": "class"}, ""),
        tag("th", {"class": "strip"}, axis_labels(axis)),
        tag("th", {"class": "wide number"}, "top-1, %"),
        tag("th", {"class": "figure number"}, "points"),
    )
    table = tag(
        "table", {"class": "rows"}, tag("thead", None, head), tag("tbody", None, _figure_rows(scores, groups, axis))
    )
    caption = "Top-1 accuracy in per cent with 95 % intervals (Wilson); the axis does not start at zero. "
    if groups:
        caption += "Intervals of means are over test images and trainings. "
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


def _figure_rows(scores: Sequence[Score], groups: Sequence[Group], axis: Axis) -> list[Html]:
    rows: list[Html] = []
    for group in groups:
        if group.top1 is not None:
            is_real = group.scores[0].metric == "real"
            real_mean, mean = (group.top1 if is_real else None), (None if is_real else group.top1)
            rows.append(_figure_row(group.title, axis, real_mean, mean, None, group.gap))
    for score, real in _entries(scores):
        guide = score.real.top1.value if score.real is not None else None
        if real is not None:
            rows.append(_figure_row("Real", axis, real.top1, None, guide, None))
        elif score.metric == "real":
            rows.append(_figure_row(score.short_title, axis, score.top1, None, guide, None))
        else:
            rows.append(_figure_row(score.short_title, axis, None, score.top1, guide, score.gap_points))
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


def score_table(scores: Sequence[Score], groups: Sequence[Group] = ()) -> Html:
    """List every score with its intervals, its gap and its recipe; scores that cannot be compared say so."""
    names = [name for name in MEASURES if any(name in score.measures for score in scores)]
    measures = [MEASURES[name] for name in names]
    columns = ["", "metric", "images", "top-1, %", "top-5, %", "gap, points", "gap, %", *measures, "recipe", "seed"]
    head = [tag("th", {"class": None if c in ("", "metric", "recipe") else "number"}, c) for c in columns]
    rows = [_group_row(group, names) for group in groups] + [
        _score_row(score, names) if real is None else _real_row(real, score.recipe, names)
        for score, real in _entries(scores)
    ]
    compared = [score for score in scores if score.metric != "GAN-test"]  # which is tested on its own images
    unequal = len({(score.recipe_id, score.test.ids["content_root"]) for score in compared}) > 1
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


def _gap_cell(score: Score) -> Html:
    if score.gap_points is None:
        return _number(None)
    bounds = score.beyond.gap
    note = None if bounds is None else tag("small", None, spelled_bounds(bounds))
    return tag("td", {"class": "number"}, f"{score.gap_points:.2f}", note)


def _group_row(group: Group, names: Sequence[str]) -> Html:
    first = group.scores[0]
    seeds = ", ".join(str(score.seed) for score in group.scores)
    gap = None if group.gap is None else f"{group.gap:.2f}"
    bounds = None if group.gap_bounds is None else tag("small", None, spelled_bounds(group.gap_bounds))
    cells = [
        tag("td", None, name_tag(group.title)),
        tag("td", None, METRICS[first.metric]),
        _number(count(first.train.num)),
        tag("td", {"class": "number"}, percent(group.mean)) if group.top1 is None else _accuracy_cell(group.top1),
        _number(None),
        tag("td", {"class": "number"}, gap, bounds),
        _number(None),
        *(_number(None) for _ in names),
        tag("td", None, shorten(first.recipe, 40)),
        _number(shorten(seeds, 20)),
    ]
    return tag("tr", {"class": "mean"}, cells)


def _score_row(score: Score, names: Sequence[str]) -> Html:
    cells = [
        tag("td", None, name_tag(score.title)),
        tag("td", None, METRICS[score.metric]),
        _number(count(score.train.num)),
        _accuracy_cell(score.top1),
        _accuracy_cell(score.top5),
        _gap_cell(score),
        _number(None if score.gap_relative is None else percent(score.gap_relative, 1)),
        *_measure_cells(score.measures, names),
        tag("td", None, shorten(score.recipe, 40)),
        _number(str(score.seed)),
    ]
    return tag("tr", None, cells)
