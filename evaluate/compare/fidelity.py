"""Fidelity metrics beside CAS: folders of `caskit metrics` as columns of the runs whose replicas they measured."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from caskit.evaluate.compare.runs import Run
from caskit.evaluate.fidelity.record import METRICS_NAME, read_metrics
from caskit.manifests.errors import InputError


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
    references: dict[str, tuple[str, Path]] = {}
    for folder in folders:
        record = read_metrics(folder)
        path, root = folder / METRICS_NAME, record["replica"]["content_root"]
        places = [place for place, run in enumerate(found) if run.train == root]
        if not places:
            raise InputError(f"{path}: measures content {root[:16]}, which none of the runs was trained on")
        values = {entry["name"]: float(entry["value"]) for entry in record["metrics"]}
        reference = record["reference"]["content_root"]
        for name in values:
            known, where = references.setdefault(name, (reference, path))
            if known != reference:
                raise InputError(
                    f"{path}: {name} is beside real content {reference[:16]}, that of {where} beside {known[:16]}"
                )
        marks = {entry["name"]: tuple(map(str, entry["marks"])) for entry in record["metrics"] if entry["marks"]}
        for place in places:
            found[place] = _with(found[place], values, marks, path)
    return found


def _with(run: Run, values: dict[str, float], marks: dict[str, tuple[str, ...]], path: Path) -> Run:
    twice = [name for name in values if name in run.entry.metrics]
    if twice:
        raise InputError(f"{path}: {run.entry.name} has a value of {twice[0]} already; name one folder of them")
    entry = dataclasses.replace(run.entry, metrics={**run.entry.metrics, **values}, marks={**run.entry.marks, **marks})
    return dataclasses.replace(run, entry=entry)
