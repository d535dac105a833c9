"""The classifier that a generator is by itself: Bayes' rule with its exact likelihoods, tested on real images.

Ravuri & Vinyals 2019 put it beside the CAS of a PixelCNN on CIFAR-10 (60.05 % beside 64.02 %). It is no CAS: nothing is
sampled and nothing trained.

predictions.parquet   one row per test image, as for a score
bayes.json            every number and every id; written last
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from caskit.evaluate.metrics import summary
from caskit.evaluate.predict import PREDICTIONS_NAME, prediction_rows
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.manifests.plan import FORMAT_VERSION, differing_fields
from caskit.shards.dataset import FrozenSet
from caskit.shards.digest import sha256_file
from caskit.shards.software import git_commit, versions
from caskit.shards.untrusted import read_record
from caskit.train.engine import Progress
from caskit.train.folder import write_atomic
from caskit.train.images import Images
from caskit.train.provenance import describe_set, hardware

RECORD_NAME = "bayes.json"
BATCH_SIZE = 50
CAVEATS = (
    "This is no CAS: the generator itself classifies, by Bayes' rule with even odds for all classes. What its samples "
    "teach another classifier can be more or less.",
    "Likelihoods of images are dominated by fine detail, so small errors of the model weigh as much as the class does.",
)


def bayes_score(
    log_likelihoods: Callable[[np.ndarray], np.ndarray],
    data: FrozenSet,
    *,
    generator: Mapping[str, Any],
    out: Path,
    device: torch.device,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Classify a real test set by p(class | image) ~ p(image | class); the same call returns at once when it is done.

    Args:
        log_likelihoods: of images [N, H, W, C] uint8, in nats: [N, classes] float64.
        data: the open test set.
        generator: what it is, JSON values with `checkpoint_id`.
        out: the folder of the result.
        device: where it computes, for the record.
        batch_size: images handed over at once.
        progress: called after every batch.
        stop: asked before every batch.

    Returns:
        The record of bayes.json: the numbers of a score, and `bits_per_dimension`, the mean of
        -log2 p(image | its class) over the values of an image.

    Raises:
        InputError: the set is no real test set, or `out` holds the result of other inputs.
        NotFinished: `stop` said so.
        RunFailed: a likelihood is not finite.
    """
    if data.kind != "real" or data.split == "train":
        raise InputError(f"{data.store.location}: is no real test set; Bayes' rule is tested on images nobody learned")
    inputs = {"checkpoint_id": generator["checkpoint_id"], "test": data.replica.replica_id}
    finished = _finished(out, inputs)
    if finished is not None:
        return finished
    images = Images(data)
    started, num_batches = time.monotonic(), -(-len(data) // batch_size)
    tables, nats = [], 0.0
    for batch in range(num_batches):
        if stop():
            raise NotFinished(f"bayes: stopped after {batch} of {num_batches} batches; the same command starts again")
        ids = np.arange(batch * batch_size, min((batch + 1) * batch_size, len(data)))
        found = log_likelihoods(images.batch(ids))
        if not np.isfinite(found).all():
            bad = int((~np.isfinite(found)).any(axis=1).nonzero()[0][0])
            raise RunFailed(f"the likelihood of key {data.keys[ids[bad]]} is not finite")
        tables.append(prediction_rows(torch.from_numpy(found), data.labels[ids], [data.keys[i] for i in ids]))
        nats -= float(found[np.arange(len(ids)), data.labels[ids]].sum())
        if progress is not None:
            per_batch_s = (time.monotonic() - started) / (batch + 1)
            progress(
                Progress(
                    step=batch + 1,
                    num_steps=num_batches,
                    metrics={},
                    images_per_s=batch_size / max(per_batch_s, 1e-9),
                    eta_s=per_batch_s * (num_batches - batch - 1),
                    stage="bayes",
                )
            )
    predictions = pa.concat_tables(tables).combine_chunks()
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / PREDICTIONS_NAME, lambda path: pq.write_table(predictions, path))
    record = {
        "format_version": FORMAT_VERSION,
        "metric": "Bayes",
        **summary(predictions, data.classes),
        "bits_per_dimension": nats / len(data) / (images.height * images.width * images.channels) / math.log(2),
        "inputs": inputs,
        "generator": dict(generator),
        "test": {**describe_set(data), "location": str(Path(data.store.location).resolve())},
        "class_list_sha256": data.classes.digest,
        "predictions_sha256": sha256_file(out / PREDICTIONS_NAME),
        "caveats": list(CAVEATS),
        "versions": versions(),
        "git_commit": git_commit(),
        "hardware": hardware(device),
    }
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    write_atomic(out / RECORD_NAME, lambda path: _write(path, text))
    return record


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _finished(out: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    path = out / RECORD_NAME
    if not path.exists():
        return None
    try:
        record = read_record(path, what="a record of ours")
        found = record["inputs"]
    except KeyError as error:
        raise InputError(f"{path}: is no record of ours ({error!r})") from error
    if found != inputs:
        fields = "; ".join(differing_fields(inputs, found))
        raise InputError(f"{out}: holds the result of other inputs, differing in {fields}; choose another folder")
    return record
