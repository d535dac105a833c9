"""The curve shows every training at its place, and any title stays text."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from caskit.evaluate.report.curve import Point, curve, size_curve
from caskit.evaluate.rows import spread

SVG = "{http://www.w3.org/2000/svg}"


def row(num: int, values: list[float], metric: str = "CAS") -> dict[str, Any]:
    return {
        "name": f"row-{num}",
        "metric": metric,
        "num": num,
        "scores": [{"top1": v} for v in values],
        "top1": spread(values),
    }


REAL = row(60000, [0.92, 0.93], "real")
ROWS = [row(60000, [0.88, 0.9]), row(6000, [0.8, 0.82]), row(12000, [0.85, 0.84])]


def drawn(rows: list[dict[str, Any]], title: str = "a generator") -> ElementTree.Element:
    return ElementTree.fromstring(size_curve({"rows": rows}, title=title))


def test_every_training_is_a_dot_further_right_with_more_images_and_higher_with_a_better_score() -> None:
    dots = [(float(d.attrib["cx"]), -float(d.attrib["cy"])) for d in drawn([REAL, *ROWS]).iter(f"{SVG}circle")]
    assert len(dots) == 6
    in_order = [(num, value) for num, value in sorted((r["num"], s["top1"]) for r in ROWS for s in r["scores"])]
    assert sorted(range(6), key=lambda i: dots[i][1]) == sorted(
        range(6), key=lambda i: [0.8, 0.82, 0.85, 0.84, 0.88, 0.9][i]
    )
    assert [x for x, _ in dots] == sorted(x for x, _ in dots) and len(in_order) == 6
    distances = [dots[2][0] - dots[0][0], dots[4][0] - dots[2][0]]  # doubled, then five times: 0.30 and 0.70 decades
    assert distances[1] / distances[0] == pytest.approx(0.69897 / 0.30103, rel=0.01)


def test_the_line_joins_the_means_and_real_is_a_line_of_its_own() -> None:
    svg = drawn([REAL, *ROWS])
    line = svg.find(f"{SVG}polyline")
    assert line is not None and len(line.attrib["points"].split()) == 3
    assert [e.attrib["class"] for e in svg.iter(f"{SVG}line")].count("real") == 1
    assert "Real, 60,000 images: 92.50" in "".join(svg.itertext())
    assert "Real" not in "".join(drawn(ROWS).itertext())


def test_sizes_close_together_are_not_written_over_each_other() -> None:
    close = [row(num, [0.8]) for num in (1000, 10000, 10001, 10002)]
    words = "".join(drawn(close).itertext())
    assert "1,000" in words and "10,002" in words and "10,001" not in words
    assert len(list(drawn(close).iter(f"{SVG}circle"))) == 4


def test_a_title_is_text_whatever_it_says() -> None:
    svg = drawn(ROWS, title='<script>alert("x")</script>')
    assert not list(svg.iter(f"{SVG}script"))
    assert '<script>alert("x")</script>' in "".join(svg.itertext())


def test_settings_stand_under_their_points() -> None:
    points = [Point(x=float(text), label=text, scores=(0.5, 0.6)) for text in ("2", "0.2", "1", "0.5")]
    svg = ElementTree.fromstring(curve(points, title="truncation", x_title="z_scale", real=REAL))
    labels = {e.text: float(e.attrib["x"]) for e in svg.iter(f"{SVG}text") if e.attrib.get("text-anchor") == "middle"}
    assert sorted(labels, key=labels.__getitem__) == ["0.2", "0.5", "1", "2"]
    dots = [float(dot.attrib["cx"]) for dot in svg.iter(f"{SVG}circle")]
    assert sorted(set(dots)) == sorted(labels.values())
    assert "z_scale" in "".join(svg.itertext())
