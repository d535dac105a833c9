"""A classifier's answers to a test set, one row per image: `predictions.parquet`, from which every number is computed.

Classes are ranked by falling probability, equal ones by rising label, so a rank is defined for any classifier.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.manifests.rows import MAX_KEY_BYTES
from caskit.shards.dataset import FrozenSet
from caskit.shards.records import check_row_groups
from caskit.shards.untrusted import read_plain
from caskit.train.device import num_threads
from caskit.train.engine import Progress
from caskit.train.images import Images
from caskit.train.training import Classifier, check_images

PREDICTIONS_NAME = "predictions.parquet"
BATCH_SIZE = 250
NUM_TOP = 5
MAX_ROWS = 2**28
MAX_BYTES = 2**30  # of the file
MAX_TABLE_BYTES = 2**29  # of its rows, unpacked: two million
_BATCH_ROWS = 2**14
PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.int64(), nullable=False),
        pa.field("rank", pa.int64(), nullable=False),  # of the label, 0 is the best
        pa.field("log_probability", pa.float64(), nullable=False),  # of the label, natural logarithm
        pa.field("sum_squared_probabilities", pa.float64(), nullable=False),  # over all classes
        pa.field("top5_ids", pa.list_(pa.int64()), nullable=False),  # labels of ranks 0..4, fewer if there are fewer
        pa.field("top5_log_probabilities", pa.list_(pa.float64()), nullable=False),
    ]
)


def prediction_rows(logits: Tensor, labels: np.ndarray, keys: list[str]) -> pa.Table:
    """Turn logits [N, classes] and labels [N] int64 into rows.

    Raises:
        RunFailed: a logit is not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        bad = int((~torch.isfinite(logits)).any(dim=1).nonzero()[0])
        raise RunFailed(f"the classifier's output for key {keys[bad]} is not finite; train it again")
    log_probabilities = torch.log_softmax(logits.double(), dim=1).cpu().numpy()
    order = np.argsort(-log_probabilities, axis=1, kind="stable")
    top = order[:, :NUM_TOP]
    columns = [
        pa.array(keys, pa.string()),
        pa.array(labels, pa.int64()),
        pa.array((order == labels[:, None]).argmax(axis=1), pa.int64()),
        pa.array(np.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0], pa.float64()),
        pa.array(np.exp(2 * log_probabilities).sum(axis=1), pa.float64()),
        pa.array(list(top), pa.list_(pa.int64())),
        pa.array(list(np.take_along_axis(log_probabilities, top, axis=1)), pa.list_(pa.float64())),
    ]
    return pa.Table.from_arrays(columns, schema=PREDICTION_SCHEMA)


def predict(
    classifier: Classifier,
    data: FrozenSet,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> pa.Table:
    """Classify every image of a set.

    Batches have one size, the last one padded, and the recipe's threads: the last bits of an output depend on both.

    Args:
        classifier: from `load_classifier`.
        data: an open set with the classifier's class list.
        batch_size: images per forward pass.
        progress: called after every batch.
        stop: asked before every batch.

    Returns:
        A table of PREDICTION_SCHEMA in the order of sample_id.

    Raises:
        InputError: the images are not those the classifier was made for.
        NotFinished: `stop` said so.
        RunFailed: the output is not finite.
    """
    from caskit.train.classifier import prepare  # on use: timm takes seconds to import

    images = Images(data, one_size=classifier.recipe.crop == "none")
    check_images(images, classifier.recipe, data.store.location, channels=classifier.channels)
    started, num_batches = time.monotonic(), -(-len(data) // batch_size)
    tables = []
    for batch in range(num_batches):
        if stop():
            raise NotFinished(f"score: stopped after {batch} of {num_batches} batches; the same command starts again")
        ids = np.arange(batch * batch_size, min((batch + 1) * batch_size, len(data)))
        padded = np.concatenate([ids, np.zeros(batch_size - len(ids), dtype=ids.dtype)])
        with torch.inference_mode(), num_threads(classifier.recipe.threads):
            inputs = prepare(images.each(padded), classifier.recipe, classifier.device)
            logits = classifier.model(inputs)[: len(ids)]
        tables.append(prediction_rows(logits, data.labels[ids], [data.keys[i] for i in ids]))
        if progress is not None:
            per_batch_s = (time.monotonic() - started) / (batch + 1)
            progress(
                Progress(
                    step=batch + 1,
                    num_steps=num_batches,
                    metrics={},
                    images_per_s=batch_size / max(per_batch_s, 1e-9),
                    eta_s=per_batch_s * (num_batches - batch - 1),
                    stage="score",
                )
            )
    return pa.concat_tables(tables).combine_chunks()


def read_predictions(path: Path) -> pa.Table:
    """Read a predictions.parquet, which another lab may have written.

    Raises:
        IntegrityError: not such a file, or its values contradict each other.
    """
    data = read_plain(path, max_bytes=MAX_BYTES)
    try:
        limits = {"thrift_string_size_limit": 2**24, "thrift_container_size_limit": 2**22}
        # From bytes and in one thread: see shards.records.read_parquet.
        with pq.ParquetFile(pa.BufferReader(data), arrow_extensions_enabled=False, **limits) as file:
            _check_footer(file, len(data), path)
            batches, num_bytes = [], 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                num_bytes += batch.nbytes
                if num_bytes > MAX_TABLE_BYTES:
                    raise IntegrityError(f"{path}: unpacks to more than {MAX_TABLE_BYTES} bytes")
                batches.append(batch)
            table = pa.Table.from_batches(batches, PREDICTION_SCHEMA).combine_chunks()
            table.validate(full=True)  # texts are UTF-8, offsets stay inside their buffers
    except InputError:
        raise
    except (pa.ArrowException, OSError, RuntimeError, ValueError, KeyError) as error:
        raise IntegrityError(f"{path}: not readable as {PREDICTIONS_NAME} ({error})") from error
    for field in PREDICTION_SCHEMA:
        if table.column(field.name).null_count:
            raise IntegrityError(f"{path}: column {field.name} holds nulls")
    if (pc.max(pc.binary_length(table.column("key"))).as_py() or 0) > MAX_KEY_BYTES:
        raise IntegrityError(f"{path}: column key holds a text of more than {MAX_KEY_BYTES} bytes")
    for name in ("log_probability", "sum_squared_probabilities"):
        if not np.isfinite(table.column(name).to_numpy()).all():
            raise IntegrityError(f"{path}: column {name} holds a value that is not finite")
    return table


def _check_footer(file: pq.ParquetFile, num_bytes: int, path: Path) -> None:
    """Believe of a footer what refuses the file: a constant column states any number of rows in a few bytes."""
    metadata = file.metadata
    if not file.schema_arrow.equals(PREDICTION_SCHEMA):
        raise IntegrityError(f"{path}: columns are not those of {PREDICTIONS_NAME}")
    if not 0 <= metadata.num_rows <= min(MAX_ROWS, num_bytes):  # keys differ, so a row takes more than a byte
        raise IntegrityError(f"{path}: {metadata.num_rows} rows, at most {min(MAX_ROWS, num_bytes)} are read")
    check_row_groups(metadata, str(path))
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    num_values = max((g.column(c).num_values for g in groups for c in range(g.num_columns)), default=0)
    if num_values > NUM_TOP * metadata.num_rows:
        raise IntegrityError(f"{path}: {num_values} values in one column for {metadata.num_rows} rows")
