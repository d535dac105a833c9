"""The search for copies on the page: what was found, beside what real images have, and the nearest pairs."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caskit.evaluate.duplicates.folder import RECORD_NAME, block_of, read_inspection, read_sheet
from caskit.evaluate.duplicates.verdicts import FAULT
from caskit.evaluate.report.record import Score
from caskit.evaluate.report.text import Html, count, join, name_tag, percent, shorten, tag
from caskit.manifests.errors import InputError

_COUNTS = ("exact", "near", "close")
_TITLES = {
    "within": "The nearest pairs of the set",
    "train": "Images of the set above the training images that they are nearest to",
    "test": "Images of the set above the test images that they are nearest to",
    "features-train": "Images of the set above the training images that features put them next to",
    "features-test": "Images of the set above the test images that features put them next to",
}
_PIXELATED = 48


def find_searches(scores: Sequence[Score], given: Sequence[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Return folder and record of the searches that were asked for, and of those that scores name and that are there.

    Raises:
        InputError: a folder that was asked for holds none.
        IntegrityError: one of those was edited.
    """
    found = {}
    for folder in given:
        record = read_inspection(folder)
        found[record["duplicates_id"]] = folder, record
    for score in scores:
        if score.copies is None or score.copies[0] in found:
            continue
        try:
            record = read_inspection(score.copies[1])
        except (InputError, OSError):
            continue  # the score's caveats have said what it found
        if record["duplicates_id"] == score.copies[0]:
            found[score.copies[0]] = score.copies[1], record
    return list(found.values())


def copies_section(searches: Sequence[tuple[Path, dict[str, Any]]]) -> Html | None:
    """Write the section; None without a search. Raises InputError for a record of another form."""
    if not searches:
        return None
    text = (
        "Every image was compared with every other one, at a reduced size. Near are images within the tolerance; close "
        "are images much nearer to one training image than to the next ones, as one in a hundred real test images is. "
        "Real images stand beside as what is due without copying. Copies that were moved or changed are looked for "
        "by a network's features, where one was given."
    )
    parts = []
    for folder, record in searches:
        try:
            parts.append(_search(folder, record))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{folder / RECORD_NAME}: is no record of `caskit duplicates` ({error!r})") from error
    return tag("section", None, tag("h2", None, "Copies"), tag("p", None, text), parts)


def _search(folder: Path, record: Mapping[str, Any]) -> Html:
    described, method = record["set"], record["method"]
    generator = described["generator"]
    title = str(described["dataset"] or described["kind"])
    if generator is not None:
        title = f"{generator['family']}:{generator['preset']}"
    parts: list[Html | None] = [tag("h3", None, name_tag(title))]
    if not any(one["level"] == FAULT for one in record["findings"]):
        parts.append(tag("p", None, "No fault was found."))
    for one in record["findings"]:
        parts.append(tag("p", {"class": "warn" if one["level"] == FAULT else "soft"}, str(one["message"])))
    features = record.get("features")
    parts.append(tag("div", {"class": "scroll"}, _table(record)))
    if features is None:
        text = "Nobody looked for copies that were moved, turned or mirrored: no extractor was given."
        parts.append(tag("p", {"class": "soft"}, text))
    else:
        parts.append(tag("div", {"class": "scroll"}, _feature_table(features)))
    sizes = f"{method['side']:d} x {method['side']:d} pixels"
    parts.append(
        tag(
            "p",
            {"class": "soft"},
            f"{count(record['images']['num'])} images at {sizes}, tolerance {method['tolerance']:g} grey levels (root "
            f"mean square). duplicates_id {record['duplicates_id'][:16]}.",
        )
    )
    parts += [_pairs(folder, record, part, said) for part, said in _TITLES.items()]
    return join(parts)


def _table(record: Mapping[str, Any]) -> Html:
    within, train, test = (record[part] for part in ("within", "train", "test"))
    rows = [("to another image of the set", within, False)]
    if within.get("null") is not None:
        rows.append(("among real training images", within["null"], True))
    if train is not None:
        rows.append(("to a training image", train, False))
        if train["null"] is not None:
            rows.append(("real test images to a training image", train["null"], True))
    if test is not None:
        rows.append(("to a test image", test, False))
    columns = ["", "equal, %", "near, %", "close, %", "nearest, least", "1 %", "median"]
    head = [tag("th", {"class": "number" if name else None}, name) for name in columns]
    body = []
    for title, block, null in rows:
        cells = [_share(block.get(name)) for name in _COUNTS]
        cells += [
            tag("td", {"class": "number"}, f"{float(block['distance'][name]):.1f}") for name in ("min", "q01", "median")
        ]
        body.append(tag("tr", {"class": "real" if null else None}, tag("td", None, title), cells))
    return tag("table", None, tag("thead", None, tag("tr", None, head)), tag("tbody", None, body))


def _feature_table(features: Mapping[str, Any]) -> Html:
    train, test = features["train"], features["test"]
    rows = [
        ("to a training image", train, False),
        ("real test images to a training image", train["null"], True),
        ("to a test image", test, False),
        ("real training images to a test image", test["null"], True),
    ]
    title = f"by features of {shorten(str(features['title']))}"
    head = [
        tag("th", {"class": "number" if place else None}, name)
        for place, name in enumerate((title, "close, %", "nearest, least", "1 %", "median"))
    ]
    body = []
    for name, block, null in rows:
        cells = [
            tag("td", {"class": "number"}, f"{float(block['distance'][one]):.3f}") for one in ("min", "q01", "median")
        ]
        body.append(
            tag("tr", {"class": "real" if null else None}, tag("td", None, name), _share(block["close"]), cells)
        )
    return tag("table", None, tag("thead", None, tag("tr", None, head)), tag("tbody", None, body))


def _share(share: Mapping[str, Any] | None) -> Html:
    if share is None:
        return tag("td", {"class": "number"}, "")
    note = tag("small", None, f"{count(share['count'])} of {count(share['num'])}")
    return tag("td", {"class": "number"}, percent(share["share"]), note)


def _pairs(folder: Path, record: Mapping[str, Any], part: str, said: str) -> Html | None:
    data = read_sheet(folder, record, part)
    if data is None:
        return None
    block, by_pixels = block_of(record, part), not part.startswith("features")
    if not block["pairs"]:
        return None
    distances = ", ".join(f"{float(pair['distance']):.{1 if by_pixels else 3}f}" for pair in block["pairs"])
    keys = "; ".join(shorten(f"{pair['key']} {pair['other']}", 200) for pair in block["pairs"])
    image = {
        "src": "data:image/png;base64," + base64.b64encode(data).decode("ascii"),
        "class": "pixels" if int(record["method"]["side"]) <= _PIXELATED else None,
        "alt": f"{said}, {len(block['pairs'])} pairs",
        "title": keys,
    }
    caption = f"{said}. Distances{' in grey levels' if by_pixels else ''}: {distances}."
    return tag("figure", {"class": "pairs"}, tag("img", image), tag("figcaption", None, caption))
