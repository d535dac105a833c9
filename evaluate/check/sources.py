"""The folders that a score names, looked up: the sets with their ids, the classifier, the Real row."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from caskit.evaluate.check.findings import Report
from caskit.evaluate.score import read_score
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.sets import SetReference
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.mixture import Mixture
from caskit.shards.verify import VerifyProgress, verify
from caskit.train.provenance import describe_set, describe_training_set
from caskit.train.training import MODEL_NAME, read_run

RECEIPT = "receipt"  # a level: what was checked in full before and has not changed since is taken as checked
_NOT_COMPARED = ("location",)


class Sources:
    """Finds what scores name, each set checked once.

    Args:
        places: where sets are by replica_id, before what the scores say.
        level: how sets are checked: receipt, or one of verify's.
        progress: called while a set is checked.
    """

    def __init__(
        self,
        places: Mapping[str, str] | None = None,
        *,
        level: str = RECEIPT,
        progress: Callable[[VerifyProgress], None] = lambda _: None,
    ) -> None:
        self._places, self._level, self._progress = dict(places or {}), level, progress
        self._found: dict[tuple[str, str], FrozenSet | Exception] = {}

    def find_sets(self, report: Report, role: str, described: Mapping[str, Any]) -> list[FrozenSet] | None:
        """Do the same with a set or with every part of a mixture; None unless all of them are at hand."""
        if "parts" in described:
            return self._find_parts(report, role, described)
        found = self.find_set(report, role, described)
        return None if found is None else [found]

    def find_set(self, report: Report, role: str, described: Mapping[str, Any]) -> FrozenSet | None:
        """Open the set that a record describes, checked, and compare the description with it; None if it is not it."""
        replica_id = str(described.get("replica_id"))
        location = self._places.get(replica_id, described.get("location"))
        if not isinstance(location, str) or not Path(location).exists():
            report.missing(f"{role} set {replica_id[:16]}", f"is not at {location}; name its folder with --set")
            return None
        found = self._open(location, replica_id)
        if isinstance(found, Exception):
            report.differs(f"{role} set", str(found))
            return None
        select = _select(described)
        try:
            part = found.selected(select)
        except InputError as error:
            report.differs(f"{role} set {location}", f"select is {select!r}: {error}")
            return None
        stored = {name: value for name, value in described.items() if name not in _NOT_COMPARED}
        report.compare(f"{role} set {location}", describe_set(part), stored, "the set")
        return part

    def _find_parts(self, report: Report, role: str, described: Mapping[str, Any]) -> list[FrozenSet] | None:
        """Compare a mixture with its sets, and what it says of itself with what it says of them."""
        parts, locations = described["parts"], described.get("location")
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            report.differs(f"{role} set", "parts of a mixture must be a list of sets")
            return None
        places = locations if isinstance(locations, list) and len(locations) == len(parts) else [None] * len(parts)
        found = [
            self.find_set(report, role, {**part, "location": place}) for part, place in zip(parts, places, strict=True)
        ]
        there = [part for part in found if part is not None]
        if len(there) < len(found):
            return None
        try:
            mixed = describe_training_set(Mixture(there))
        except InputError as error:
            report.differs(f"{role} set", str(error))
            return None
        stored = {name: value for name, value in described.items() if name not in _NOT_COMPARED}
        report.compare(f"{role} set", mixed, stored, "the sets")
        return there

    def _open(self, location: str, replica_id: str) -> FrozenSet | Exception:
        if (location, replica_id) not in self._found:
            try:
                reference = SetReference(location=location, prefix=replica_id)
                if self._level != RECEIPT:
                    verify(reference, self._level, progress=self._progress)
                self._found[location, replica_id] = open_set(reference, progress=self._progress)
            except (InputError, OSError) as error:
                self._found[location, replica_id] = error
        return self._found[location, replica_id]


def _select(described: Mapping[str, Any]) -> str:
    """Return which samples of a set an expression takes; `all` for one of another form, which then differs."""
    try:
        return str(described["expression"]["sources"][0]["select"])
    except (KeyError, IndexError, TypeError):
        return "all"


def check_classifier(report: Report, classifier: Mapping[str, Any]) -> dict[str, Any] | None:
    """Compare what a score says about its classifier with the classifier's folder; return run.json if it is there."""
    folder = Path(str(classifier.get("location")))
    if not folder.is_dir():
        report.missing(folder, f"classifier {str(classifier.get('classifier_id'))[:16]} is not there")
        return None
    try:
        run = read_run(folder)
        with open(folder / MODEL_NAME, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (InputError, OSError) as error:
        report.differs(folder, str(error))
        return None
    if digest != run["model_sha256"]:
        report.differs(folder / MODEL_NAME, "its sha256 is not that of run.json: other weights")
    train = classifier.get("train")
    said = {
        **classifier,
        "train": {k: v for k, v in train.items() if k != "location"} if isinstance(train, dict) else 0,
    }
    due = {name: run[name] for name in ("classifier_id", "recipe_id", "seed")}
    report.compare(folder, {**due, "recipe": run["recipe"]["name"], "train": run["data"]}, said, "run.json")
    return run


def find_real(report: Report, real: Mapping[str, Any], near: Path) -> tuple[dict[str, Any], Path] | None:
    """Return the record and folder of the Real row that a score names, where it is at hand and is the same one."""
    candidates = [Path(str(real.get("location"))), near]
    for folder in candidates:
        if not folder.is_dir():
            continue
        try:
            record = read_score(folder)
        except IntegrityError as error:
            report.differs(folder, str(error))
            return None
        except InputError:
            continue
        if record["score_id"] == real.get("score_id"):
            return {**record, "location": str(folder)}, folder
        report.differs(folder, f"is score {record['score_id'][:16]}, the Real row is {str(real.get('score_id'))[:16]}")
        return None
    report.missing(candidates[0], "the Real row's folder is not there, its numbers are taken as recorded")
    return None
