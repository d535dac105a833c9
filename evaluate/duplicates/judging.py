"""What a score takes from a search for copies: whether images of its test set were trained on, and other faults."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caskit.evaluate.duplicates.folder import RECORD_NAME, faults, read_inspection
from caskit.manifests.errors import InputError
from caskit.train.provenance import parts_of


def read_judgement(folder: Path, trained: Mapping[str, Any], test_id: str) -> dict[str, Any]:
    """Return the block `duplicates` of score.json (docs/scores.md).

    Args:
        folder: of `caskit duplicates`.
        trained: what the classifier was trained on, as its run describes it.
        test_id: replica_id of the test set.

    Raises:
        InputError: the record is of other sets, or nobody looked for test images in it.
        IntegrityError: it was edited.
    """
    record, path = read_inspection(folder), folder / RECORD_NAME
    try:
        looked_at, test, train = record["set"]["replica_id"], record["real_test"], record["train"]
        if looked_at not in [part["replica_id"] for part in parts_of(dict(trained))]:
            raise InputError(f"{path}: is of replica_id {looked_at}, which the classifier was not trained on")
        if test is None:
            raise InputError(f"{path}: nobody looked for test images in it; run caskit duplicates with --real-test")
        if test["replica_id"] != test_id:
            raise InputError(f"{path}: looked for images of test set {test['replica_id']}, the score's is {test_id}")
        features, leaked = record.get("features"), int(record["test"]["leaked"]["test_images"])
        if features is not None and features["test"]["copied"]:
            leaked = max(leaked, int(features["test"]["leaked"]["test_images"]))
        by_features = ["features"] if features is not None and features["train"]["memorised"] else []
        return {
            "duplicates_id": record["duplicates_id"],
            "images": int(record["images"]["num"]),
            "leaked": leaked,
            "memorised": None if train is None else [*train["memorised"], *by_features],
            "faults": faults(record),
            "location": str(folder.resolve()),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no record of `caskit duplicates` ({error!r})") from error


def judgement_caveats(judgement: Mapping[str, Any] | None) -> list[str]:
    """Return what the search found fault with, as caveats of the score."""
    if judgement is None:
        return []
    return [
        f"The search for copies among {judgement['images']:,} images says: {fault}" for fault in judgement["faults"]
    ]
