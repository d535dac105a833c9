"""How other measures go with CAS over the sets of a page: a table with intervals, and a scatter plot each."""

from collections.abc import Mapping, Sequence
from typing import Any

from caskit.evaluate.compare.correlation import COEFFICIENTS, MIN_FAMILIES, Entry, correlations
from caskit.evaluate.report.record import MEASURES
from caskit.evaluate.report.runs import Run
from caskit.evaluate.report.scatter import nice_ticks
from caskit.evaluate.report.text import Attribute, Html, join, plural, position, shorten, signed, tag

MIN_RUNS = 3  # two points lie on a line whatever they are
HEIGHT = 240
_MAX_PLOTS = 12


def entries_of(runs: Sequence[Run], measured: Mapping[str, Mapping[str, float]] | None = None) -> list[Entry]:
    """Return the sets of a page as rows of a comparison, with CAS in per cent.

    Args:
        runs: the sets, all of one recipe and test set.
        measured: fidelity metrics by content_root of the set.
    """
    rows = []
    for run in runs:
        first, metrics = run.first, {}
        for name, title in MEASURES.items():
            values = [score.measures[name] for score in run.scores if name in score.measures]
            metrics[title] = sum(values) / len(values) if len(values) == len(run.scores) else None
        if run.gan_test is not None:
            metrics["GAN-test, %"] = 100 * run.gan_test
        metrics |= (measured or {}).get(first.train.ids["content_root"], {})
        family = first.train.family or first.train.title
        rows.append(Entry(name=name_of(run), family=family, cas=100 * run.top1.value, metrics=metrics))
    return rows


def name_of(run: Run) -> str:
    """Name a set by its generator, and by the settings that tell it from the others."""
    return run.first.title


def comparable(runs: Sequence[Run]) -> bool:
    """Return whether sets can be put in one order: enough of them, of one recipe and test set."""
    alike = {(run.first.recipe_id, run.first.test.ids["content_root"]) for run in runs}
    return len(runs) >= MIN_RUNS and len(alike) == 1


def find_correlations(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return `correlations` of the metrics that at least MIN_RUNS sets have."""
    return [found for found in correlations(entries) if found["num"] >= MIN_RUNS]


def correlation_section(entries: Sequence[Entry], found: Sequence[Mapping[str, Any]]) -> Html | None:
    """Write the section; None if nothing is there to correlate."""
    if not found:
        return None
    families = len({entry.family for entry in entries})
    text = (
        f"{plural(len(entries), 'set')} of {plural(families, 'generator')}, each with its mean CAS. In the paper's "
        "comparison neither IS nor FID told which of the generators has the better CAS."
    )
    few = None
    if families < MIN_FAMILIES:
        few = tag(
            "p",
            {"class": "soft"},
            f"Settings of one generator are not several generators: with fewer than {MIN_FAMILIES} of them there are "
            "no intervals, and these numbers say nothing about other generators.",
        )
    head = [
        tag("th", {"class": None if not n else "number"}, n) for n in ("", "sets", "Pearson", "Spearman", "Kendall")
    ]
    rows = [
        tag(
            "tr",
            None,
            tag("td", None, shorten(one["metric"])),
            tag("td", {"class": "number"}, str(one["num"])),
            [_coefficient(one[name]) for name in COEFFICIENTS],
        )
        for one in found
    ]
    table = tag("table", None, tag("thead", None, tag("tr", None, head)), tag("tbody", None, rows))
    plots = tag("div", {"class": "plots"}, [_plot(entries, one["metric"]) for one in found[:_MAX_PLOTS]])
    heading = tag("h2", None, "How other measures go with CAS")
    names = list(dict.fromkeys(entry.family for entry in entries))
    marks = "" if len(names) != 2 else f"Filled marks are {shorten(names[0])}, hollow ones {shorten(names[1])}. "
    note = tag("p", {"class": "soft"}, f"{marks}Point at a mark to read its name.")
    return tag("section", None, heading, tag("p", None, text), few, tag("div", {"class": "scroll"}, table), note, plots)


def _coefficient(one: Mapping[str, Any]) -> Html:
    if one["value"] is None:
        return tag("td", {"class": "number"}, "undefined")
    bounds = None if one["low"] is None else tag("small", None, f"{signed(one['low'])} to {signed(one['high'])}")
    return tag("td", {"class": "number"}, signed(one["value"], 3), bounds)


def _plot(entries: Sequence[Entry], metric: str) -> Html:
    points = [(entry, entry.metrics[metric]) for entry in entries if entry.metrics.get(metric) is not None]
    xs = [value for _, value in points if value is not None]
    across, up = nice_ticks(xs, num=4), nice_ticks([entry.cas for entry, _ in points], num=4)
    parts: list[Html] = []

    def x(value: float) -> str:
        return position(value, across[0], across[-1])

    def y(value: float) -> str:
        return position(up[0] + up[-1] - value, up[0], up[-1])

    for tick in up:
        parts.append(tag("line", {"class": "grid", "x1": "0%", "x2": "100%", "y1": y(tick), "y2": y(tick)}))
    families = {family: place for place, family in enumerate(dict.fromkeys(entry.family for entry in entries))}
    for (entry, _), value in zip(points, xs, strict=True):
        said = f"{shorten(entry.name, 80)}: {value:.6g}, CAS {entry.cas:.2f} %"
        place: dict[str, Attribute] = {"cx": x(value), "cy": y(entry.cas), "r": 5}
        hollow = families[entry.family] % 2 == 1
        parts.append(tag("circle", {"class": "dot real" if hollow else "dot score", **place}, tag("title", None, said)))
    labels = [tag("text", {"x": 34, "y": y(t), "dy": "0.32em", "text-anchor": "end"}, f"{t:.6g}") for t in up]
    spoken = f"CAS over {metric}"
    panel = tag(
        "div",
        {"class": "panel"},
        tag("div", {"class": "panel-title"}, f"CAS, top-1 in %, upwards; {shorten(metric, 40)} to the right"),
        tag("svg", {"class": "axis", "width": 40, "height": HEIGHT, "aria-hidden": "true"}, labels),
        tag("svg", {"width": "100%", "height": HEIGHT, "role": "img", "aria-label": spoken}, parts),
    )
    ends = [tag("span", None, f"{tick:.6g}") for tick in across]
    return tag("div", None, join(panel, tag("div", {"class": "rank-axis two-axis"}, ends)))
