"""Merkle trees with the domain separation and shape of RFC 6962 section 2.1 (leaf 0x00, node 0x01, SHA-256)."""

import hashlib
from collections.abc import Iterable


def leaf_hash(data: bytes) -> bytes:
    """Return the 32-byte hash of one leaf's data."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """Root of a growing list of leaves in O(log n) memory.

    The pending subtrees are the binary digits of the number of leaves, which is the split RFC 6962 prescribes: the
    left part of a list is the largest power of two below its length.
    """

    def __init__(self) -> None:
        self.num_leaves = 0
        self._pending: list[tuple[int, bytes]] = []  # (height, hash), heights falling

    def append(self, data: bytes) -> None:
        """Add one leaf's data."""
        height, digest = 0, leaf_hash(data)
        while self._pending and self._pending[-1][0] == height:
            digest = node_hash(self._pending.pop()[1], digest)
            height += 1
        self._pending.append((height, digest))
        self.num_leaves += 1

    def root(self) -> bytes:
        """Return the 32-byte root; of no leaves it is the SHA-256 of nothing."""
        if not self._pending:
            return hashlib.sha256(b"").digest()
        digest = self._pending[-1][1]
        for _, left in reversed(self._pending[:-1]):
            digest = node_hash(left, digest)
        return digest


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the 32-byte root over the data of some leaves."""
    tree = MerkleTree()
    for data in leaves:
        tree.append(data)
    return tree.root()
