"""How caskit writes Parquet: options that do not depend on the machine, so one pyarrow gives equal rows equal bytes."""

import io
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caskit.manifests.roots import ShardRecord
from caskit.shards.records import SHARD_SCHEMA

GROUP_ROWS = 8192
MAX_GROUP_ROWS = 2**18
_FEW_VALUES = ("label", "shard", "nbytes", "width", "height", "attempt")  # worth a dictionary


def write_parquet(table: pa.Table, file: BinaryIO, *, group_starts: Iterable[int] = (0,)) -> None:
    """Write a table with zstd and statistics.

    Args:
        table: the rows; its schema metadata is kept.
        file: written from its position on.
        group_starts: the first row of each row group, beginning with 0.
    """
    with parquet_writer(file, table.schema) as writer:
        write_groups(writer, table, group_starts)


def parquet_writer(file: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of a file with zstd and statistics, which takes row groups until it is closed."""
    dictionaries = [name for name in _FEW_VALUES if name in schema.names]
    return pq.ParquetWriter(
        file, schema, version="2.6", compression="zstd", compression_level=3, use_dictionary=dictionaries
    )


def write_groups(writer: pq.ParquetWriter, table: pa.Table, group_starts: Iterable[int]) -> None:
    """Write a table as row groups that begin at these rows of it."""
    starts = list(group_starts)
    for start, stop in zip(starts, [*starts[1:], table.num_rows], strict=True):
        writer.write_table(table.slice(start, stop - start), row_group_size=max(1, stop - start))


def class_groups(labels: np.ndarray) -> list[int]:
    """Return where row groups begin, see `histogram_groups`.

    Args:
        labels: [N] int64, ascending, N at least 1.
    """
    bounds = np.flatnonzero(np.diff(labels)) + 1
    return histogram_groups(np.diff(bounds, prepend=0, append=len(labels)).tolist())


def histogram_groups(histogram: Iterable[int]) -> list[int]:
    """Return where row groups begin: whole classes, until a group has GROUP_ROWS rows, so a class is read from one.

    A class of more than MAX_GROUP_ROWS has several: a row group is in memory while it is written.

    Args:
        histogram: rows per class, in their order; together at least 1.
    """
    starts, place = [0], 0
    for count in histogram:
        if count and place - starts[-1] >= GROUP_ROWS:
            starts.append(place)
        place += count
        while place - starts[-1] > MAX_GROUP_ROWS:
            starts.append(starts[-1] + MAX_GROUP_ROWS)
    return starts


def shard_table(shards: Iterable[ShardRecord]) -> pa.Table:
    """Return the rows of shards.parquet."""
    rows = [{name: getattr(shard, name) for name in SHARD_SCHEMA.names} for shard in shards]
    return pa.Table.from_pylist(rows, schema=SHARD_SCHEMA)


def table_bytes(table: pa.Table) -> bytes:
    """Return a small table as a Parquet file."""
    buffer = io.BytesIO()
    write_parquet(table, buffer)
    return buffer.getvalue()
