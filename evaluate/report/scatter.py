"""A metric against CAS, a mark per generator, as an SVG file of its own; families differ by shape, so grey will do."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from caskit.evaluate.report.text import Attribute, Html, shorten, signed, tag

WIDTH, HEIGHT = 720, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 84, 56
MAX_LABELS = 16  # more names than these would lie on each other; all are in tooltips
STYLE = """
text{font:13px system-ui,sans-serif;fill:#5a6370}.title{font-weight:600;font-size:15px;fill:#191c21}
.paper{fill:#fff}.grid{stroke:#dfe3e8}.mark{fill:#c9500f;fill-opacity:.55;stroke:#8f3707;stroke-width:1.5}
.name{font-size:11px}
@media(prefers-color-scheme:dark){text{fill:#9aa4b1}.title{fill:#e6e9ed}.paper{fill:#13161a}.grid{stroke:#2d333b}
.mark{fill:#ff9150;stroke:#ffc9a8}}
"""
# Outlines around (0, 0), about equally large; families beyond the last shape begin again.
SHAPES = (
    "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",
    "M-4.5-4.5h9v9h-9Z",
    "M0-6L5.5 4.5H-5.5Z",
    "M0-6.5L5.5 0L0 6.5L-5.5 0Z",
    "M0 6L5.5-4.5H-5.5Z",
    "M-5.5-2h3.5v-3.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5Z",
)


def nice_ticks(values: Sequence[float], *, num: int = 5) -> list[float]:
    """Return about `num` round numbers, 1, 2 or 5 times a power of ten apart, around all values."""
    low, high = min(values), max(values)
    span = high - low or max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / num))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= num)
    first, last = math.floor(low / step - 0.1), math.ceil(high / step + 0.1)
    return [step * place for place in range(first, max(last, first + 1) + 1)]


def scatter(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any], *, cas_title: str) -> str:
    """Draw the rows of compare.json that have a metric, with its correlations above.

    Args:
        rows: of compare.json.
        found: the metric's entry in its `correlations`.
        cas_title: what the vertical axis is.
    """
    metric = found["metric"]
    shown = [row for row in rows if row["metrics"].get(metric) is not None]
    xs, ys = [row["metrics"][metric] for row in shown], [row["cas"] for row in shown]
    across, up = nice_ticks(xs), nice_ticks(ys)
    families = {family: place for place, family in enumerate(dict.fromkeys(row["family"] for row in rows))}

    def x(value: float) -> float:
        return LEFT + (value - across[0]) / (across[-1] - across[0]) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (up[-1] - value) / (up[-1] - up[0]) * (HEIGHT - TOP - BOTTOM)

    title = f"{shorten(metric, 50)} and CAS, {found['num']} rows of {_families(found['num_families'])}"
    parts: list[Html] = [tag("style", None, Html(STYLE)), tag("rect", {"class": "paper", **_size()})]
    parts.append(tag("text", {"class": "title", "x": LEFT, "y": 24}, title))
    parts.append(tag("text", {"x": LEFT, "y": 44}, _coefficients(found)))
    parts.append(tag("text", {"x": LEFT, "y": TOP - 12}, cas_title))
    for tick in up:
        at = f"{y(tick):.1f}"
        parts.append(tag("line", {"class": "grid", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": at, "y2": at}))
        place: dict[str, Attribute] = {"x": LEFT - 8, "y": at, "dy": "0.32em", "text-anchor": "end"}
        parts.append(tag("text", place, f"{tick:.6g}"))
    for tick in across:
        place = {"x": f"{x(tick):.1f}", "y": HEIGHT - BOTTOM + 22, "text-anchor": "middle"}
        parts.append(tag("text", place, f"{tick:.6g}"))
    parts.append(tag("text", {"x": WIDTH - RIGHT, "y": HEIGHT - 12, "text-anchor": "end"}, shorten(metric, 60)))
    for row, across_value, up_value in zip(shown, xs, ys, strict=True):
        shape = SHAPES[families[row["family"]] % len(SHAPES)]
        place = {"transform": f"translate({x(across_value):.1f} {y(up_value):.1f})", "class": "mark", "d": shape}
        name = f"{row['name']} ({row['family']}): {across_value:.6g}, CAS {up_value:.6g}"
        parts.append(tag("path", place, tag("title", None, name)))
    if len(shown) <= MAX_LABELS:
        parts += [_label(row["name"], x(a), y(b)) for row, a, b in zip(shown, xs, ys, strict=True)]
    frame: dict[str, Attribute] = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {WIDTH} {HEIGHT}",
        "role": "img",
        **_size(),
    }
    return tag("svg", {**frame, "aria-label": title}, parts) + "\n"


def _size() -> dict[str, Attribute]:
    return {"width": WIDTH, "height": HEIGHT}


def _families(num: int) -> str:
    return f"{num} families" if num != 1 else "1 family"


def _label(name: str, x: float, y: float) -> Html:
    left = x > WIDTH - 160
    place: dict[str, Attribute] = {"class": "name", "x": f"{x - 9 if left else x + 9:.1f}", "y": f"{y:.1f}"}
    return tag("text", {**place, "dy": "0.32em", "text-anchor": "end" if left else None}, shorten(name, 28))


def _coefficients(found: Mapping[str, Any]) -> str:
    said = []
    for name in ("pearson", "spearman", "kendall"):
        one = found[name]
        if one["value"] is None:
            said.append(f"{name.capitalize()} undefined")
            continue
        bounds = "" if one["low"] is None else f" ({signed(one['low'])} to {signed(one['high'])})"
        said.append(f"{name.capitalize()} {signed(one['value'], 3)}{bounds}")
    few = "; too few families for intervals" if found["pearson"]["low"] is None else ""
    return ", ".join(said) + few
