"""The manifest's rows: their Arrow schema, their order and their canonical bytes.

Parquet bytes are no identity (a writer stamps its own version), so digests are taken over the encoding below, which
docs/format.md states with test vectors.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caskit.manifests.classes import ClassList, sample_key, sample_keys
from caskit.manifests.errors import IntegrityError

MAX_KEY_BYTES = 99  # a USTAR name field holds 100 bytes and a key gets an extension besides

ROW_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("sample_id", pa.int64(), nullable=False),  # place in the order of the plan
        pa.field("label", pa.int64(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),  # number within the class
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("index_in_shard", pa.int64(), nullable=False),
        pa.field("tar_offset", pa.int64(), nullable=False),  # of the image's bytes, not of its header
        pa.field("nbytes", pa.int64(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("image_sha256", pa.binary(32), nullable=False),  # of the stored bytes
        pa.field("stream_key", pa.binary(16)),  # null for real samples
        pa.field("attempt", pa.int64()),  # null for real samples
        pa.field("source", pa.string()),  # original path or parent key; null for synthetic samples
        pa.field("filter_score", pa.float64()),  # of the sample kept by rejection; else null
        pa.field("pixel_sha256", pa.binary(32)),  # of the decoded uint8 [H, W, C] array, if the plan asks for it
        pa.field("codes_sha256", pa.binary(32)),  # of the codes it was decoded from, if the plan records them
    ]
)

_NUMBERS = ("sample_id", "label", "ordinal", "shard", "index_in_shard", "tar_offset", "nbytes", "width", "height")


def _optional(value: bytes | None) -> bytes:
    return b"\x00" if value is None else b"\x01" + value


def canonical_row(row: dict[str, Any]) -> bytes:
    """Encode one row: key, the nine numbers, the image digest, then the optional fields behind a presence byte.

    The last field, codes_sha256, adds nothing at all where it is null: what comes before it says where it ends, so the
    encoding stays injective, and rows without codes are what they were before there was such a column.
    """
    key = row["key"].encode("ascii")
    source = None if row["source"] is None else row["source"].encode("utf-8")
    return b"".join(
        (
            struct.pack(">B", len(key)),
            key,
            struct.pack(">9Q", *(row[name] for name in _NUMBERS)),
            row["image_sha256"],
            _optional(row["stream_key"]),
            _optional(None if row["attempt"] is None else struct.pack(">Q", row["attempt"])),
            _optional(None if source is None else struct.pack(">I", len(source)) + source),
            _optional(None if row["filter_score"] is None else struct.pack(">d", row["filter_score"])),
            _optional(row["pixel_sha256"]),
            b"" if row["codes_sha256"] is None else _optional(row["codes_sha256"]),
        )
    )


def canonical_rows(table: pa.Table, *, batch_size: int = 16384) -> Iterator[bytes]:
    """Yield `canonical_row` of every row without holding more than a batch of them.

    Where keys are equally long and no column is null in some rows only, rows are equally long too: they are put
    together as one array, which takes a tenth of the time. Other batches are encoded a column at a time.

    Raises:
        ValueError, OverflowError, struct.error: a row has no canonical form; which one is raised is not promised.
    """
    for batch in table.to_batches(max_chunksize=batch_size):
        numbers = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in _NUMBERS], axis=1)
        if numbers.dtype != np.int64 or (numbers < 0).any():  # a null makes floats of its column
            raise ValueError("a count or an offset is negative or null")
        packed = numbers.astype(">u8")
        matrix = _equal_rows(batch, packed)
        if matrix is not None:
            yield from split_rows(matrix)
            continue
        keys = [key.encode("ascii") for key in batch.column("key").to_pylist()]
        lines, width = packed.tobytes(), 8 * len(_NUMBERS)
        tails = _tails(batch)
        for place, (key, digest, tail) in enumerate(
            zip(keys, batch.column("image_sha256").to_pylist(), tails, strict=True)
        ):
            yield bytes((len(key),)) + key + lines[place * width : (place + 1) * width] + digest + tail


def split_rows(matrix: np.ndarray) -> list[bytes]:
    """Return the rows of [N, bytes] uint8."""
    data, width = matrix.tobytes(), matrix.shape[1]
    return [data[start : start + width] for start in range(0, len(data), width)]


def key_matrix(column: pa.Array) -> np.ndarray | None:
    """Return a column of keys as [N, 1 + length] uint8, each behind its length; None unless all are equally long.

    None too where one is null or not ASCII: encoding it by itself says what is wrong.
    """
    if column.null_count or not len(column):
        return None
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    length = int(bounds[1] - bounds[0])
    if not 0 < length <= MAX_KEY_BYTES or (np.diff(bounds) != length).any():
        return None
    keys = np.frombuffer(data, dtype=np.uint8)[int(bounds[0]) : int(bounds[-1])].reshape(len(column), length)
    if (keys > 127).any():
        return None
    return np.concatenate([np.full((len(keys), 1), length, dtype=np.uint8), keys], axis=1)


def bytes_matrix(column: pa.Array) -> np.ndarray:
    """Return a column of fixed-size binary values, none of them null, as [N, size] uint8."""
    size = column.type.byte_width
    values: np.ndarray = np.frombuffer(column.buffers()[1], dtype=np.uint8)
    return values[column.offset * size : (column.offset + len(column)) * size].reshape(-1, size)


def _equal_rows(batch: pa.RecordBatch, numbers: np.ndarray) -> np.ndarray | None:
    """Return the canonical rows of a batch as [N, bytes] uint8, None unless they are equally long by their columns.

    Args:
        batch: the rows.
        numbers: their numbers, [N, 9] big-endian.
    """
    num, keys, images = batch.num_rows, key_matrix(batch.column("key")), batch.column("image_sha256")
    optional = ("stream_key", "attempt", "source", "filter_score", "pixel_sha256", "codes_sha256")
    nulls = {name: batch.column(name).null_count for name in optional}
    if keys is None or images.null_count or nulls["source"] < num or any(n not in (0, num) for n in nulls.values()):
        return None
    parts = [keys, np.ascontiguousarray(numbers).view(np.uint8), bytes_matrix(images)]
    for name in optional:
        if name == "codes_sha256" and nulls[name]:  # adds nothing at all
            continue
        parts.append(np.full((num, 1), 0 if nulls[name] else 1, dtype=np.uint8))
        if nulls[name]:
            continue
        column = batch.column(name)
        if name in ("attempt", "filter_score"):
            values = column.to_numpy(zero_copy_only=False)
            if name == "attempt" and (values < 0).any():
                return None
            parts.append(values.astype(">u8" if name == "attempt" else ">f8").view(np.uint8).reshape(num, 8))
        else:
            parts.append(bytes_matrix(column))
    return np.concatenate(parts, axis=1)


def _tails(batch: pa.RecordBatch) -> list[bytes]:
    """Return what follows the image digest in every row of a batch."""
    sources = [None if source is None else source.encode("utf-8") for source in batch.column("source").to_pylist()]
    columns: list[list[bytes | None]] = [
        batch.column("stream_key").to_pylist(),
        [None if value is None else struct.pack(">Q", value) for value in batch.column("attempt").to_pylist()],
        [None if source is None else struct.pack(">I", len(source)) + source for source in sources],
        [None if value is None else struct.pack(">d", value) for value in batch.column("filter_score").to_pylist()],
        batch.column("pixel_sha256").to_pylist(),
    ]
    codes = [b"" if digest is None else _optional(digest) for digest in batch.column("codes_sha256").to_pylist()]
    tails = [b""] * batch.num_rows
    for column in columns:
        empty = all(value is None for value in column)
        if empty:
            tails = [tail + b"\x00" for tail in tails]
        else:
            tails = [tail + _optional(value) for tail, value in zip(tails, column, strict=True)]
    return [tail + last for tail, last in zip(tails, codes, strict=True)]


def table_of(columns: Mapping[str, Sequence[Any] | np.ndarray], num_rows: int) -> pa.Table:
    """Return rows given by column; a column that is not given is null."""
    arrays = [
        pa.array(columns[field.name], type=field.type, from_pandas=False)
        if field.name in columns
        else pa.nulls(num_rows, type=field.type)
        for field in ROW_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=ROW_SCHEMA)


def iterate_rows(table: pa.Table, *, batch_size: int = 16384) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as dicts without holding more than a batch of them as Python objects."""
    for batch in table.to_batches(max_chunksize=batch_size):
        yield from batch.to_pylist()


def sort_rows(table: pa.Table) -> pa.Table:
    """Return the rows in manifest order, by (label, ordinal)."""
    return table.take(manifest_order(table))


def manifest_order(table: pa.Table) -> pa.Array:
    """Return which row of a table stands in each place of the manifest, [N] uint64."""
    return pc.sort_indices(table, sort_keys=[("label", "ascending"), ("ordinal", "ascending")])


def check_schema(table: pa.Table, *, name: str) -> None:
    """Raise IntegrityError unless the table has exactly the columns of ROW_SCHEMA and no null where none may be."""
    if not table.schema.equals(ROW_SCHEMA):
        wrong = sorted(set(table.schema.names) ^ set(ROW_SCHEMA.names)) or [
            field.name for field in ROW_SCHEMA if table.schema.field(field.name).type != field.type
        ]
        raise IntegrityError(f"{name}: columns differ from the row schema: {', '.join(wrong) or 'order'}")
    for field in ROW_SCHEMA:
        if not field.nullable and table.column(field.name).null_count:
            raise IntegrityError(f"{name}: column {field.name} holds nulls")


def check_rows(table: pa.Table, classes: ClassList, *, name: str) -> None:
    """Check what rows must satisfy whatever the images are; the table is in manifest order.

    Labels are known, ordinals count 0, 1, 2, ... inside each class, keys spell (label, ordinal), and sample ids are
    0..n-1, each once.

    Raises:
        IntegrityError: naming the first row at fault by its key.
    """
    check_schema(table, name=name)
    if _are_good(table, classes):
        return
    expected_label, expected_ordinal = -1, 0
    seen = bytearray(table.num_rows)
    for row in iterate_rows(table):
        key, label, ordinal, sample_id = row["key"], row["label"], row["ordinal"], row["sample_id"]
        if not 0 <= label < len(classes):
            raise IntegrityError(f"{name}: key {key}: label {label} is not in the class list of {len(classes)}")
        if label < expected_label:
            raise IntegrityError(f"{name}: key {key}: rows are not in the order of (label, ordinal)")
        if label > expected_label:
            expected_label, expected_ordinal = label, 0
        if ordinal != expected_ordinal:
            raise IntegrityError(
                f"{name}: key {key}: ordinal {ordinal} of class {label} where {expected_ordinal} is due"
            )
        if key != sample_key(classes.ids[label], ordinal) or len(key) > MAX_KEY_BYTES:
            raise IntegrityError(f"{name}: key {key} does not spell class {label}, ordinal {ordinal}")
        if not 0 <= sample_id < table.num_rows or seen[sample_id]:
            raise IntegrityError(f"{name}: key {key}: sample_id {sample_id} is out of range or taken")
        if min(row[number] for number in _NUMBERS) < 0:
            raise IntegrityError(f"{name}: key {key}: a count or an offset is negative")
        seen[sample_id] = 1
        expected_ordinal += 1


def _are_good(table: pa.Table, classes: ClassList, *, batch_size: int = 2**16) -> bool:
    """Say whether rows satisfy `check_rows`, a column at a time: ten times as fast, but it names no key."""
    labels, ordinals, sample_ids = (table.column(name).to_numpy() for name in ("label", "ordinal", "sample_id"))
    num = table.num_rows
    if any((table.column(name).to_numpy() < 0).any() for name in _NUMBERS) or (labels >= len(classes)).any():
        return False
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    counted = np.arange(num) - np.repeat(starts, np.diff(starts, append=num))
    if (np.diff(labels) < 0).any() or (ordinals != counted).any() or (sample_ids >= num).any():
        return False
    if (np.bincount(sample_ids, minlength=num) != 1).any():
        return False
    for start in range(0, num, batch_size):
        part = slice(start, start + batch_size)
        keys = sample_keys(classes, labels[part], ordinals[part])
        if keys != table.column("key").slice(start, batch_size).to_pylist() or max(map(len, keys)) > MAX_KEY_BYTES:
            return False
    return True
