"""The Real row that a score stands beside: whether it may, and what the score says about it."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from caskit.evaluate.predict import PREDICTIONS_NAME, read_predictions
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet

_KEPT = ("score_id", "top1", "top5", "nll", "brier", "ece", "num_test", "location")
_KEPT_CLASSIFIER = ("classifier_id", "recipe", "recipe_id", "seed")


def check_baseline(record: dict[str, Any], run: dict[str, Any], data: FrozenSet, folder: Path) -> None:
    """Raise InputError unless a score record is the Real score of this classifier's recipe on this test set."""
    recipe_id, root = record["classifier"]["recipe_id"], data.replica.content_root
    if record["metric"] != "real":
        raise InputError(f"{folder}: is a {record['metric']} score, a baseline is one of real images on real images")
    if recipe_id != run["recipe_id"]:
        raise InputError(
            f"{folder}: baseline is of recipe {record['classifier']['recipe']} ({recipe_id}), the classifier of "
            f"{run['recipe']['name']} ({run['recipe_id']}); a gap needs one recipe"
        )
    if record["test"]["content_root"] != root:
        raise InputError(
            f"{folder}: baseline was tested on content_root {record['test']['content_root']}, this test set has {root}"
        )
    if record["class_list_sha256"] != data.classes.digest:
        raise InputError(f"{folder}: baseline has another class list than {data.store.location}")
    if record["top1"]["value"] == 0:
        raise InputError(f"{folder}: baseline has a top-1 of 0, no gap can be taken relative to it")


def baseline_predictions(folder: Path) -> pa.Table | None:
    """Read a Real row's predictions, whose digest `read_score` has checked; another lab may not hand them over."""
    path = folder / PREDICTIONS_NAME
    return read_predictions(path) if path.is_file() else None


def beside_real(numbers: dict[str, Any], real: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a score says about its baseline: its numbers, the gaps, and per_class with Real's columns.

    `gap_points` is Real minus this top-1 in percentage points, `gap_relative` the same as a fraction of Real's top-1.
    """
    if real is None:
        return {"real": None, "gap_points": None, "gap_relative": None}
    kept = {name: real[name] for name in _KEPT}
    classifier = {name: real["classifier"][name] for name in _KEPT_CLASSIFIER}
    gap = real["top1"]["value"] - numbers["top1"]["value"]
    rows = []
    for row, real_row in zip(numbers["per_class"], real["per_class"], strict=True):
        columns = {f"real_{name}": real_row[name] for name in ("top1", "low", "high")}
        difference = None if row["top1"] is None else row["top1"] - real_row["top1"]
        rows.append({**row, **columns, "difference": difference})
    return {
        "real": {**kept, **classifier, "train_replica_id": real["classifier"]["train"]["replica_id"]},
        "gap_points": 100 * gap,
        "gap_relative": gap / real["top1"]["value"],
        "per_class": rows,
    }
