"""What the images of each class were taken for, counted from predictions.parquet."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from caskit.evaluate.report.record import ClassScore, Score
from caskit.evaluate.report.text import Html, count, join, name_tag, percent, shorten, tag
from caskit.manifests.errors import InputError

MAX_MATRIX = 20  # classes; a larger matrix is no longer read, its largest entries are listed
MAX_PREDICTIONS = 50_000_000
_NUM_PAIRS = 20
_NUM_TAKEN = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusions:
    """Counts of (label, top-1 prediction) pairs that occur, per label from the most frequent."""

    pairs: Mapping[int, Sequence[tuple[int, int]]]  # label -> [(predicted, count), ...]
    totals: Mapping[int, int]

    @classmethod
    def from_labels(cls, labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> "Confusions":
        """Count pairs of labels [N] and top-1 predictions [N], both int64 in 0..num_classes-1."""
        codes, counts = np.unique(labels.astype(np.int64) * num_classes + predicted, return_counts=True)
        pairs: dict[int, list[tuple[int, int]]] = {}
        for code, number in zip(codes.tolist(), counts.tolist(), strict=True):
            label, prediction = divmod(code, num_classes)
            pairs.setdefault(label, []).append((prediction, number))
        ordered = {label: sorted(found, key=lambda p: (-p[1], p[0])) for label, found in pairs.items()}
        return cls(pairs=ordered, totals={label: sum(n for _, n in found) for label, found in pairs.items()})

    def share(self, label: int, predicted: int) -> float:
        """Return which fraction of a class' images was given a label."""
        return dict(self.pairs.get(label, ())).get(predicted, 0) / self.totals[label] if label in self.totals else 0.0


def read_confusions(path: Path, num_classes: int) -> Confusions | None:
    """Count the confusions of a predictions.parquet; None if the file is not there.

    Raises:
        InputError: the file cannot be read, or holds labels outside the class list.
    """
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_PREDICTIONS:
                raise InputError(f"{path}: {file.metadata.num_rows} rows, at most {MAX_PREDICTIONS} are read")
            table = file.read(columns=["label", "top5_ids"])
        labels = table.column("label").to_numpy()
        top = np.fromiter((ids[0] for ids in table.column("top5_ids").to_pylist()), np.int64, count=table.num_rows)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not readable as predictions ({error})") from error
    for name, values in (("label", labels), ("top5_ids", top)):
        if len(values) and not (values.min() >= 0 and values.max() < num_classes):
            raise InputError(f"{path}: {name} holds values outside the {num_classes} classes")
    return Confusions.from_labels(labels, top, num_classes)


def taken_for(score: Score, confusions: Confusions | None) -> dict[int, str]:
    """Say per label what its images were taken for most often, `shirt 31.2 %, coat 9 %`; empty without predictions."""
    if confusions is None:
        return {}
    names = _names(score)
    said = {}
    for label, found in confusions.pairs.items():
        wrong = [(p, n) for p, n in found if p != label][:_NUM_TAKEN]
        said[label] = ", ".join(
            f"{names[p]} {percent(n / confusions.totals[label], 1)}\N{NO-BREAK SPACE}%" for p, n in wrong
        )
    return said


def confusion_section(score: Score, confusions: Confusions | None, real: Confusions | None) -> Html:
    """Draw the confusion matrix beside Real's, or for many classes list the most frequent confusions."""
    heading = tag("h3", None, "Confusions")
    if confusions is None:
        text = f"The score folder {score.directory.name} holds no predictions.parquet, so confusions are not shown."
        return join(heading, tag("p", {"class": "warn"}, text))
    if len(score.classes) <= MAX_MATRIX:
        return join(heading, _matrices(score, confusions, real))
    return join(heading, _pairs(score, confusions, real))


def _names(score: Score) -> dict[int, str]:
    return {one.label: shorten(one.name or one.id, 40) for one in score.classes}


def _matrices(score: Score, confusions: Confusions, real: Confusions | None) -> Html:
    ordered = sorted(score.classes, key=lambda one: one.label)
    tables = [_matrix(ordered, confusions, "This score", "matrix")]
    if real is not None:
        tables.append(_matrix(ordered, real, "Real, same recipe", "matrix of-real"))
    caption = "Rows are true classes, columns predicted ones, by label; numbers are per cent of the row, 0 left out."
    return tag("figure", None, tag("div", {"class": "matrices"}, tables), tag("figcaption", None, caption))


def _matrix(ordered: Sequence[ClassScore], confusions: Confusions, title: str, kind: str) -> Html:
    head = [tag("th", {"class": "row"}, ""), *(tag("th", {"title": one.name}, str(one.label)) for one in ordered)]
    rows = []
    for one in ordered:
        cells = [_cell(confusions.share(one.label, other.label)) for other in ordered]
        rows.append(tag("tr", None, tag("th", {"class": "row"}, f"{one.label} ", name_tag(one.name or one.id)), cells))
    return tag(
        "table",
        {"class": kind},
        tag("caption", None, title),
        tag("thead", None, tag("tr", None, head)),
        tag("tbody", None, rows),
    )


def _cell(share: float) -> Html:
    shown = f"{100 * share:.0f}"
    fill = tag("i", {"style": f"opacity:{0.8 * share:.3f}"}) if share > 0 else None
    return tag("td", None, fill, shown if shown != "0" else None)


def _pairs(score: Score, confusions: Confusions, real: Confusions | None) -> Html:
    names = _names(score)
    wrong = [
        (number / confusions.totals[label], label, predicted, number)
        for label, found in confusions.pairs.items()
        for predicted, number in found
        if predicted != label
    ]
    wrong.sort(key=lambda one: (-one[0], one[1], one[2]))
    columns = ["class", "taken for", "images", "share, %", *(["Real, %"] if real is not None else [])]
    left = {"class", "taken for"}
    head = [tag("th", {"class": None if c in left else "number"}, c) for c in columns]
    rows = [
        tag(
            "tr",
            None,
            tag("td", None, name_tag(names[label])),
            tag("td", None, name_tag(names[predicted])),
            tag("td", {"class": "number"}, f"{count(number)} of {count(confusions.totals[label])}"),
            tag("td", {"class": "number"}, percent(share, 1)),
            tag("td", {"class": "number"}, percent(real.share(label, predicted), 1)) if real is not None else None,
        )
        for share, label, predicted, number in wrong[:_NUM_PAIRS]
    ]
    table = tag("table", None, tag("thead", None, tag("tr", None, head)), tag("tbody", None, rows))
    text = f"The {min(_NUM_PAIRS, len(wrong))} most frequent confusions, as a share of the true class' images."
    return join(tag("p", {"class": "soft"}, text), tag("div", {"class": "scroll"}, table))
