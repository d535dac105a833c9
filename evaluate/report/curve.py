"""CAS against the number of synthetic images, as an SVG file of its own."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from caskit.evaluate.report.chart import axis_around
from caskit.evaluate.report.text import Attribute, Html, tag

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 56, 56  # margins of the plot
LABEL_ROOM = 60  # pixels between two labels below the axis

STYLE = """
text{font:13px system-ui,sans-serif;fill:#5a6370}.title{font-weight:600;font-size:15px;fill:#191c21}
.paper{fill:#fff}.grid{stroke:#dfe3e8}.mean{fill:none;stroke:#c9500f;stroke-width:2}.seed{fill:#c9500f;fill-opacity:.45}
.real{stroke:#1f6fb2;stroke-width:2;stroke-dasharray:6 4}.band{fill:#1f6fb2;fill-opacity:.14}.real-text{fill:#1f6fb2}
@media(prefers-color-scheme:dark){text{fill:#9aa4b1}.title{fill:#e6e9ed}.paper{fill:#13161a}.grid{stroke:#2d333b}
.mean{stroke:#ff9150}.seed{fill:#ff9150}.real{stroke:#62b0f0}.band{fill:#62b0f0}.real-text{fill:#62b0f0}}
"""


def curve(result: Mapping[str, Any], *, title: str) -> str:
    """Draw the rows of a record of cas.json (`evaluate/cas.py`) over the number of images, on a logarithmic axis.

    A dot is a training seed, the line joins their means; the Real row, where there is one, is a dashed line with the
    range of its seeds. Needs two sizes or more.
    """
    rows = sorted((row for row in result["rows"] if row["metric"] != "real"), key=lambda row: row["num"])
    real = next((row for row in result["rows"] if row["metric"] == "real"), None)
    assert len(rows) > 1, "a curve needs two sizes"
    values = [score["top1"] for row in result["rows"] for score in row["scores"]]
    axis = axis_around(values)
    sizes = [row["num"] for row in rows]

    def x(num: int) -> float:
        span = math.log(sizes[-1]) - math.log(sizes[0])
        share = (math.log(num) - math.log(sizes[0])) / span
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
        tag("text", {"x": LEFT, "y": TOP - 12}, "CAS, top-1 in %; a dot per training seed, the line their mean")
    )
    if real is not None:
        parts += _real(real, y)
    points = " ".join(f"{x(row['num']):.1f},{y(row['top1']['mean']):.1f}" for row in rows)
    parts.append(tag("polyline", {"class": "mean", "points": points}))
    for row in rows:
        parts += [
            tag("circle", {"class": "seed", "cx": f"{x(row['num']):.1f}", "cy": f"{y(score['top1']):.1f}", "r": 4})
            for score in row["scores"]
        ]
    for num in _labelled(sizes, x):
        place = {"x": f"{x(num):.1f}", "y": HEIGHT - BOTTOM + 22, "text-anchor": "middle"}
        parts.append(tag("text", place, f"{num:,}"))
    parts.append(tag("text", {"x": WIDTH - RIGHT, "y": HEIGHT - 12, "text-anchor": "end"}, "synthetic training images"))
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


def _labelled(sizes: Sequence[int], x: Any) -> list[int]:
    """Return the sizes whose numbers fit below the axis: the largest always, the others from there down."""
    kept = [sizes[-1]]
    for num in reversed(sizes[:-1]):
        if x(kept[-1]) - x(num) >= LABEL_ROOM:
            kept.append(num)
    return kept
