"""Score folders as rows of a comparison: a name, the measures, and which test images each got right."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caskit.evaluate.cas import CAS_NAME
from caskit.evaluate.compare.correlation import Entry
from caskit.evaluate.predict import PREDICTIONS_NAME
from caskit.evaluate.rows import MEASURES, Hits, Scored, read_hits
from caskit.evaluate.score import LEAKED, SCORE_NAME, read_score
from caskit.manifests.errors import InputError
from caskit.shards.untrusted import read_record

GAN_TEST = "gan_test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One generator's scores.

    Attributes:
        entry: its row.
        folder: of the score, or of `caskit cas`.
        recipe_id: of its classifiers.
        test: content_root of the test images.
        train: content_root of the set they were trained on; empty for a mixture.
        seeds: of the trainings.
        hits: which test images they got right; None without predictions.
    """

    entry: Entry
    folder: Path
    recipe_id: str
    test: str
    seeds: tuple[int, ...]
    hits: Hits | None
    train: str = ""


def read_run_of(folder: Path, *, name: str | None = None) -> Run:
    """Read a score folder, or the largest set of a folder of `caskit cas`.

    Raises:
        InputError: it is neither, or no CAS.
        IntegrityError: score or predictions were changed.
    """
    fidelity = None
    if (folder / SCORE_NAME).exists():
        folders = [folder]
    elif (folder / CAS_NAME).exists():
        folders, fidelity = _cas_folders(folder)
    else:
        raise InputError(f"{folder}: holds neither {SCORE_NAME} nor {CAS_NAME}")
    records = [read_score(one) for one in folders]
    for record, one in zip(records, folders, strict=True):
        if record["metric"] in ("real", "GAN-test", LEAKED):
            raise InputError(f"{one}: is a {record['metric']} score, generators are compared by CAS")
    try:
        return _run(folder, folders, records, fidelity, name)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: its scores are not of our form ({error!r})") from error


def _cas_folders(folder: Path) -> tuple[list[Path], float | None]:
    """Return the score folders of the largest set, and the mean label fidelity where it was measured."""
    path = folder / CAS_NAME
    try:
        record = read_record(path, what="a record of `caskit cas`")
        rows = {str(row["name"]): row for row in record["rows"]}
        of_sets = [row for row in record["rows"] if row["metric"] not in ("real", "GAN-test")]
        row = rows[record["row"]] if "row" in record else of_sets[-1]
        found = [folder / str(score["location"]) for score in row["scores"]]
        fidelity = float(rows["gan-test"]["top1"]["mean"]) if "gan-test" in rows else None
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path}: is no record of `caskit cas` ({error!r})") from error
    for inside in found:
        if not inside.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path}: location {inside} leaves the folder")
    return found, fidelity


def _run(
    folder: Path, folders: Sequence[Path], records: Sequence[dict[str, Any]], fidelity: float | None, name: str | None
) -> Run:
    first = records[0]
    metrics: dict[str, float | None] = {}
    for measure in MEASURES:
        values = [one[measure]["value"] if isinstance(one[measure], dict) else one[measure] for one in records]
        metrics[measure] = None if None in values else float(np.mean(values))
    metrics[GAN_TEST] = None if fidelity is None else 100 * fidelity
    train = first["classifier"]["train"]
    generator = train["generator"]
    made_by = str(train["dataset"] or train["kind"])
    family = made_by if generator is None else f"{generator['family']}:{generator['preset']}"
    cas = 100 * float(np.mean([one["top1"]["value"] for one in records]))
    hits = None
    if all((one / PREDICTIONS_NAME).is_file() for one in folders):
        hits = read_hits(
            [
                Scored(seed=record["classifier"]["seed"], folder=one, record=record, num=0, real=None)
                for one, record in zip(folders, records, strict=True)
            ]
        )
    return Run(
        entry=Entry(name=name or str(folder), family=family, cas=cas, metrics=metrics),
        folder=folder,
        recipe_id=str(first["classifier"]["recipe_id"]),
        test=str(first["test"]["content_root"]),
        seeds=tuple(int(record["classifier"]["seed"]) for record in records),
        hits=hits,
        train=str(train["content_root"] or ""),
    )


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise InputError unless all runs have one recipe and one test set: else accuracies are no order of generators."""
    for run in runs[1:]:
        for what, ours, theirs in (
            ("recipe", runs[0].recipe_id, run.recipe_id),
            ("test set", runs[0].test, run.test),
        ):
            if ours != theirs:
                raise InputError(
                    f"{run.folder}: is of another {what} ({theirs[:16]}) than {runs[0].folder} ({ours[:16]})"
                )
