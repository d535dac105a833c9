"""What the images of each class were taken for, counted from predictions.parquet."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from caskit.evaluate.predict import PREDICTIONS_NAME, read_predictions
from caskit.evaluate.report.record import Score, real_folder
from caskit.evaluate.report.text import Html, count, join, name_tag, percent, tag
from caskit.manifests.errors import InputError

MAX_MATRIX = 20  # classes; a larger matrix is no longer read, its largest entries are listed
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


def read_confusions(directory: Path, num_classes: int) -> Confusions | None:
    """Count the confusions of a score folder's predictions; None if they are not there.

    Raises:
        InputError: labels are outside the class list.
        IntegrityError: the file is not one of predictions.
    """
    path = directory / PREDICTIONS_NAME
    if not path.is_file():
        return None
    table = read_predictions(path)
    labels, predicted = table.column("label").to_numpy(), first_labels(table, path)
    for name, values in (("label", labels), ("top5_ids", predicted)):
        if len(values) and not (values.min() >= 0 and values.max() < num_classes):
            raise InputError(f"{path}: {name} holds values outside the {num_classes} classes")
    return Confusions.from_labels(labels, predicted, num_classes)


def first_labels(table: pa.Table, path: Path) -> np.ndarray:
    """Return the label ranked first, [N] int64."""
    lists = table.column("top5_ids").combine_chunks()
    if not all(lists.value_lengths().to_pylist()):
        raise InputError(f"{path}: top5_ids holds an empty list")
    first: np.ndarray = lists.values.to_numpy()[lists.offsets.to_numpy()[:-1]]
    return first


def real_confusions(score: Score) -> Confusions | None:
    """Count the confusions of the baseline, if the very folder that the score was compared with is still there."""
    directory = real_folder(score)
    try:
        return None if directory is None else read_confusions(directory, len(score.names))
    except (InputError, OSError):
        return None  # the page shows one matrix and says that Real's is not at hand


def taken_for(score: Score, confusions: Confusions | None) -> dict[int, Html]:
    """Say what each label's images were taken for most, `shirt (31 %), coat (9 %)`; nothing without predictions."""
    if confusions is None:
        return {}
    said = {}
    for label, found in confusions.pairs.items():
        wrong = [(p, n / confusions.totals[label]) for p, n in found if p != label][:_NUM_TAKEN]
        parts = [
            join(", " if place else None, name_tag(score.names[p], 40), f" ({percent(share, 1)}\N{NO-BREAK SPACE}%)")
            for place, (p, share) in enumerate(wrong)
        ]
        said[label] = join(parts)
    return said


def confusion_section(score: Score, confusions: Confusions | None, real: Confusions | None) -> Html:
    """Draw the confusion matrix beside Real's, or for many classes list the most frequent confusions."""
    heading = tag("h3", None, "Confusions")
    if confusions is None:
        text = f"The score folder {score.directory.name} holds no {PREDICTIONS_NAME}, so confusions are not shown."
        return join(heading, tag("p", {"class": "warn"}, text))
    missing = score.real is not None and real is None
    note = tag("p", {"class": "soft"}, "The folder of the Real score is not at hand, so its confusions are not shown.")
    draw = _matrices if len(score.names) <= MAX_MATRIX else _pairs
    return join(heading, draw(score, confusions, real), note if missing else None)


def _matrices(score: Score, confusions: Confusions, real: Confusions | None) -> Html:
    tables = [_matrix(score.names, confusions, "This score", "matrix")]
    if real is not None:
        tables.append(_matrix(score.names, real, "Real, same recipe", "matrix of-real"))
    caption = "Rows are true classes, columns predicted ones, by label; numbers are per cent of the row, 0 left out."
    return tag("figure", None, tag("div", {"class": "matrices"}, tables), tag("figcaption", None, caption))


def _matrix(names: Sequence[str], confusions: Confusions, title: str, kind: str) -> Html:
    columns = [tag("th", {"title": name}, str(label)) for label, name in enumerate(names)]
    rows = []
    for label, name in enumerate(names):
        cells = [_cell(confusions.share(label, predicted)) for predicted in range(len(names))]
        rows.append(
            tag(
                "tr",
                None,
                tag("th", {"class": "row"}, None if name == str(label) else f"{label} ", name_tag(name)),
                cells,
            )
        )
    return tag(
        "table",
        {"class": kind},
        tag("caption", None, title),
        tag("thead", None, tag("tr", None, tag("th", {"class": "row"}, ""), columns)),
        tag("tbody", None, rows),
    )


def _cell(share: float) -> Html:
    shown = f"{100 * share:.0f}"
    fill = tag("i", {"style": f"opacity:{0.7 * share:.3f}"}) if share > 0 else None
    return tag("td", None, fill, shown if shown != "0" else None)


def _pairs(score: Score, confusions: Confusions, real: Confusions | None) -> Html:
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
            tag("td", None, name_tag(score.names[label])),
            tag("td", None, name_tag(score.names[predicted])),
            tag("td", {"class": "number"}, f"{count(number)} of {count(confusions.totals[label])}"),
            tag("td", {"class": "number"}, percent(share, 1)),
            tag("td", {"class": "number"}, percent(real.share(label, predicted), 1)) if real is not None else None,
        )
        for share, label, predicted, number in wrong[:_NUM_PAIRS]
    ]
    table = tag("table", None, tag("thead", None, tag("tr", None, head)), tag("tbody", None, rows))
    text = f"The {min(_NUM_PAIRS, len(wrong))} most frequent confusions, as a share of the true class' images."
    return join(tag("p", {"class": "soft"}, text), tag("div", {"class": "scroll"}, table))
