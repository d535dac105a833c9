"""Test images that were taken for another class: the first few of the most frequent confusions, with what they show."""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caskit.evaluate.predict import PREDICTIONS_NAME, read_predictions
from caskit.evaluate.report.confusion import Confusions, first_labels
from caskit.evaluate.report.gallery import Shelf, Strip
from caskit.evaluate.report.record import Score
from caskit.evaluate.report.text import Html, count, join, name_tag, percent, plural, tag

NUM_PAIRS = 6
NUM_IMAGES = 10


def frequent_mistakes(confusions: Confusions, num: int = NUM_PAIRS) -> list[tuple[int, int, int]]:
    """Return (label, predicted, images) of the confusions that the largest share of a class has."""
    wrong = [
        (number / confusions.totals[label], label, predicted, number)
        for label, found in confusions.pairs.items()
        for predicted, number in found
        if predicted != label
    ]
    wrong.sort(key=lambda one: (-one[0], one[1], one[2]))
    return [(label, predicted, number) for _, label, predicted, number in wrong[:num]]


def mistake_section(score: Score, confusions: Confusions | None, shelf: Shelf) -> Html | None:
    """Show the first images by key of each frequent confusion; None without predictions, test set or mistakes."""
    pairs = [] if confusions is None else frequent_mistakes(confusions)
    if confusions is None or not pairs:
        return None
    keys = _keys(score.directory, pairs)
    found = shelf.images(score.test, keys)
    if isinstance(found, str):
        return None  # the gallery says why the test set's images are not shown
    blocks = []
    for (label, predicted, number), strip in zip(pairs, found, strict=True):
        share = percent(number / confusions.totals[label], 1)
        head = tag(
            "div",
            {"class": "class-head"},
            tag("b", None, name_tag(score.names[label], 30), " taken for ", name_tag(score.names[predicted], 30)),
            tag("span", None, f"{count(number)} of {count(confusions.totals[label])}, {share} %"),
        )
        blocks.append(tag("div", {"class": "class-block"}, head, _image(strip)))
    images = plural(NUM_IMAGES, "image")
    note = f"The first {images} by key of the {plural(len(pairs), 'most frequent confusion')}: nothing was picked."
    return join(
        tag("h3", None, "Mistakes"), tag("p", {"class": "soft"}, note), tag("div", {"class": "gallery"}, blocks)
    )


def _keys(directory: Path, pairs: Sequence[tuple[int, int, int]]) -> list[list[str]]:
    path = directory / PREDICTIONS_NAME
    table = read_predictions(path)
    labels, predicted = table.column("label").to_numpy(), first_labels(table, path)
    keys = table.column("key")
    chosen = []
    for label, wrong, _ in pairs:
        rows = np.flatnonzero((labels == label) & (predicted == wrong))
        chosen.append(sorted(str(keys[int(row)].as_py()) for row in rows)[:NUM_IMAGES])
    return chosen


def _image(strip: Strip) -> Html:
    source = "data:image/png;base64," + base64.b64encode(strip.png).decode("ascii")
    return tag(
        "div",
        {"class": "mistakes"},
        tag(
            "img",
            {
                "src": source,
                "class": "pixels" if strip.pixelated else None,
                "alt": f"{len(strip.keys)} test images",
                "title": " ".join(strip.keys),
                "style": f"max-width:{10 * len(strip.keys)}%",
            },
        ),
    )
