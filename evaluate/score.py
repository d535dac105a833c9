"""A score folder: what a classifier, trained on one set, makes of another, beside the Real score of the same recipe.

predictions.parquet   one row per test image
score.json            every number and every id; written last, so its existence means that the folder is whole

docs/scores.md describes both.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from caskit.evaluate.baseline import baseline_predictions, check_baseline
from caskit.evaluate.duplicates.judging import judgement_caveats, read_judgement
from caskit.evaluate.numbers import score_numbers
from caskit.evaluate.overlap import find_overlap, leaked_images, open_parts, open_real_train, overlap_caveats
from caskit.evaluate.predict import BATCH_SIZE, PREDICTIONS_NAME, predict
from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.plan import FORMAT_VERSION, differing_fields
from caskit.shards.dataset import FrozenSet
from caskit.shards.mixture import Mixture, TrainingSet
from caskit.shards.software import git_commit, versions
from caskit.shards.untrusted import read_record, sha256_plain
from caskit.train.engine import Progress
from caskit.train.folder import write_atomic
from caskit.train.provenance import describe_set, hardware, parts_of
from caskit.train.training import load_classifier, read_run

SCORE_NAME = "score.json"
LEAKED = "leaked"  # what would be a CAS or a NAS, were images of the test set not among those trained on
_NOT_IDENTITY = ("score_id", "versions", "git_commit", "hardware", "location")

# The paper's own caveats (Ravuri & Vinyals 2019), and ours about GAN-test and the intervals.
CAVEATS = {
    "CAS": (
        "A CAS near the Real score does not mean that the generator has learnt p(x|y): images that look wrong can "
        "still train a classifier.",
        "A generator that memorises its training set gets the Real score.",
    ),
    "real": (),
    "reconstructions": (
        "This is no CAS: the classifier was trained on reconstructions of real images, not on samples. It tells what "
        "the generator's autoencoder alone loses.",
    ),
    "NAS": (
        "This is the Naive Augmentation Score, not CAS: the classifier was trained on real images with synthetic ones "
        "beside them, and stands beside one that was trained on the real ones alone.",
    ),
    LEAKED: (),  # see `overlap.overlap_caveats`
    "GAN-test": (
        "This is GAN-test, not CAS: a classifier trained on real images tells how typical the synthetic ones look, and "
        "a generator without any diversity can score high.",
    ),
}
COMMON_CAVEATS = (
    "Top-k accuracy is no proper scoring rule; the negative log-likelihood and the Brier score are.",
    "The 95 % intervals (Wilson) cover the choice of test images only, not the seeds of generator and classifier.",
)


def metric_name(train_kind: str, test_kind: str, test_location: str, *, leaked: int = 0) -> str:
    """Name what is measured.

    Args:
        train_kind: of the set trained on.
        test_kind: of the test set.
        test_location: of the test set, for messages.
        leaked: test images that are among those trained on; one is enough to lose the name CAS.

    Raises:
        InputError: two sets that together are nothing that has a name.
    """
    if test_kind == "real":
        name = {"real": "real", "reconstruction": "reconstructions", "mixture": "NAS"}.get(train_kind, "CAS")
        return LEAKED if leaked and name in ("CAS", "NAS") else name
    if test_kind == "reconstruction":
        raise InputError(f"{test_location}: holds reconstructions; train on them and test on real images")
    if train_kind != "real":
        raise InputError(
            f"{test_location}: the test set is {test_kind} and the classifier was trained on a {train_kind} set; "
            "CAS needs real test images"
        )
    return "GAN-test"


def score(
    classifier_folder: Path,
    data: FrozenSet,
    *,
    out: Path,
    baseline: Path | None = None,
    trained: TrainingSet | None = None,
    duplicates: Path | None = None,
    device: torch.device,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Score a classifier on a test set; the same call returns at once when it was done before.

    Args:
        classifier_folder: from `train`.
        data: the open test set.
        out: the score folder.
        baseline: the score folder of the same recipe, trained on the real set.
        trained: what the classifier was trained on, whose images are compared with the test set's; None looks where the
            classifier says that it is.
        duplicates: folder of `caskit duplicates` about that set and the test set, whose faults become caveats; copies
            of test images that it found take the name CAS from the score as exact ones do.
        device: where to compute.
        batch_size: images per forward pass.
        progress: see `predict`.
        stop: see `predict`.

    Returns:
        The record of score.json.

    Raises:
        InputError: the inputs do not fit together, or `out` holds the score of others.
        NotFinished: `stop` said so.
    """
    run = read_run(classifier_folder)
    location = data.store.location
    metric_name(run["data"]["kind"], data.kind, location)  # what has no name dies before the work
    _check_test_set(run, data, classifier_folder)
    real = None
    if baseline is not None:
        real = {**read_score(baseline), "location": str(baseline.resolve())}
        check_baseline(real, run, data, baseline)
    inputs = {
        "classifier_id": run["classifier_id"],
        "test": data.replica.replica_id,
        "baseline": None if real is None else real["score_id"],
    }
    judgement = None
    if duplicates is not None:
        judgement = read_judgement(duplicates, run["data"], data.replica.replica_id)
        inputs["duplicates"] = judgement["duplicates_id"]
    finished = _finished(out, inputs)
    if finished is not None:
        return finished
    classifier = load_classifier(classifier_folder, device=device)
    predictions = predict(classifier, data, batch_size=batch_size, progress=progress, stop=stop)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / PREDICTIONS_NAME, lambda path: pq.write_table(predictions, path))
    overlap = _overlap(run, trained, data, real, stop)
    leaked = leaked_images(overlap, judgement)
    metric = metric_name(run["data"]["kind"], data.kind, location, leaked=leaked)
    record = {
        "format_version": FORMAT_VERSION,
        "metric": metric,
        **score_numbers(
            predictions,
            data.classes,
            real=real,
            real_predictions=None if baseline is None else baseline_predictions(baseline),
        ),
        "inputs": inputs,
        "classifier": {
            "classifier_id": run["classifier_id"],
            "recipe": run["recipe"]["name"],
            "recipe_id": run["recipe_id"],
            "seed": run["seed"],
            "train": {**run["data"], "location": run["data_location"]},
            "location": str(classifier_folder.resolve()),
        },
        "test": {**describe_set(data), "location": str(Path(location).resolve())},
        "overlap": overlap,
        "duplicates": judgement,
        "class_list_sha256": data.classes.digest,
        "predictions_sha256": sha256_plain(out / PREDICTIONS_NAME),
        "caveats": [
            *CAVEATS[metric],
            *overlap_caveats(overlap, metric),
            *judgement_caveats(judgement),
            *_rejection_caveats(run, describe_set(data)),
            *_imported_caveats(*(part["kind"] for part in parts_of(run["data"])), data.kind),
            *COMMON_CAVEATS,
        ],
        "versions": versions(),
        "git_commit": git_commit(),
        "hardware": hardware(device),
    }
    record["score_id"] = score_id(record)
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    write_atomic(out / SCORE_NAME, lambda path: _write_bytes(path, text.encode()))
    return record


def _overlap(
    run: dict[str, Any],
    trained: TrainingSet | None,
    data: FrozenSet,
    real: dict[str, Any] | None,
    stop: Callable[[], bool],
) -> dict[str, Any] | None:
    """Look for the test images among those trained on; None where the latter are not at hand."""
    if isinstance(trained, Mixture):
        parts: list[FrozenSet] | None = list(trained.parts)
    elif trained is not None:
        parts = [trained]
    else:
        parts = open_parts(run["data"], run["data_location"])
    return None if parts is None else find_overlap(parts, data, real_train=open_real_train(real), stop=stop)


def _rejection_caveats(run: dict[str, Any], test: dict[str, Any]) -> list[str]:
    """Say of a filtered replica, whether trained or tested on, whose judgement the score also is."""
    sets = (*parts_of(run["data"]), test)
    rejections = [(described["generator"] or {}).get("rejection") for described in sets]
    return [
        f"The synthetic images are {_chosen(rejection)} by classifier "
        f"{rejection['classifier_id'][:16]}: quality was bought with diversity, and the score is that classifier's "
        "work as well as the generator's. A judge trained on real images brings what it knows of them into the replica."
        for rejection in rejections
        if rejection is not None
    ]


def _chosen(rejection: dict[str, Any]) -> str:
    number = rejection["candidates"]
    if (threshold := rejection.get("threshold")) is None:
        return f"the best of {number} candidates each"
    least = f"a probability of its label of {threshold:g} or more"
    return f"the first of up to {number} candidates each with {least} (else the best)"


def _imported_caveats(*kinds: str) -> list[str]:
    """Say of images that another program made what nobody can check."""
    if "imported" not in kinds:
        return []
    return [
        "The images were imported: no generator, seed or sampler setting is recorded, so nobody can tell whether they "
        "were picked, filtered or edited before, and none can be drawn again."
    ]


def score_id(record: dict[str, Any]) -> str:
    """SHA-256 of the record without locations, versions and hardware, 64 hex digits."""
    return sha256_hex(canonical_json(_strip(record)))


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip(inner) for key, inner in value.items() if key not in _NOT_IDENTITY}
    return [_strip(inner) for inner in value] if isinstance(value, list) else value


def read_score(folder: Path) -> dict[str, Any]:
    """Read score.json and check that it is whole, and that predictions.parquet, where it is there, is the score's own.

    Raises:
        InputError: the folder holds no score of ours.
        IntegrityError: score or predictions were changed.
    """
    path = folder / SCORE_NAME
    if not path.exists():
        raise InputError(f"{folder}: holds no finished score ({SCORE_NAME} is not there); run caskit score first")
    record = read_record(path, what="a score")
    try:
        expected = score_id(record)
        stored, predictions_sha256 = record["score_id"], record["predictions_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not a score ({error!r})") from error
    if stored != expected:
        raise IntegrityError(f"{path}: score_id does not follow from the record, it was edited")
    predictions = folder / PREDICTIONS_NAME
    if os.path.lexists(predictions) and sha256_plain(predictions) != predictions_sha256:
        raise IntegrityError(f"{predictions}: sha256 differs from {SCORE_NAME}")
    return record


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _finished(out: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a finished folder of these inputs, None if there is none."""
    if not (out / SCORE_NAME).exists():
        return None
    record = read_score(out)
    if record["inputs"] != inputs:
        fields = "; ".join(differing_fields(inputs, record["inputs"]))
        raise InputError(f"{out}: holds the score of other inputs, differing in {fields}; choose another folder")
    return record


def _check_test_set(run: dict[str, Any], data: FrozenSet, classifier_folder: Path) -> None:
    location = data.store.location
    if data.split == "train":
        raise InputError(f"{location}: is a train split; a score needs images that no generator was fitted to")
    for part in parts_of(run["data"]):
        if part["content_root"] == data.replica.content_root:
            raise InputError(f"{location}: is what {classifier_folder} was trained on; a score needs other images")
        if (part["generator"] or {}).get("parent_content_root") == data.replica.content_root:
            raise InputError(f"{location}: {classifier_folder} was trained on reconstructions of it; use other images")
    if run["class_list_sha256"] != data.classes.digest:
        ours = [{"id": i, "name": n} for i, n in zip(data.classes.ids, data.classes.names, strict=True)]
        difference = _first_difference(run["classes"], ours)
        raise InputError(f"{location}: class list differs from that of {classifier_folder}: {difference}")


def _first_difference(theirs: list[dict[str, str]], ours: list[dict[str, str]]) -> str:
    if len(theirs) != len(ours):
        return f"{len(theirs)} classes there, {len(ours)} here"
    label = next(label for label, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    shown = (f"{c['id']} ({c['name'][:40]})" for c in (theirs[label], ours[label]))
    return "label {} is {} there, {} here".format(label, *shown)
