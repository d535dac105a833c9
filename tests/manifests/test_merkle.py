import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caskit.manifests.merkle import (
    MerkleTree,
    leaf_hash,
    merkle_root,
    node_hash,
    root_of_hashes,
    subset_proof,
    subset_root,
)

# The leaves of the reference vectors of Certificate Transparency (google/certificate-transparency, merkle tests).
LEAVES = [
    bytes.fromhex(h)
    for h in ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 as it is written."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


@pytest.mark.parametrize("count", range(1, 9))
def test_known_roots_of_certificate_transparency(count: int) -> None:
    assert merkle_root(LEAVES[:count]).hex() == ROOTS[count - 1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 31, 32, 33, 100])
def test_streaming_equals_the_recursive_definition(count: int) -> None:
    leaves = [bytes([i]) * (i % 7) for i in range(count)]
    assert merkle_root(leaves) == recursive_root(leaves)


def test_the_root_can_be_read_while_growing() -> None:
    tree, leaves = MerkleTree(), [b"a", b"b", b"c"]
    for i, leaf in enumerate(leaves):
        tree.append(leaf)
        assert tree.root() == recursive_root(leaves[: i + 1])
    assert tree.num_leaves == 3


def _range_hash(hashes: list[bytes]) -> Callable[[int, int], bytes]:
    return lambda start, stop: root_of_hashes(hashes[start:stop])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 70), st.data())
def test_some_leaves_and_their_proof_give_the_root(size: int, data: st.DataObject) -> None:
    hashes = [leaf_hash(b"%d" % number) for number in range(size)]
    chosen = sorted(data.draw(st.sets(st.integers(0, max(0, size - 1)), max_size=size)))
    root = merkle_root(b"%d" % number for number in range(size))
    assert root_of_hashes(hashes) == root
    proof = subset_proof(size, chosen, _range_hash(hashes))
    given_leaves = {number: hashes[number] for number in chosen}
    rest = iter(proof)
    assert subset_root(size, given_leaves, rest) == root and next(rest, None) is None
    if chosen:
        wrong = {**given_leaves, chosen[0]: leaf_hash(b"other")}
        assert subset_root(size, wrong, iter(proof)) != root
        assert len(proof) <= len(chosen) * size.bit_length()
    if proof:
        with pytest.raises(ValueError, match="the proof ends too early"):
            subset_root(size, given_leaves, iter(proof[:-1]))


def test_a_whole_tree_needs_no_proof_and_a_prefix_a_short_one() -> None:
    hashes = [leaf_hash(b"%d" % number) for number in range(1000)]
    assert subset_proof(1000, range(1000), _range_hash(hashes)) == []
    assert len(subset_proof(1000, range(100), _range_hash(hashes))) <= 10


@pytest.mark.parametrize("before", [0, 1, 63, 64, 100])
@pytest.mark.parametrize("more", [0, 1, 63, 64, 129, 700])
def test_many_leaves_at_once_make_the_tree_of_one_after_the_other(before: int, more: int) -> None:
    leaves = [b"%d" % number for number in range(before + more)]
    one, many = MerkleTree(), MerkleTree()
    for leaf in leaves:
        one.append(leaf)
    for leaf in leaves[:before]:
        many.append(leaf)
    many.extend(leaves[before:])
    assert (many.root(), many.num_leaves) == (one.root(), one.num_leaves)
