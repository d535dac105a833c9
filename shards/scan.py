"""Checking rows piece by piece, in memory that does not grow with them: whether all are right, not what is wrong.

A scan says yes only if the checks of `row_checks`, of the table of shards and of the roots find nothing. Where it says
no, those are made on all rows together, since they name the rows at fault; that takes memory as the rows do.
"""

import dataclasses
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caskit.manifests.errors import InputError
from caskit.manifests.imported import Import
from caskit.manifests.merkle import MerkleTree
from caskit.manifests.plan import Plan
from caskit.manifests.roots import ContentTree, ShardRecord, packing_root
from caskit.manifests.rows import MAX_KEY_BYTES, canonical_rows
from caskit.manifests.view import View
from caskit.shards.commit import shard_name
from caskit.shards.records import Described, Heads, Part, iterate_manifest
from caskit.shards.row_checks import due_places, keys_are_due, numbers, own_faults, places_at
from caskit.shards.shard_rows import SpilledRows
from caskit.shards.tar import layout

BATCH_ROWS = 2**16
NO_FORM = (ValueError, OverflowError, struct.error)  # what rows without a canonical form are refused with


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roots:
    """What a scan computes of rows."""

    num_samples: int
    content_root: str
    rows_root: str


class ManifestScan:
    """Takes the rows of a set that is no view in manifest order."""

    def __init__(self, described: Described) -> None:
        assert not isinstance(described.origin, View), "the rows of a view are checked in view_checks.py"
        self._described = described
        self._content, self._rows = ContentTree(len(described.classes)), MerkleTree()
        self._num_rows, self._last_sample = 0, -1

    def add(self, table: pa.Table) -> Part | None:
        """Take the next rows; None if they are not right, and then the scan is over."""
        described = self._described
        part = Part(origin=described.origin, packing=described.packing, manifest=table, first=self._num_rows)
        if self._num_rows + table.num_rows > described.origin.num or not self._fits(part):
            return None
        try:
            self._rows.extend(canonical_rows(table))
        except NO_FORM:
            return None
        self._content.extend(table)
        self._num_rows += table.num_rows
        self._last_sample = int(numbers(part, "sample_id")[-1])
        return part

    def _fits(self, part: Part) -> bool:
        labels, ordinals = due_places(part)
        sample_ids, size = numbers(part, "sample_id"), part.samples_per_shard
        due = {"label": labels, "ordinal": ordinals, "shard": sample_ids // size, "index_in_shard": sample_ids % size}
        if any((numbers(part, column) != values).any() for column, values in due.items()):
            return False
        if pc.max(pc.binary_length(part.manifest.column("key"))).as_py() > MAX_KEY_BYTES or not keys_are_due(part):
            return False
        if sample_ids.min() < 0 or sample_ids.max() >= part.origin.num:
            return False
        rising = np.diff(sample_ids, prepend=self._last_sample) > 0
        if not isinstance(part.origin, Plan | Import) and not (rising | (ordinals == 0)).all():
            return False
        return next(own_faults(part), None) is None

    def roots(self) -> Roots | None:
        """Return the roots of all rows; None if some are missing."""
        if self._num_rows != self._described.origin.num:
            return None
        roots = self._content.root(), self._rows.root().hex()
        return Roots(num_samples=self._num_rows, content_root=roots[0], rows_root=roots[1])


def tar_sizes(described: Described, first: int, rows: np.ndarray) -> list[int] | None:
    """Return the sizes of the tars of consecutive whole shards; None if their rows are not right.

    Args:
        described: the set that they are due to be of.
        first: the sample_id that is due first.
        rows: [n] sorted by sample_id, with the fields sample_id, place (in the manifest), tar_offset and nbytes.
    """
    origin, size = described.origin, described.samples_per_shard
    if not len(rows) or (rows["sample_id"] != np.arange(first, first + len(rows))).any() or rows["nbytes"].min() < 1:
        return None
    if isinstance(origin, Plan | Import):
        due = origin.draw_order.assign(first, first + len(rows))
        if any((ours != theirs).any() for ours, theirs in zip(places_at(described, rows["place"]), due, strict=True)):
            return None
    sizes = []
    for start in range(0, len(rows), size):
        shard = rows[start : start + size]
        offsets, num_bytes = layout(shard["nbytes"])
        if (shard["tar_offset"] != offsets).any():
            return None
        sizes.append(num_bytes)
    return sizes


@contextmanager
def scanned(
    heads: Heads, *, bytes_columns: Sequence[str] = (), number_columns: Sequence[str] = ()
) -> Iterator[SpilledRows | None]:
    """Read a frozen set's rows once; its rows by shard if its records are right, None if they are not.

    Args:
        heads: the set, not a view.
        bytes_columns: digests that the rows by shard are to have, see SpilledRows.
        number_columns: numbers that they are to have.
    """
    rows = SpilledRows(heads, bytes_columns=bytes_columns, number_columns=number_columns)
    with rows.buckets:
        yield rows if _fits(heads, rows) else None


def _fits(heads: Heads, rows: SpilledRows) -> bool:
    replica, num_shards = heads.replica, heads.num_shards
    stated = replica.num_samples, replica.num_classes, replica.num_shards, replica.class_list_sha256
    if stated != (heads.origin.num, len(heads.classes), num_shards, heads.classes.digest):
        return False
    if len(heads.shards) != num_shards or not shards_fit(heads.shards):
        return False
    roots = _scan(heads, rows)
    if roots is None or (roots.content_root, roots.rows_root) != (replica.content_root, replica.rows_root):
        return False
    return packing_root(heads.shards) == replica.packing_root and _tars_fit(heads, rows)


def _scan(heads: Heads, rows: SpilledRows) -> Roots | None:
    scan = ManifestScan(heads)
    try:
        for table in iterate_manifest(heads.store, max_rows=BATCH_ROWS):
            part = scan.add(table)
            if part is None:
                return None
            rows.add(part)
    except InputError:
        return None
    return scan.roots()


def shards_fit(shards: Iterable[ShardRecord]) -> bool:
    """Say whether shards have the numbers and names that are due, and sizes and digests of the due form."""
    return all(
        (shard.shard, shard.name) == (number, shard_name(number))
        and shard.size_bytes >= 0
        and len(shard.sha256) == 64
        and not set(shard.sha256) - set("0123456789abcdef")
        for number, shard in enumerate(shards)
    )


def _tars_fit(heads: Heads, rows: SpilledRows) -> bool:
    """Compare the table of shards with the rows."""
    size, shard = heads.samples_per_shard, 0
    for number in range(rows.num_blocks):
        if rows.buckets.count(number) != rows.num_due(number):
            return False
        sizes = tar_sizes(heads, rows.first_of(number), rows.block(number))
        if sizes is None:
            return False
        for num_bytes in sizes:
            due = min(size, heads.origin.num - shard * size), num_bytes
            if (heads.shards[shard].num_samples, heads.shards[shard].size_bytes) != due:
                return False
            shard += 1
    return True
