"""The per-class section: every class by its difference to Real, as a row each or, for many classes, by rank."""

from collections.abc import Mapping, Sequence

from caskit.evaluate.report.chart import Axis, RankPoint, axis_labels, dot_row, rank_chart
from caskit.evaluate.report.record import ClassScore, Score
from caskit.evaluate.report.text import Html, count, join, name_tag, percent, plural, shorten, signed, tag

MAX_ROWS = 40  # more classes than this are drawn by rank, with rows for both ends
_NUM_ENDS = 12
_MAX_NAMED = 8


def class_section(score: Score, taken_for: Mapping[int, Html]) -> Html:
    """Write the per-class section of one score; `taken_for` says per label what its images were mistaken for."""
    ranked = score.ranked()
    has_real = all(one.real is not None for one in ranked)
    parts = _paragraphs(score, ranked)
    parts.append(_legend(has_real))
    if len(ranked) <= MAX_ROWS:
        parts.append(_rows(ranked, has_real))
    else:
        points = [RankPoint(name=shorten(one.name), score=one.score.value, real=_real(one)) for one in ranked]
        parts.append(tag("figure", None, rank_chart(points), tag("figcaption", None, _rank_caption(has_real))))
        parts.append(tag("h3", None, f"The best {_NUM_ENDS} classes"))
        parts.append(_rows(ranked[:_NUM_ENDS], has_real))
        parts.append(tag("h3", None, f"The worst {_NUM_ENDS} classes"))
        parts.append(_rows(ranked[-_NUM_ENDS:], has_real))
    parts.append(_table(ranked, has_real, taken_for))
    return join(parts)


def _real(one: ClassScore) -> float | None:
    return None if one.real is None else one.real.value


def _paragraphs(score: Score, ranked: Sequence[ClassScore]) -> list[Html]:
    paragraphs = []
    differences = [one.difference for one in ranked if one.difference is not None]
    if differences:
        above, equal = sum(d > 0 for d in differences), sum(d == 0 for d in differences)
        ties = f" and equals it in {equal}" if equal else ""
        first = f"This score is above Real in {above} of {plural(len(ranked), 'class', 'classes')}{ties}. "
        ends = [(f"{signed(100 * d, 1)} points (", name_tag(one.name)) for d, one in _ends(differences, ranked)]
        paragraphs.append(tag("p", None, first, "The difference runs from ", ends[0], ") to ", ends[1], ")."))
    if score.beyond.classes is not None:
        above, below = score.beyond.classes
        text = "Beyond chance, where one name in twenty is expected to be wrong, it is above Real in "
        paragraphs.append(tag("p", None, text, plural(above, "class", "classes"), f" and below it in {count(below)}."))
    failed = [one.name for one in ranked if one.failed]
    if failed:
        paragraphs.append(_listing("The accuracy is credibly below half of Real's (failed) in ", failed))
    zero = [one.name for one in ranked if one.score.value == 0]
    if zero:
        paragraphs.append(_listing("No image was recognised in ", zero))
    tested = {one.label for one in score.classes}
    untested = [name for label, name in enumerate(score.names) if label not in tested]
    if untested:
        paragraphs.append(_listing("There is no test image of ", untested))
    return paragraphs


def _ends(differences: Sequence[float], ranked: Sequence[ClassScore]) -> list[tuple[float, ClassScore]]:
    return [(differences[0], ranked[0]), (differences[-1], ranked[-1])]


def _listing(said: str, names: Sequence[str]) -> Html:
    shown = [(", " if place else None, name_tag(name)) for place, name in enumerate(names[:_MAX_NAMED])]
    rest = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else None
    return tag("p", None, said, plural(len(names), "class", "classes"), ": ", shown, rest, ".")


def _legend(has_real: bool) -> Html:
    items = [tag("span", None, tag("i", {"class": "key score"}), "this score")]
    if has_real:
        items.append(tag("span", None, tag("i", {"class": "key real"}), "Real, same recipe"))
    return tag("div", {"class": "legend"}, items)


def _rank_caption(has_real: bool) -> str:
    order = "difference to Real, as in the paper" if has_real else "accuracy"
    return f"Every class once, ordered by {order}, from best to worst. Point at a class to read its name and numbers."


def _rows(ranked: Sequence[ClassScore], has_real: bool) -> Html:
    axis = Axis()
    head = [
        tag("th", {"class": "class"}, "class"),
        tag("th", {"class": "strip"}, axis_labels(axis)),
        tag("th", {"class": "figure number optional"}, "Real") if has_real else None,
        tag("th", {"class": "figure number optional" if has_real else "figure number"}, "score"),
        tag("th", {"class": "figure number"}, "points") if has_real else None,
    ]
    rows = [
        tag(
            "tr",
            None,
            tag("td", {"class": "class"}, name_tag(one.name)),
            tag("td", {"class": "strip"}, dot_row(axis, real=one.real, score=one.score)),
            tag("td", {"class": "figure number optional"}, percent(one.real.value, 1)) if one.real else None,
            tag(
                "td", {"class": "figure number optional" if has_real else "figure number"}, percent(one.score.value, 1)
            ),
            tag("td", {"class": "figure number"}, signed(100 * one.difference, 1))
            if one.difference is not None
            else None,
        )
        for one in ranked
    ]
    return tag("table", {"class": "rows"}, tag("thead", None, tag("tr", None, head)), tag("tbody", None, rows))


def _table(ranked: Sequence[ClassScore], has_real: bool, taken_for: Mapping[int, Html]) -> Html:
    names = ["label", "id", "class", "images", "score, %", "95 % interval"]
    names += (["Real, %", "points"] if has_real else []) + (["taken for"] if taken_for else [])
    left = {"id", "class", "taken for"}
    head = [tag("th", {"class": None if name in left else "number"}, name) for name in names]
    body = tag("tbody", None, [_table_row(one, taken_for) for one in ranked])
    table = tag("table", {"class": "sortable"}, tag("thead", None, tag("tr", None, head)), body)
    summary = tag("summary", None, f"All {plural(len(ranked), 'class', 'classes')} in numbers")
    return tag("details", None, summary, tag("div", {"class": "scroll"}, table))


def _table_row(one: ClassScore, taken_for: Mapping[int, Html]) -> Html:
    def number(text: str) -> Html:
        return tag("td", {"class": "number"}, text)

    return tag(
        "tr",
        None,
        number(str(one.label)),
        tag("td", {"class": "mono"}, one.id),
        tag("td", None, name_tag(one.name), tag("small", None, "failed") if one.failed else None),
        number(str(one.num)),
        number(percent(one.score.value, 1)),
        number(f"{percent(one.score.low, 1)} to {percent(one.score.high, 1)}"),
        number(percent(one.real.value, 1)) if one.real is not None else None,
        number(signed(100 * one.difference, 1)) if one.difference is not None else None,
        tag("td", None, taken_for.get(one.label, "")) if taken_for else None,
    )
