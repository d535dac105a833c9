"""Whether images of the test set are among those trained on: looked for once more, and as a search for copies says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caskit.evaluate.check.findings import Report
from caskit.evaluate.check.sources import find_real
from caskit.evaluate.duplicates.judging import read_judgement
from caskit.evaluate.overlap import find_overlap, open_real_train
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet

_WITH_REAL = ("in_real_train", "leaked", "pairs")  # what depends on the real training set


def check_overlap(
    report: Report,
    record: Mapping[str, Any],
    trained: Sequence[FrozenSet] | None,
    test: FrozenSet | None,
    *,
    near: Path,
    where: Path,
) -> None:
    """Compare the block `overlap` of a score with the sets, where both are at hand.

    Args:
        report: takes what was found.
        record: of the score.
        trained: the sets that the classifier was trained on; None if one of them is not at hand.
        test: the test set, or None.
        near: where the Real row may be, if not where the score says.
        where: the score's file.
    """
    stored = record.get("overlap")
    if stored is None:
        report.missing(where, "nobody looked for images of the test set among those trained on when it was scored")
        return
    if trained is None or test is None:
        report.missing(where, "overlap: the sets are not at hand, nobody looked for test images among those trained on")
        return
    real_train = None
    if stored["in_real_train"] is not None and record["real"] is not None:
        found = find_real(Report(), record["real"], near)  # what is wrong with it is noted where its numbers are
        real_train = None if found is None else open_real_train(found[0])
    due = find_overlap(trained, test, real_train=real_train)
    if stored["in_real_train"] is not None and real_train is None:
        report.missing(where, "overlap: which of the images the real training set explains, it is not at hand")
        due = {name: value for name, value in due.items() if name not in _WITH_REAL}
    report.compare(where, {"overlap": due}, record, "the sets")


def check_judgement(report: Report, record: Mapping[str, Any], *, where: Path) -> None:
    """Compare what a score took from a search for copies with the record of that search, where it is at hand."""
    stored = record.get("duplicates")
    if stored is None:
        return
    folder = Path(str(stored.get("location")))
    if not folder.is_dir():
        report.missing(where, f"the search for copies {str(stored.get('duplicates_id'))[:16]} is not at {folder}")
        return
    try:
        due = read_judgement(folder, record["classifier"]["train"], record["test"]["replica_id"])
    except InputError as error:
        report.differs(where, str(error))
        return
    report.compare(where, {"duplicates": due}, record, "the search for copies")
