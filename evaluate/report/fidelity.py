"""Both directions of one replica on two axes: CAS, which needs diversity, and GAN-test, which needs label fidelity."""

from collections.abc import Mapping, Sequence

from caskit.evaluate.report.record import ClassScore, Score
from caskit.evaluate.report.text import Html, join, name_tag, percent, plural, position, shorten, tag

HEIGHT = 340
_TICKS = (0, 25, 50, 75, 100)
_MAX_NAMED = 6


def fidelity_section(scores: Sequence[Score]) -> Html | None:
    """Draw every class of a replica by GAN-test and CAS; None unless scores of both are on the page."""
    parts: list[tuple[Score, Score]] = []
    for cas in scores:
        other = next((score for score in scores if _pair(cas, score)), None)
        if other is not None and not any(cas.train.ids == drawn.train.ids for drawn, _ in parts):
            parts.append((cas, other))
    if not parts:
        return None
    text = (
        "CAS is the share of real images that a classifier trained on the replica recognises; GAN-test the share of "
        "the replica's images that a classifier trained on real ones takes for their label. A class low in GAN-test "
        "has images that do not show what they are labelled as; one high in GAN-test and low in CAS has images that "
        "do, of too few kinds."
    )
    return tag("section", None, tag("h2", None, "Both directions"), tag("p", None, text), [_plot(*p) for p in parts])


def _pair(cas: Score, other: Score) -> bool:
    same = cas.train.ids["content_root"] == other.test.ids["content_root"]
    return cas.metric == "CAS" and other.metric == "GAN-test" and same and len(cas.names) == len(other.names)


def _plot(cas: Score, fidelity: Score) -> Html:
    others = {one.label: one for one in fidelity.classes}
    points = [(one, others[one.label]) for one in cas.classes if one.label in others]
    grid: list[Html] = []
    for tick in _TICKS:
        at = f"{tick}%"
        grid.append(tag("line", {"class": "grid", "x1": at, "x2": at, "y1": 0, "y2": HEIGHT}))
        grid.append(tag("line", {"class": "grid", "x1": "0%", "x2": "100%", "y1": at, "y2": at}))
    labels = [tag("text", {"x": 34, "y": f"{100 - t}%", "dy": "0.32em", "text-anchor": "end"}, str(t)) for t in _TICKS]
    plot = tag(
        "svg",
        {"width": "100%", "height": HEIGHT, "role": "img", "aria-label": "CAS by GAN-test, a dot per class"},
        grid,
        [_dot(one, other) for one, other in points],
    )
    below = tag("div", {"class": "rank-axis two-axis"}, [tag("span", None, str(tick)) for tick in _TICKS])
    panel = tag(
        "div",
        {"class": "panel"},
        tag("div", {"class": "panel-title"}, "CAS, top-1 in %, upwards; GAN-test, top-1 in %, to the right"),
        tag("svg", {"class": "axis", "width": 40, "height": HEIGHT, "aria-hidden": "true"}, labels),
        plot,
    )
    caption = f"Every class of {shorten(cas.title)} with test images in both directions; training seed {cas.seed}."
    return join(tag("figure", None, panel, below, tag("figcaption", None, caption)), _lowest(points))


def _dot(one: ClassScore, other: ClassScore) -> Html:
    name = f"{shorten(one.name)}: CAS {percent(one.score.value, 1)} %, GAN-test {percent(other.score.value, 1)} %"
    place: Mapping[str, str | int] = {
        "class": "dot score",
        "cx": position(other.score.value, 0, 1),
        "cy": position(1 - one.score.value, 0, 1),
        "r": 4,
    }
    return tag("circle", place, tag("title", None, name))


def _lowest(points: Sequence[tuple[ClassScore, ClassScore]]) -> Html | None:
    low = sorted((pair for pair in points if pair[1].score.value < 0.5), key=lambda pair: pair[1].score.value)
    if not low:
        return None
    shown = [(", " if place else None, name_tag(one.name)) for place, (one, _) in enumerate(low[:_MAX_NAMED])]
    rest = f" and {len(low) - _MAX_NAMED} more" if len(low) > _MAX_NAMED else None
    text = f"Less than half of the images are taken for their label in {plural(len(low), 'class', 'classes')}: "
    return tag("p", None, text, shown, rest, ".")
