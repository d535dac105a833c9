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
_FEW_VALUES = ("label", "shard", "nbytes", "width", "height", "attempt")  # worth a dictionary


def write_parquet(table: pa.Table, file: BinaryIO, *, group_starts: Iterable[int] = (0,)) -> None:
    """Write a table with zstd and statistics.

    Args:
        table: the rows; its schema metadata is kept.
        file: written from its position on.
        group_starts: the first row of each row group, beginning with 0.
    """
    dictionaries = [name for name in _FEW_VALUES if name in table.schema.names]
    starts = list(group_starts)
    with pq.ParquetWriter(
        file, table.schema, version="2.6", compression="zstd", compression_level=3, use_dictionary=dictionaries
    ) as writer:
        for start, stop in zip(starts, [*starts[1:], table.num_rows], strict=True):
            writer.write_table(table.slice(start, stop - start), row_group_size=max(1, stop - start))


def class_groups(labels: np.ndarray) -> list[int]:
    """Return where row groups begin: whole classes, until a group has GROUP_ROWS rows, so a class is read from one.

    Args:
        labels: [N] int64, ascending, N at least 1.
    """
    starts = [0]
    class_starts = np.flatnonzero(np.diff(labels)) + 1
    for start in class_starts.tolist():
        if start - starts[-1] >= GROUP_ROWS:
            starts.append(start)
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
