"""Rows of a published set and the hashes that prove them: from index.bin those asked for, or all of a manifest.

Nothing that comes is believed: the roots of the classes give content_root, a class's entries its root, the samples of a
block its entry. So a block that changed on its way is noticed before its rows are used.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from caskit.manifests.errors import IntegrityError
from caskit.manifests.index import (
    BLOCK_ROWS,
    DIGEST_BYTES,
    ENTRY,
    FILE,
    MAGIC,
    Entry,
    IndexLayout,
    block_root,
    decode_block,
)
from caskit.manifests.merkle import leaf_hash, merkle_root, root_of_hashes
from caskit.manifests.replica import Replica
from caskit.manifests.roots import class_leaf, content_leaf, content_root_of, rows_root
from caskit.manifests.rows import iterate_rows
from caskit.manifests.view import Whole
from caskit.shards.records import read_manifest
from caskit.shards.remote.attempts import again
from caskit.shards.store import Store

Rows = dict[int, dict[str, Any]]  # by ordinal
MAX_BLOCK_BYTES = 2**20


class RowSource(Protocol):
    """Where rows come from."""

    class_roots: Sequence[bytes]

    def rows(self, label: int, ordinals: Sequence[int]) -> Rows:
        """Return at least these rows of a class, by ordinal; ordinals ascend."""

    def sample_hash(self, label: int, start: int, stop: int) -> bytes:
        """Return the hash over a subtree of a class, after `rows` was called with what is asked for of it."""


class ManifestRows:
    """Rows out of manifest.parquet, which is read whole. Raises IntegrityError if it is not replica.json's."""

    def __init__(self, store: Store, replica: Replica, origin: Whole) -> None:
        table = again(lambda: read_manifest(store), store.location)
        if (rows_root(table), content_root_of(table, len(origin.classes))) != (replica.rows_root, replica.content_root):
            raise IntegrityError(f"{store.location}/manifest.parquet: has other rows than replica.json says")
        self._rows: list[Rows] = [{} for _ in origin.classes.ids]
        for row in iterate_rows(table):
            self._rows[row["label"]][row["ordinal"]] = row
        self._leaves = [
            [leaf_hash(content_leaf(row["key"], row["label"], row["image_sha256"])) for row in rows.values()]
            for rows in self._rows
        ]
        self.class_roots: Sequence[bytes] = [root_of_hashes(leaves) for leaves in self._leaves]

    def rows(self, label: int, ordinals: Sequence[int]) -> Rows:
        """See RowSource."""
        return {ordinal: self._rows[label][ordinal] for ordinal in ordinals}

    def sample_hash(self, label: int, start: int, stop: int) -> bytes:
        """See RowSource."""
        return root_of_hashes(self._leaves[label][start:stop])


class IndexRows:
    """Rows out of index.bin: the roots of all classes, the entries of a class, and the blocks of it that are needed."""

    def __init__(self, store: Store, replica: Replica, origin: Whole) -> None:
        self._store, self._origin = store, origin
        self._layout = IndexLayout(histogram=tuple(origin.histogram))
        self._where = f"{store.location}/{FILE}"
        self._size = store.size(FILE)
        self._leaves: dict[int, dict[int, bytes]] = {}
        self.class_roots: Sequence[bytes] = again(functools.partial(self._read_roots, replica), store.location)
        self._entries: dict[int, list[Entry]] = {}

    def _read_roots(self, replica: Replica) -> list[bytes]:
        start, length = self._layout.roots
        data = self._store.read(FILE, 0, start + length)
        roots = [data[at : at + DIGEST_BYTES] for at in range(start, start + length, DIGEST_BYTES)]
        leaves = (class_leaf(c, n, root) for c, (n, root) in enumerate(zip(self._layout.histogram, roots, strict=True)))
        if data[:start] != MAGIC or len(data) < start + length or merkle_root(leaves).hex() != replica.content_root:
            raise IntegrityError(f"{self._where}: is not the index of the set that replica.json names")
        return roots

    def _read_entries(self, label: int) -> list[Entry]:
        data = self._store.read(FILE, *self._layout.entries(label))
        if len(data) != self._layout.entries(label)[1]:
            raise IntegrityError(f"{self._where}: ends among its entries")
        entries = [Entry(offset=o, length=n, root=root) for o, n, root in ENTRY.iter_unpack(data)]
        if root_of_hashes([entry.root for entry in entries]) != self.class_roots[label]:
            raise IntegrityError(f"{self._where}: the entries of class {label} do not give its root")
        if any(e.offset + e.length != f.offset for e, f in itertools.pairwise(entries)) or any(
            e.length > MAX_BLOCK_BYTES or e.offset + e.length > self._size for e in entries
        ):
            raise IntegrityError(f"{self._where}: the blocks of class {label} do not stand one after the other")
        return entries

    def rows(self, label: int, ordinals: Sequence[int]) -> Rows:
        """See RowSource. Blocks that stand together come in one request."""
        read = functools.partial(self._read_entries, label)
        self._entries[label] = entries = again(read, self._store.location)
        found: Rows = {}
        for start, stop in _runs(sorted({ordinal // BLOCK_ROWS for ordinal in ordinals})):
            found |= again(functools.partial(self._read_blocks, label, entries, start, stop), self._store.location)
        leaves = {o: leaf_hash(content_leaf(row["key"], row["label"], row["image_sha256"])) for o, row in found.items()}
        self._leaves[label] = leaves
        return found

    def _read_blocks(self, label: int, entries: Sequence[Entry], start: int, stop: int) -> Rows:
        first, last = entries[start], entries[stop - 1]
        data = self._store.read(FILE, first.offset, last.offset + last.length - first.offset)
        found: Rows = {}
        for number in range(start, stop):
            at = entries[number].offset - first.offset
            rows = decode_block(data[at : at + entries[number].length], name=self._where)
            if block_root(rows) != entries[number].root:
                raise IntegrityError(f"{self._where}: block {number} of class {label} does not give its hash")
            found |= {row["ordinal"]: row for row in rows}
            if any(row["ordinal"] // BLOCK_ROWS != number or row["label"] != label for row in rows):
                raise IntegrityError(f"{self._where}: block {number} of class {label} holds rows of another one")
        return found

    def sample_hash(self, label: int, start: int, stop: int) -> bytes:
        """See RowSource."""
        leaves = self._leaves[label]
        if start in leaves and stop - start < BLOCK_ROWS:
            return root_of_hashes([leaves[ordinal] for ordinal in range(start, stop)])
        blocks = self._entries[label][start // BLOCK_ROWS : -(-stop // BLOCK_ROWS)]
        return root_of_hashes([entry.root for entry in blocks])


def open_rows(store: Store, replica: Replica, origin: Whole) -> tuple[RowSource, bool]:
    """Return where the rows of a set come from, and whether that is its index."""
    if store.exists(FILE):
        return IndexRows(store, replica, origin), True
    return ManifestRows(store, replica, origin), False


def chosen_rows(source: RowSource, chosen: Mapping[int, Sequence[int]]) -> list[dict[str, Any]]:
    """Return the chosen rows in the order of their set's sample_ids."""
    rows = []
    for label, ordinals in chosen.items():
        found = source.rows(label, ordinals)
        rows += [found[ordinal] for ordinal in ordinals]
    return sorted(rows, key=lambda row: int(row["sample_id"]))


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs of consecutive numbers as (first, last + 1)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs
