"""Fidelity metrics on the page: what `caskit metrics` measured of a set, beside its CAS, under their whole names."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caskit.evaluate.compare.fidelity import Measured, read_measured
from caskit.evaluate.fidelity.extractor import Identity
from caskit.evaluate.fidelity.numbers import BELOW_DIMENSION, MANIFOLD, short_names
from caskit.evaluate.report.record import Score
from caskit.evaluate.report.runs import Run
from caskit.evaluate.report.text import Html, count, join, name_tag, percent, shorten, signed, tag
from caskit.manifests.errors import InputError

_MAX_NAME = 80


def find_measured(scores: Sequence[Score], folders: Sequence[Path]) -> list[Measured]:
    """Read folders of `caskit metrics` about sets that the scores are about.

    Raises:
        InputError: a folder is of another set, or two of them have one metric of one set.
        IntegrityError: metrics were edited.
    """
    found = read_measured(folders)
    roots = {score.about.ids["content_root"] for score in scores}
    known: dict[tuple[str, str], Path] = {}
    for one in found:
        if one.root not in roots:
            raise InputError(f"{one.path}: measures content {one.root[:16]}, which none of the scores is about")
        for name in one.values:
            first = known.setdefault((one.root, name), one.path)
            if first != one.path:
                raise InputError(f"{one.path}: {name} of this set stands in {first} already; name one folder of them")
    return found


def values_by_set(measured: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Return the values of every set by content_root and whole name, without those that a mark forbids to compare."""
    found: dict[str, dict[str, float]] = {}
    for one in measured:
        unmarked = {name: value for name, value in one.values.items() if name not in one.marks}
        found.setdefault(one.root, {}).update(unmarked)
    return found


def measured_section(scores: Sequence[Score], runs: Sequence[Run], measured: Sequence[Measured]) -> Html | None:
    """Write the section; None without metrics. Raises InputError for a record of another form."""
    if not measured:
        return None
    text = (
        "How far a set is from real images as a network sees both. A name says by which network, with the first digits "
        "of its weights' digest, and of how many of the set's images; numbers of different names cannot be compared. "
        "They do not tell whether a classifier learns from the images: CAS does."
    )
    parts = []
    for group in _groups(measured):
        try:
            parts.append(_group(scores, runs, group))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(f"{group[0].path}: is no record of `caskit metrics` ({error!r})") from error
    return tag("section", None, tag("h2", None, "Fidelity metrics"), tag("p", None, text), parts)


def _groups(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Return the folders of one extractor and one real set together, in the order of the command."""
    found: dict[tuple[str, str], list[Measured]] = {}
    for one in measured:
        identity = Identity.from_json(dict(one.record["extractor"]))
        found.setdefault((identity.title, one.record["reference"]["content_root"]), []).append(one)
    return list(found.values())


def _group(scores: Sequence[Score], runs: Sequence[Run], group: Sequence[Measured]) -> Html:
    first = group[0].record
    identity, reference = Identity.from_json(dict(first["extractor"])), first["reference"]
    names = list(dict.fromkeys(entry["name"] for one in group for entry in one.record["metrics"]))
    head = [tag("th", None, "set"), tag("th", {"class": "number"}, "CAS, %"), [_heading(name) for name in names]]
    rows = [_row(scores, runs, one, names) for one in group]
    table = tag("table", {"class": "measured"}, tag("thead", None, tag("tr", None, head)), tag("tbody", None, rows))
    real = " ".join(str(reference[name]) for name in ("dataset", "split") if reference.get(name))
    sizes = ", ".join(count(size) for size in sorted({int(size) for one in group for size in _sizes(one)}))
    text = (
        f"{identity.name}, {count(int(first['dim']))} features, images resized by {identity.resize}; weights or "
        f"classifier {identity.digest}. Beside {sizes} real images of {real or 'a set'}, content_root "
        f"{str(reference['content_root'])[:16]}. Small numbers are deviations over the splits or subsets."
    )
    marked = None
    if any(one.marks for one in group):
        said = "N below D: fewer images than features, so the distance is far too large; compare it with nothing."
        marked = tag("p", {"class": "warn"}, said)
    omitted = [
        tag("p", {"class": "soft"}, f"{shorten(_title(scores, one))}: no {entry['metric']}, {entry['reason']}.")
        for one in group
        for entry in one.record["omitted"]
    ]
    return join(
        tag("h3", None, shorten(identity.title, _MAX_NAME)),
        tag("div", {"class": "scroll"}, table),
        tag("p", {"class": "soft"}, text),
        marked,
        omitted,
        [_classes(scores, one, identity) for one in group],
    )


def _sizes(one: Measured) -> Iterator[int]:
    return (entry["num_reference"] for entry in one.record["metrics"] if entry["num_reference"] is not None)


def _heading(name: str) -> Html:
    """Return a whole name as a heading, its metric first and the rest in small type."""
    end = min(place for place in (name.find("("), name.find("["), len(name)) if place >= 0)
    return tag("th", {"class": "number"}, shorten(name[:end]), tag("small", None, shorten(name[end:], _MAX_NAME)))


def _title(scores: Sequence[Score], one: Measured) -> str:
    return next(score.title for score in scores if score.about.ids["content_root"] == one.root)


def _row(scores: Sequence[Score], runs: Sequence[Run], one: Measured, names: Sequence[str]) -> Html:
    entries = {entry["name"]: entry for entry in one.record["metrics"]}
    cas = ", ".join(percent(run.top1.value) for run in runs if run.first.train.ids["content_root"] == one.root)
    return tag(
        "tr",
        None,
        tag(
            "td", None, name_tag(_title(scores, one)), tag("small", None, f"metrics_id {one.record['metrics_id'][:16]}")
        ),
        tag("td", {"class": "number"}, cas),
        [_cell(entries.get(name)) for name in names],
    )


def _cell(entry: Mapping[str, Any] | None) -> Html:
    if entry is None:
        return tag("td", {"class": "number"}, "")
    deviation = None if entry["sd"] is None else tag("small", None, f"\N{PLUS-MINUS SIGN} {spelled(entry['sd'])}")
    said = {BELOW_DIMENSION: "N below D"}
    marks = [tag("small", None, said.get(mark, shorten(str(mark)))) for mark in entry["marks"]]
    return tag("td", {"class": "number"}, spelled(float(entry["value"])), deviation, marks)


def spelled(value: float) -> str:
    """Spell a metric: distances of kernels are small, Inception's scores are not."""
    digits = 2 if abs(value) >= 100 else 3 if abs(value) >= 1 else 4 if abs(value) >= 0.1 else 6
    return signed(value, digits).removeprefix("+")


def _classes(scores: Sequence[Score], one: Measured, identity: Identity) -> Html | None:
    """Write the classes of a set; None where no class has enough images for a number."""
    columns = [
        name
        for name in (*short_names(identity).values(), *MANIFOLD)
        if any(row[name] is not None for row in one.record["per_class"])
    ]
    if not columns:
        return None
    score = next((s for s in scores if s.metric == "CAS" and s.train.ids["content_root"] == one.root), None)
    differences = {} if score is None else {entry.label: entry.difference for entry in score.classes}
    head = ["class", "images", "real images", *(["points"] if differences else []), *columns]
    headings = [tag("th", {"class": None if name == "class" else "number"}, name) for name in head]
    rows = []
    for row in one.record["per_class"]:
        difference = differences.get(row["label"])
        points = tag("td", {"class": "number"}, "" if difference is None else signed(100 * difference, 1))
        rows.append(
            tag(
                "tr",
                None,
                tag("td", None, name_tag(str(row["name"]))),
                [tag("td", {"class": "number"}, count(int(row[name]))) for name in ("num", "num_reference")],
                points if differences else None,
                [
                    tag("td", {"class": "number"}, "" if row[name] is None else spelled(float(row[name])))
                    for name in columns
                ],
            )
        )
    table = tag("table", {"class": "sortable"}, tag("thead", None, tag("tr", None, headings)), tag("tbody", None, rows))
    said = f"By class: {shorten(_title(scores, one))}"
    if score is not None and differences:
        said += f"; points are CAS minus Real, training seed {score.seed}"
    return tag("details", None, tag("summary", None, said), tag("div", {"class": "scroll"}, table))
