"""The report's figures as inline SVG: positions in percent, sizes in pixels, so text stays readable at every width."""

import dataclasses
import math
from collections.abc import Sequence

from caskit.evaluate.report.text import Attribute, Html, percent, position, signed, tag

ROW_HEIGHT = 26
_PANEL_HEIGHT = 220
_MAX_TOOLTIPS = 2000  # beyond, they would be most of the file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """An accuracy with its confidence interval, fractions."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis of accuracies, fractions, with a tick every `step`."""

    low: float = 0.0
    high: float = 1.0
    step: float = 0.25

    @property
    def ticks(self) -> list[float]:
        """Tick positions."""
        return [self.low + self.step * i for i in range(round((self.high - self.low) / self.step) + 1)]


def axis_around(values: Sequence[float]) -> Axis:
    """Return an axis of whole tens (or fives, for close values) of a percent that holds all values with some air."""
    low, high = min(values), max(values)
    step = next(s for s in (0.05, 0.1, 0.2) if (high - low) / s <= 4 or s == 0.2)
    first = max(0, math.floor((low - step / 4) / step))
    last = min(round(1 / step), math.ceil((high + step / 4) / step))
    return Axis(low=first * step, high=max(last, first + 1) * step, step=step)


def axis_labels(axis: Axis) -> Html:
    """Draw the axis' numbers, to stand above or below a column of rows."""
    labels = []
    for tick in axis.ticks:
        x = position(tick, axis.low, axis.high)
        labels.append(tag("text", {"x": x, "y": 14, "text-anchor": "middle"}, f"{100 * tick:.0f}"))
    return tag("svg", {"class": "axis", "width": "100%", "height": 20, "aria-hidden": "true"}, labels)


def dot_row(axis: Axis, *, real: Interval | None, score: Interval | None, guide: float | None = None) -> Html:
    """Draw one row: a dot for the score and a ring for real, each on its interval, joined by the gap between them."""
    middle = ROW_HEIGHT / 2

    def x(value: float) -> str:
        return position(value, axis.low, axis.high)

    def line(kind: str, start: float, stop: float) -> Html:
        return tag("line", {"class": kind, "x1": x(start), "x2": x(stop), "y1": middle, "y2": middle})

    parts = [tag("line", {"class": "grid", "x1": x(t), "x2": x(t), "y1": 0, "y2": ROW_HEIGHT}) for t in axis.ticks]
    if guide is not None:
        parts.append(tag("line", {"class": "guide", "x1": x(guide), "x2": x(guide), "y1": 0, "y2": ROW_HEIGHT}))
    if real is not None and score is not None:
        parts.append(line("gap", real.value, score.value))
    for kind, interval in (("real", real), ("score", score)):
        if interval is not None:
            parts.append(line(f"interval {kind}", interval.low, interval.high))
            parts.append(tag("circle", {"class": f"dot {kind}", "cx": x(interval.value), "cy": middle, "r": 5}))
    spoken = [f"{kind} {percent(i.value)} %" for kind, i in (("real", real), ("score", score)) if i is not None]
    return tag(
        "svg", {"class": "dots", "width": "100%", "height": ROW_HEIGHT, "role": "img", "aria-label": ", ".join(spoken)},
        parts,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankPoint:
    """One class of the rank chart: what to call it and its accuracies, fractions."""

    name: str
    score: float
    real: float | None


def rank_chart(points: Sequence[RankPoint]) -> Html:
    """Draw every class by rank: accuracies above, the difference (score - real) below; made for 1000 classes."""
    has_real = all(point.real is not None for point in points)
    accuracy = _panel(len(points), (0.0, 1.0), [0, 0.25, 0.5, 0.75, 1], "accuracy, %", _accuracy_marks(points), points)
    if not has_real:
        return tag("div", {"class": "ranks"}, accuracy, _rank_axis(len(points)))
    differences = [p.score - p.real for p in points if p.real is not None]
    step = 0.25 if max(map(abs, differences)) > 0.3 else 0.1
    low = step * min(math.floor(min(differences) / step), 0)
    high = step * max(math.ceil(max(differences) / step), 0 if low < 0 else 1)
    ticks = [low + step * i for i in range(round((high - low) / step) + 1)]
    panel = _panel(
        len(points), (low, high), ticks, "difference, points", _difference_marks(differences, low, high), points
    )
    return tag("div", {"class": "ranks"}, accuracy, panel, _rank_axis(len(points)))


def _y(value: float, low: float, high: float) -> float:
    return 100 * (high - value) / (high - low)  # panels have 100 units of height


def _accuracy_marks(points: Sequence[RankPoint]) -> list[Html]:
    stems = "".join(
        f"M{i + 0.5} {_y(p.real, 0, 1):.1f}V{_y(p.score, 0, 1):.1f}" for i, p in enumerate(points) if p.real is not None
    )
    real = "".join(f"M{i + 0.5} {_y(p.real, 0, 1):.1f}h.01" for i, p in enumerate(points) if p.real is not None)
    score = "".join(f"M{i + 0.5} {_y(p.score, 0, 1):.1f}h.01" for i, p in enumerate(points))
    marks = (("stem", stems), ("speck real", real), ("speck score", score))
    return [tag("path", {"class": kind, "d": path}) for kind, path in marks if path]


def _difference_marks(differences: Sequence[float], low: float, high: float) -> list[Html]:
    zero = _y(0, low, high)
    steps = "".join(f"V{_y(d, low, high):.1f}H{i + 1}" for i, d in enumerate(differences))
    outline = f"M0 {zero:.1f}{steps}V{zero:.1f}Z"
    base = tag("line", {"class": "zero", "x1": 0, "x2": len(differences), "y1": f"{zero:.1f}", "y2": f"{zero:.1f}"})
    return [tag("path", {"class": "area", "d": outline}), base]


def _panel(
    num: int,
    span: tuple[float, float],
    ticks: Sequence[float],
    title: str,
    marks: list[Html],
    points: Sequence[RankPoint],
) -> Html:
    low, high = span
    height = _PANEL_HEIGHT if span == (0.0, 1.0) else _PANEL_HEIGHT * 2 // 3
    grid = [
        tag(
            "line",
            {"class": "grid", "x1": 0, "x2": num, "y1": f"{_y(t, low, high):.1f}", "y2": f"{_y(t, low, high):.1f}"},
        )
        for t in ticks
    ]
    hits = [
        tag("rect", {"x": i, "y": 0, "width": 1, "height": 100}, tag("title", None, _tooltip(i, point)))
        for i, point in enumerate(points[:_MAX_TOOLTIPS])
    ]
    plot: dict[str, Attribute] = {
        "class": "plot",
        "viewBox": f"0 0 {num} 100",
        "preserveAspectRatio": "none",
        "height": height,
    }
    labels = [
        tag("text", {"x": 34, "y": f"{_y(t, low, high):.1f}%", "dy": "0.32em", "text-anchor": "end"}, _tick(t, low))
        for t in ticks
    ]
    return tag(
        "div",
        {"class": "panel"},
        tag("div", {"class": "panel-title"}, title),
        tag("svg", {"class": "axis", "width": 40, "height": height, "aria-hidden": "true"}, labels),
        tag(
            "svg",
            {**plot, "role": "img", "aria-label": f"{title} by rank"},
            grid,
            marks,
            tag("g", {"class": "hits"}, hits),
        ),
    )


def _tick(value: float, low: float) -> str:
    return signed(100 * value, 0) if low < 0 else f"{100 * value:.0f}"


def _tooltip(index: int, point: RankPoint) -> str:
    if point.real is None:
        return f"{index + 1}. {point.name}: {percent(point.score, 1)} %"
    difference = signed(100 * (point.score - point.real), 1)
    return (
        f"{index + 1}. {point.name}: {percent(point.score, 1)} %, real {percent(point.real, 1)} %, {difference} points"
    )


def _rank_axis(num: int) -> Html:
    ends = [tag("span", None, "rank 1"), tag("span", None, f"rank {num}")]
    return tag("div", {"class": "rank-axis"}, ends)
