"""Merkle trees with the domain separation and shape of RFC 6962 section 2.1 (leaf 0x00, node 0x01, SHA-256)."""

import bisect
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


def leaf_hash(data: bytes) -> bytes:
    """Return the 32-byte hash of one leaf's data."""
    return hashlib.sha256(b"\x00" + data).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Return `leaf_hash` of each of many leaves."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + data).digest() for data in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


_BLOCK_HEIGHT = 6  # leaves are hashed in whole subtrees of so many levels where many come at once


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
        self._push(0, leaf_hash(data))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add the data of many leaves, a subtree at a time: the same tree as by `append`, in half of the time."""
        iterator, size = iter(leaves), 2**_BLOCK_HEIGHT
        for data in itertools.islice(iterator, -self.num_leaves % size):  # up to the border of a subtree
            self.append(data)
        while block := list(itertools.islice(iterator, size)):
            if len(block) < size:
                for data in block:
                    self.append(data)
                return
            sha256 = hashlib.sha256
            hashes = [sha256(b"\x00" + data).digest() for data in block]
            while len(hashes) > 1:
                pairs = zip(hashes[::2], hashes[1::2], strict=True)
                hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
            self._push(_BLOCK_HEIGHT, hashes[0])

    def _push(self, height: int, digest: bytes) -> None:
        """Add the hash of a whole subtree; no pending one is lower."""
        self.num_leaves += 2**height
        while self._pending and self._pending[-1][0] == height:
            digest = node_hash(self._pending.pop()[1], digest)
            height += 1
        self._pending.append((height, digest))

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
    tree.extend(leaves)
    return tree.root()


def split_at(size: int) -> int:
    """Return how many of a list's `size` > 1 leaves stand in the left subtree: the largest power of two below it."""
    return 1 << ((size - 1).bit_length() - 1)


def root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of leaves, or of whole subtrees of equal size but for the last."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    sha256, level = hashlib.sha256, list(hashes)
    while len(level) > 1:  # pairs from the left, an odd one going up as it is: the same tree as by splitting
        above = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level = above + level[-1:] if len(level) % 2 else above
    return level[0]


def subset_proof(size: int, chosen: Sequence[int], range_hash: Callable[[int, int], bytes]) -> list[bytes]:
    """Return the hashes that, with the chosen leaves, give a tree's root: its largest subtrees without a chosen leaf.

    Args:
        size: leaves of the tree.
        chosen: their numbers, ascending, each once.
        range_hash: gives the hash of the subtree of leaves `start <= i < stop`.

    Returns:
        the hashes from left to right.
    """
    if size == 0:
        return []
    proof: list[bytes] = []

    def visit(start: int, stop: int) -> None:
        low = bisect.bisect_left(chosen, start)
        inside = bisect.bisect_left(chosen, stop) - low
        if inside == 0:
            proof.append(range_hash(start, stop))
        elif inside < stop - start:
            middle = start + split_at(stop - start)
            visit(start, middle)
            visit(middle, stop)

    visit(0, size)
    return proof


def subset_root(size: int, leaves: Mapping[int, bytes], proof: Iterator[bytes]) -> bytes:
    """Return the root that some leaves and `subset_proof` of them give.

    Args:
        size: leaves of the tree.
        leaves: hashes of the chosen ones by number.
        proof: hashes of the rest; as many are taken as are needed.

    Raises:
        ValueError: the proof ends too early.
    """
    if size == 0:
        return hashlib.sha256(b"").digest()
    chosen = sorted(leaves)

    def visit(start: int, stop: int) -> bytes:
        if bisect.bisect_left(chosen, stop) == bisect.bisect_left(chosen, start):
            digest = next(proof, None)
            if digest is None:
                raise ValueError("the proof ends too early")
            return digest
        if stop - start == 1:
            return leaves[start]
        middle = start + split_at(stop - start)
        return node_hash(visit(start, middle), visit(middle, stop))

    return visit(0, size)
