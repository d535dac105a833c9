"""The three roots of a set: what its content is, what its rows say, how its shards are packed.

content_root   over (key, label, image digest), one subtree per class: survives repacking
rows_root      over canonical rows in manifest order
packing_root   over (name, size, digest) of the tars
"""

import dataclasses
import struct
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from caskit.manifests.errors import IntegrityError
from caskit.manifests.merkle import MerkleTree, leaf_hashes, merkle_root, root_of_hashes
from caskit.manifests.rows import bytes_matrix, canonical_rows, key_matrix, manifest_order, split_rows

_LEAVES_AT_ONCE = 4096  # of a class, kept until they are hashed together


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """One committed tar: number, file name inside `shards/`, samples, size in bytes and SHA-256 (hex)."""

    shard: int
    name: str
    num_samples: int
    size_bytes: int
    sha256: str


def content_leaf(key: str, label: int, image_sha256: bytes) -> bytes:
    """Encode one sample's identity: key length (1 byte), key, label (8 bytes big-endian), 32-byte image digest."""
    encoded = key.encode("ascii")
    return struct.pack(">B", len(encoded)) + encoded + struct.pack(">Q", label) + image_sha256


def class_leaf(label: int, count: int, class_root: bytes) -> bytes:
    """Encode one class in the upper tree: label and count (8 bytes big-endian each), root of its samples."""
    return struct.pack(">2Q", label, count) + class_root


def class_trees(samples: Iterable[tuple[str, int, bytes]], num_classes: int) -> Iterator[MerkleTree]:
    """Yield one tree per label from (key, label, image digest) triples ordered by (label, ordinal)."""
    tree, current = MerkleTree(), 0
    leaves: list[bytes] = []
    for key, label, image_sha256 in samples:
        if label != current or len(leaves) == _LEAVES_AT_ONCE:
            assert current <= label < num_classes, f"sample {key}: label {label} out of order or range"
            tree.extend(leaves)
            leaves = []
        while current < label:
            yield tree
            tree, current = MerkleTree(), current + 1
        leaves.append(content_leaf(key, label, image_sha256))
    tree.extend(leaves)
    while current < num_classes:
        yield tree
        tree, current = MerkleTree(), current + 1


def content_root(samples: Iterable[tuple[str, int, bytes]], num_classes: int) -> str:
    """Return the root over samples in order of (label, ordinal), 64 hex digits; a class without samples counts too."""
    trees = class_trees(samples, num_classes)
    return merkle_root(class_leaf(label, t.num_leaves, t.root()) for label, t in enumerate(trees)).hex()


def content_root_of(table: pa.Table, num_classes: int) -> str:
    """Return the content root of a manifest table in manifest order."""
    tree = ContentTree(num_classes)
    tree.extend(table)
    return tree.root()


class ContentTree:
    """The content root of rows that come piece by piece in manifest order; what it holds does not grow with them."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes, self._label = num_classes, 0
        self._classes, self._samples = MerkleTree(), MerkleTree()

    def extend(self, table: pa.Table) -> None:
        """Add the next rows, a run of one label in a batch at a time."""
        for batch in table.select(["key", "label", "image_sha256"]).to_batches(max_chunksize=16384):
            labels = batch.column("label").to_numpy()
            leaves = _content_leaves(batch, labels)
            starts = np.flatnonzero(np.diff(labels, prepend=-1)).tolist()
            for start, stop in zip(starts, [*starts[1:], len(leaves)], strict=True):
                label = int(labels[start])
                assert self._label <= label < self._num_classes, (
                    f"row {start} of a batch: label {label} out of order or range"
                )
                self._close_until(label)
                self._samples.extend(leaves[start:stop])

    def _close_until(self, label: int) -> None:
        """Put the classes below a label into the upper tree."""
        while self._label < label:
            tree = self._samples
            self._classes.append(class_leaf(self._label, tree.num_leaves, tree.root()))
            self._samples, self._label = MerkleTree(), self._label + 1

    def root(self) -> str:
        """Return the root, 64 hex digits; no rows can be added after that."""
        self._close_until(self._num_classes)
        return self._classes.root().hex()


def _content_leaves(batch: pa.RecordBatch, labels: np.ndarray) -> list[bytes]:
    """Return `content_leaf` of every row."""
    keys = key_matrix(batch.column("key"))
    if keys is None or (labels < 0).any():
        columns = (batch.column(name).to_pylist() for name in ("key", "label", "image_sha256"))
        return [content_leaf(*sample) for sample in zip(*columns, strict=True)]
    numbers = labels.astype(">u8").view(np.uint8).reshape(-1, 8)
    return split_rows(np.concatenate([keys, numbers, bytes_matrix(batch.column("image_sha256"))], axis=1))


def rows_root(table: pa.Table) -> str:
    """Return the root over the canonical rows of a table in manifest order, 64 hex digits."""
    return merkle_root(canonical_rows(table)).hex()


def rows_root_of_shard(table: pa.Table) -> str:
    """Return `rows_root` of rows in any order, as they would stand in a manifest; all their hashes are held at once.

    Hashes are put in order, not rows, whose many columns take longer to move than to encode.
    """
    hashes = leaf_hashes(canonical_rows(table))
    return root_of_hashes([hashes[place] for place in manifest_order(table).to_numpy().tolist()]).hex()


def packing_root(shards: Iterable[ShardRecord]) -> str:
    """Return the root over the tars in shard order: name length (2 bytes), name, size (8 bytes), 32-byte digest.

    Raises:
        IntegrityError: a foreign table's name, size or digest cannot be spelled like that.
    """
    return merkle_root(map(_packing_leaf, shards)).hex()


def _packing_leaf(shard: ShardRecord) -> bytes:
    try:
        name, digest = shard.name.encode("ascii"), bytes.fromhex(shard.sha256)
        return struct.pack(">H", len(name)) + name + struct.pack(">Q", shard.size_bytes) + digest
    except (ValueError, struct.error) as error:
        where = f"shards.parquet: the row of shard {shard.shard}"
        raise IntegrityError(f"{where} has no canonical form ({error})") from error
