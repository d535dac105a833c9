"""CAS over one setting of the sampler, where the sets of a page differ by that one: a dot with interval per value."""

import dataclasses
from collections.abc import Sequence

from caskit.evaluate.report.chart import Axis, Interval, axis_around
from caskit.evaluate.report.record import RealRow
from caskit.evaluate.report.runs import Run
from caskit.evaluate.report.text import Attribute, Html, join, percent, plural, position, shorten, tag

HEIGHT = 260


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Sets of one generator, recipe and test set that differ by one setting.

    Attributes:
        title: of the generator.
        setting: the name of what differs.
        points: value and top-1, by rising value.
        real: the Real row that they all have; None if they have none, or several.
    """

    title: str
    setting: str
    points: tuple[tuple[float, Interval], ...]
    real: RealRow | None


def find_sweeps(runs: Sequence[Run]) -> list[Sweep]:
    """Find the generators whose sets differ by one number among the sampler's settings, and have two values or more."""
    by_generator: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        score = run.first
        if score.train.family is not None and score.train.settings:
            key = (score.train.family, score.recipe_id, score.test.ids["content_root"])
            by_generator.setdefault(key, []).append(run)
    sweeps = []
    for members in by_generator.values():
        settings = [run.first.train.settings for run in members]
        names = {name for one in settings for name in one}
        varied = sorted(name for name in names if len({one.get(name) for one in settings}) > 1)
        if len(varied) != 1 or any(varied[0] not in one for one in settings):
            continue
        values = [one[varied[0]] for one in settings]
        if len(set(values)) < len(values):
            continue  # several replicas of a value: which one is the sweep's nobody knows
        reals = {run.first.real.score_id: run.first.real for run in members if run.first.real is not None}
        sweeps.append(
            Sweep(
                title=members[0].first.train.title,
                setting=varied[0],
                points=tuple(
                    sorted(((v, run.top1) for v, run in zip(values, members, strict=True)), key=lambda p: p[0])
                ),
                real=next(iter(reals.values())) if len(reals) == 1 else None,
            )
        )
    return sweeps


def sweep_section(sweeps: Sequence[Sweep]) -> Html | None:
    """Draw every sweep; None if there is none."""
    if not sweeps:
        return None
    return tag("section", None, tag("h2", None, "Sweeps"), [_figure(sweep) for sweep in sweeps])


def _figure(sweep: Sweep) -> Html:
    intervals = [interval for _, interval in sweep.points]
    shown = [*intervals, *([sweep.real.top1] if sweep.real is not None else [])]
    axis = axis_around([bound for one in shown for bound in (one.low, one.high)])
    best_value, best = max(sweep.points, key=lambda point: point[1].value)
    text = (
        f"{shorten(sweep.title)} at {plural(len(sweep.points), 'value')} of {sweep.setting}: CAS is highest, "
        f"{percent(best.value)} %, at {best_value:g}."
    )
    caption = "Top-1 in per cent with 95 % intervals; values of the setting stand side by side, not to scale. "
    caption += "The vertical axis does not start at zero."
    if sweep.real is not None:
        caption += f" The dashed line is Real, {percent(sweep.real.top1.value)} %."
    return join(
        tag("p", None, text),
        tag("figure", None, _plot(sweep, axis), tag("figcaption", None, caption)),
    )


def _plot(sweep: Sweep, axis: Axis) -> Html:
    def y(value: float) -> str:
        return position(axis.low + axis.high - value, axis.low, axis.high)

    parts: list[Html] = []
    for tick in axis.ticks:
        parts.append(tag("line", {"class": "grid", "x1": "0%", "x2": "100%", "y1": y(tick), "y2": y(tick)}))
    if sweep.real is not None:
        at = y(sweep.real.top1.value)
        parts.append(tag("line", {"class": "guide", "x1": "0%", "x2": "100%", "y1": at, "y2": at}))
    num = len(sweep.points)
    xs = [f"{100 * (place + 0.5) / num:.2f}%" for place in range(num)]
    heights = [y(one.value) for _, one in sweep.points]
    for place in range(1, num):
        ends: dict[str, Attribute] = {"x1": xs[place - 1], "x2": xs[place]}
        ends |= {"y1": heights[place - 1], "y2": heights[place]}
        parts.append(tag("line", {"class": "joined", **ends}))
    for (value, one), x in zip(sweep.points, xs, strict=True):
        said = f"{sweep.setting} {value:g}: {percent(one.value)} % [{percent(one.low)}, {percent(one.high)}]"
        parts.append(tag("line", {"class": "interval score", "x1": x, "x2": x, "y1": y(one.low), "y2": y(one.high)}))
        parts.append(
            tag("circle", {"class": "dot score", "cx": x, "cy": y(one.value), "r": 5}, tag("title", None, said))
        )
    labels = [
        tag("text", {"x": 34, "y": y(t), "dy": "0.32em", "text-anchor": "end"}, f"{100 * t:.0f}") for t in axis.ticks
    ]
    below = [tag("span", None, f"{value:g}") for value, _ in sweep.points]
    panel = tag(
        "div",
        {"class": "panel"},
        tag("div", {"class": "panel-title"}, f"CAS, top-1 in %, over {sweep.setting}"),
        tag("svg", {"class": "axis", "width": 40, "height": HEIGHT, "aria-hidden": "true"}, labels),
        tag(
            "svg",
            {"width": "100%", "height": HEIGHT, "role": "img", "aria-label": f"CAS over {sweep.setting}"},
            parts,
        ),
    )
    return join(panel, tag("div", {"class": "rank-axis places"}, below))
