"""The rows of a set shard by shard, while the manifest has them class by class."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from caskit.manifests.rows import ROW_SCHEMA, bytes_matrix
from caskit.shards.buckets import Buckets
from caskit.shards.records import Described, Part, Records
from caskit.shards.row_checks import keys_at, places_at, rows_by_shard, rows_of_shard

ROWS_AT_ONCE = 2**18  # in the order of the shards; whole shards, so perhaps more
_MAX_BUCKETS = 1024
_ALWAYS = ("sample_id", "place", "tar_offset", "nbytes")


class ShardRows(Protocol):
    """The rows of every shard, as far as its check needs them: at least key, label, tar_offset and nbytes."""

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the rows of shard 0, 1, ..., each ordered by index_in_shard."""

    def of(self, shard: int) -> pa.Table:
        """Return the rows of one shard."""


class HeldRows:
    """ShardRows of records whose rows are in memory and need not be right."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __iter__(self) -> Iterator[pa.Table]:
        """See ShardRows."""
        for places in rows_by_shard(self._records):
            yield self._records.manifest.take(places)

    def of(self, shard: int) -> pa.Table:
        """See ShardRows; of a number that is no shard's there are none."""
        return rows_of_shard(self._records, shard)


class SpilledRows:
    """ShardRows of rows that came in manifest order and were right, in bounded memory.

    What other columns of a right row say is not kept: they follow from its place in the manifest and its sample_id.

    Attributes:
        bytes_columns: digests that are kept, of rows that all have them.
        number_columns: more numbers that are kept.
    """

    def __init__(
        self, described: Described, *, bytes_columns: Sequence[str] = (), number_columns: Sequence[str] = ()
    ) -> None:
        self.bytes_columns, self.number_columns = bytes_columns, number_columns
        digests = [(name, f"V{ROW_SCHEMA.field(name).type.byte_width}") for name in bytes_columns]
        self._dtype = np.dtype([*((name, "i8") for name in (*_ALWAYS, *number_columns)), *digests])
        self._described, self._size = described, described.samples_per_shard
        shards = max(1, ROWS_AT_ONCE // self._size, -(-described.num_shards // _MAX_BUCKETS))
        self._samples = shards * self._size  # of a block
        self.num_blocks = -(-described.origin.num // self._samples)
        self.buckets = Buckets(self._dtype, self.num_blocks)
        self._last: tuple[int, np.ndarray] | None = None

    def add(self, part: Part) -> None:
        """Take rows; each sample_id is one of the set's."""
        first = part.first
        for batch in part.manifest.to_batches():
            values = np.empty(batch.num_rows, dtype=self._dtype)
            values["place"] = np.arange(first, first + batch.num_rows)
            for name in ("sample_id", "tar_offset", "nbytes", *self.number_columns):
                values[name] = batch.column(name).to_numpy()
            for name in self.bytes_columns:
                values[name] = np.ascontiguousarray(bytes_matrix(batch.column(name))).view(self._dtype[name])[:, 0]
            self.buckets.add(values, values["sample_id"] // self._samples)
            first += batch.num_rows

    def block(self, number: int) -> np.ndarray:
        """Return the kept columns of a block of whole shards, sorted by sample_id."""
        if self._last is None or self._last[0] != number:
            values = self.buckets.read(number)
            self._last = number, values[np.argsort(values["sample_id"], kind="stable")]
        return self._last[1]

    def first_of(self, number: int) -> int:
        """Return the first sample_id of a block."""
        return number * self._samples

    def num_due(self, number: int) -> int:
        """Return how many rows a block is due to have."""
        return min(self._samples, self._described.origin.num - self.first_of(number))

    def __iter__(self) -> Iterator[pa.Table]:
        """See ShardRows."""
        for shard in range(self._described.num_shards):
            yield self.of(shard)

    def of(self, shard: int) -> pa.Table:
        """See ShardRows."""
        number, inside = divmod(shard * self._size, self._samples)
        values = self.block(number)[inside : inside + self._size]
        labels, ordinals = places_at(self._described, values["place"])
        columns = {
            "key": pa.array(keys_at(self._described, labels, ordinals), pa.string()),
            "label": pa.array(labels, pa.int64()),
            "index_in_shard": pa.array(np.arange(len(values)), pa.int64()),
        }
        for name in ("tar_offset", "nbytes", *self.number_columns):
            columns[name] = pa.array(np.ascontiguousarray(values[name]))
        for name in self.bytes_columns:
            data = pa.py_buffer(np.ascontiguousarray(values[name]).tobytes())
            columns[name] = pa.Array.from_buffers(ROW_SCHEMA.field(name).type, len(values), [None, data])
        return pa.table(columns)


def key_behind(rows: pa.Table, size: int) -> str | None:
    """Return the first key of a shard whose image ends behind `size` bytes."""
    offsets, nbytes = (rows.column(name).to_numpy() for name in ("tar_offset", "nbytes"))
    behind = np.flatnonzero(offsets + nbytes > size)
    if not len(behind):
        return None
    return str(rows.column("key")[int(behind[np.argmin(offsets[behind])])].as_py())
