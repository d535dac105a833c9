"""Fidelity metrics beside CAS: folders of `caskit metrics` as columns of the runs whose replicas they measured."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caskit.evaluate.compare.runs import Run
from caskit.evaluate.fidelity.record import METRICS_NAME, read_metrics
from caskit.manifests.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One folder of `caskit metrics`.

    Attributes:
        folder: of metrics.json.
        record: what it holds, checked.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Its metrics.json."""
        return self.folder / METRICS_NAME

    @property
    def root(self) -> str:
        """The content_root of the set that was measured."""
        return str(self.record["replica"]["content_root"])

    @property
    def values(self) -> dict[str, float]:
        """Values by whole name."""
        return {entry["name"]: float(entry["value"]) for entry in self.record["metrics"]}

    @property
    def marks(self) -> dict[str, tuple[str, ...]]:
        """Marks by whole name, of those that have any."""
        return {entry["name"]: tuple(map(str, entry["marks"])) for entry in self.record["metrics"] if entry["marks"]}


def read_measured(folders: Sequence[Path]) -> list[Measured]:
    """Read folders of `caskit metrics`.

    Raises:
        InputError: a folder holds none, or two values of one name are of different real sets.
        IntegrityError: metrics were edited.
    """
    found = [Measured(folder=folder, record=read_metrics(folder)) for folder in folders]
    references: dict[str, tuple[str, Path]] = {}
    for one in found:
        reference = one.record["reference"]["content_root"]
        for name in one.values:
            known, where = references.setdefault(name, (reference, one.path))
            if known != reference:
                raise InputError(
                    f"{one.path}: {name} is beside real content {reference[:16]}, that of {where} beside {known[:16]}"
                )
    return found


def with_fidelity(runs: Sequence[Run], folders: Sequence[Path]) -> list[Run]:
    """Return runs with the metrics of the sets that their classifiers were trained on.

    Args:
        runs: of generators.
        folders: that `caskit metrics` wrote, each for the runs with its replica's content_root.

    Raises:
        InputError: a folder is of no run's replica, a run would get two values of one name, or two values of one name
            are of different real sets.
        IntegrityError: metrics were edited.
    """
    found = list(runs)
    for one in read_measured(folders):
        places = [place for place, run in enumerate(found) if run.train == one.root]
        if not places:
            raise InputError(f"{one.path}: measures content {one.root[:16]}, which none of the runs was trained on")
        for place in places:
            found[place] = _with(found[place], one)
    return found


def _with(run: Run, measured: Measured) -> Run:
    twice = [name for name in measured.values if name in run.entry.metrics]
    if twice:
        raise InputError(
            f"{measured.path}: {run.entry.name} has a value of {twice[0]} already; name one folder of them"
        )
    entry = dataclasses.replace(
        run.entry,
        metrics={**run.entry.metrics, **measured.values},
        marks={**run.entry.marks, **measured.marks},
    )
    return dataclasses.replace(run, entry=entry)
