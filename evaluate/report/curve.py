"""CAS against the number of synthetic images, or against a setting of the sampler, as an SVG file of its own."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from caskit.evaluate.report.chart import axis_around
from caskit.evaluate.report.text import Attribute, Html, tag

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 56, 56  # margins of the plot
LABEL_WIDTH = 8  # pixels of a character below the axis, and some

STYLE = """
text{font:13px system-ui,sans-serif;fill:#5a6370}.title{font-weight:600;font-size:15px;fill:#191c21}
.paper{fill:#fff}.grid{stroke:#dfe3e8}.mean{fill:none;stroke:#c9500f;stroke-width:2}.seed{fill:#c9500f;fill-opacity:.45}
.real{stroke:#1f6fb2;stroke-width:2;stroke-dasharray:6 4}.band{fill:#1f6fb2;fill-opacity:.14}.real-text{fill:#1f6fb2}
@media(prefers-color-scheme:dark){text{fill:#9aa4b1}.title{fill:#e6e9ed}.paper{fill:#13161a}.grid{stroke:#2d333b}
.mean{stroke:#ff9150}.seed{fill:#ff9150}.real{stroke:#62b0f0}.band{fill:#62b0f0}.real-text{fill:#62b0f0}}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """What was scored at one place of the curve.

    Attributes:
        x: the place, above 0; the axis is logarithmic.
        label: what stands below it.
        scores: top-1 of each training, fractions.
    """

    x: float
    label: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the trainings."""
        return math.fsum(self.scores) / len(self.scores)


def size_curve(result: Mapping[str, Any], *, title: str) -> str:
    """Draw the rows of a record of cas.json (`evaluate/cas.py`) over the number of images. Needs two sizes or more."""
    real = next((row for row in result["rows"] if row["metric"] == "real"), None)
    points = [
        Point(x=row["num"], label=f"{row['num']:,}", scores=tuple(score["top1"] for score in row["scores"]))
        for row in result["rows"]
        if row["metric"] not in ("real", "GAN-test") and not row["name"].startswith("sampling-seed-")
    ]
    return curve(points, title=title, x_title="synthetic training images", real=real)


def augmentation_curve(result: Mapping[str, Any], *, title: str) -> str:
    """Draw the rows of a record of nas.json (`evaluate/nas.py`) over the training images. Needs two shares or more."""
    alone = next((row for row in result["rows"] if row["share"] == 0), None)
    points = [
        Point(
            x=row["num"],
            label="real" if row["share"] == 0 else f"+{100 * row['share']:g} %",
            scores=tuple(score["top1"] for score in row["scores"]),
        )
        for row in result["rows"]
    ]
    x_title = f"training images, fixed {result['fixed']}"
    return curve(points, title=title, x_title=x_title, real=alone, measure="NAS")


def curve(
    points: Sequence[Point],
    *,
    title: str,
    x_title: str,
    real: Mapping[str, Any] | None = None,
    measure: str = "CAS",
) -> str:
    """Draw scores over a logarithmic axis.

    A dot is a training seed, the line joins their means; the Real row, where there is one, is a dashed line with the
    range of its seeds.

    Args:
        points: two or more, at different places.
        title: above the plot.
        x_title: below it.
        real: a Real row of cas.json.
        measure: whose top-1 it is.
    """
    points = sorted(points, key=lambda point: point.x)
    places = [point.x for point in points]
    assert len(places) > 1 and len(set(places)) == len(places) and places[0] > 0, "a curve needs different places"
    values = [score for point in points for score in point.scores]
    if real is not None:
        values += [score["top1"] for score in real["scores"]]
    axis = axis_around(values)

    def x(place: float) -> float:
        span = math.log(places[-1]) - math.log(places[0])
        share = (math.log(place) - math.log(places[0])) / span
        return LEFT + 20 + share * (WIDTH - LEFT - RIGHT - 40)

    def y(value: float) -> float:
        return TOP + (axis.high - value) / (axis.high - axis.low) * (HEIGHT - TOP - BOTTOM)

    parts: list[Html] = [tag("style", None, Html(STYLE)), tag("rect", {"class": "paper", **_size()})]
    parts.append(tag("text", {"class": "title", "x": LEFT, "y": 24}, title))
    for tick in axis.ticks:
        parts.append(tag("line", {"class": "grid", "x1": LEFT, "x2": WIDTH - RIGHT, **_level(y(tick))}))
        place: dict[str, Attribute] = {"x": LEFT - 8, "y": f"{y(tick):.1f}", "dy": "0.32em", "text-anchor": "end"}
        parts.append(tag("text", place, f"{100 * tick:.0f}"))
    parts.append(
        tag("text", {"x": LEFT, "y": TOP - 12}, f"{measure}, top-1 in %; a dot per training seed, the line their mean")
    )
    if real is not None:
        parts += _real(real, y)
    line = " ".join(f"{x(point.x):.1f},{y(point.mean):.1f}" for point in points)
    parts.append(tag("polyline", {"class": "mean", "points": line}))
    for point in points:
        parts += [
            tag("circle", {"class": "seed", "cx": f"{x(point.x):.1f}", "cy": f"{y(score):.1f}", "r": 4})
            for score in point.scores
        ]
    for point in _labelled(points, x):
        place = {"x": f"{x(point.x):.1f}", "y": HEIGHT - BOTTOM + 22, "text-anchor": "middle"}
        parts.append(tag("text", place, point.label))
    parts.append(tag("text", {"x": WIDTH - RIGHT, "y": HEIGHT - 12, "text-anchor": "end"}, x_title))
    frame: dict[str, Attribute] = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {WIDTH} {HEIGHT}",
        "role": "img",
        **_size(),
    }
    return tag("svg", {**frame, "aria-label": title}, parts) + "\n"


def _size() -> dict[str, Attribute]:
    return {"width": WIDTH, "height": HEIGHT}


def _level(y: float) -> dict[str, Attribute]:
    return {"y1": f"{y:.1f}", "y2": f"{y:.1f}"}


def _real(row: Mapping[str, Any], y: Any) -> list[Html]:
    top1 = row["top1"]
    high, low = y(top1["max"]), y(top1["min"])
    place: dict[str, Attribute] = {
        "x": LEFT,
        "y": f"{high:.1f}",
        "width": WIDTH - LEFT - RIGHT,
        "height": f"{low - high:.1f}",
    }
    text = f"Real, {row['num']:,} images: {100 * top1['mean']:.2f}"
    return [
        tag("rect", {"class": "band", **place}),
        tag("line", {"class": "real", "x1": LEFT, "x2": WIDTH - RIGHT, **_level(y(top1["mean"]))}),
        tag("text", {"class": "real-text", "x": LEFT + 6, "y": f"{high - 6:.1f}"}, text),
    ]


def _labelled(points: Sequence[Point], x: Any) -> list[Point]:
    """Return the points whose labels fit below the axis: the last one always, the others from there down."""
    kept = [points[-1]]
    for point in reversed(points[:-1]):
        if x(kept[-1].x) - x(point.x) >= 12 + LABEL_WIDTH * (len(kept[-1].label) + len(point.label)) / 2:
            kept.append(point)
    return kept
