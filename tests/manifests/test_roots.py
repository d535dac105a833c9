import hashlib
from dataclasses import replace

import numpy as np
import pytest

from caskit.manifests.errors import IntegrityError
from caskit.manifests.merkle import MerkleTree, leaf_hash, merkle_root, root_of_hashes
from caskit.manifests.roots import (
    ContentTree,
    ShardRecord,
    class_leaf,
    content_leaf,
    content_root,
    content_root_of,
    packing_root,
    rows_root,
)
from caskit.manifests.rows import canonical_row, canonical_rows, iterate_rows, table_of

SAMPLES = [("a_000000", 0, bytes(32)), ("a_000001", 0, b"\x01" * 32), ("c_000000", 2, b"\x02" * 32)]
SHARD = ShardRecord(shard=0, name="shard-000000.tar", num_samples=3, size_bytes=10240, sha256="00" * 32)


def test_content_root_is_a_tree_of_class_trees() -> None:
    leaves = [content_leaf(*sample) for sample in SAMPLES]
    classes = [
        class_leaf(0, 2, merkle_root(leaves[:2])),
        class_leaf(1, 0, hashlib.sha256(b"").digest()),  # a class without samples stands in the tree too
        class_leaf(2, 1, merkle_root(leaves[2:])),
    ]
    assert content_root(SAMPLES, 3) == merkle_root(classes).hex()
    assert content_root(SAMPLES, 4) != content_root(SAMPLES, 3)


@pytest.mark.parametrize(
    "samples",
    [
        SAMPLES[:2],
        [SAMPLES[1], SAMPLES[0], SAMPLES[2]],
        [("a_000000", 0, b"\x03" * 32), *SAMPLES[1:]],
        [("b_000000", 0, bytes(32)), *SAMPLES[1:]],
        [*SAMPLES[:2], ("c_000000", 1, b"\x02" * 32)],
    ],
)
def test_any_change_of_the_content_changes_its_root(samples: list[tuple[str, int, bytes]]) -> None:
    assert content_root(samples, 3) != content_root(SAMPLES, 3)


@pytest.mark.parametrize("changes", [{"name": "shard-000001.tar"}, {"size_bytes": 20480}, {"sha256": "01" * 32}])
def test_packing_root_covers_name_size_and_digest(changes: dict[str, object]) -> None:
    assert packing_root([replace(SHARD, **changes)]) != packing_root([SHARD])  # type: ignore[arg-type]
    assert packing_root([SHARD, SHARD]) != packing_root([SHARD])


@pytest.mark.parametrize("changes", [{"size_bytes": -1}, {"name": "\xe4"}, {"sha256": "zz"}])
def test_a_tar_that_cannot_be_spelled_is_one_line(changes: dict[str, object]) -> None:
    with pytest.raises(IntegrityError, match=f"shards.parquet: the row of shard {SHARD.shard} has no canonical form"):
        packing_root([replace(SHARD, **changes)])  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", ["abc", ["a", "long", "b"]])
def test_the_content_root_of_a_table_is_that_of_its_samples(ids: list[str]) -> None:
    labels = np.array([0] * 5 + [2] * 9)
    digests = [bytes([place]) * 32 for place in range(14)]
    keys = [f"{ids[label]}_{place:06d}" for place, label in enumerate(labels)]
    columns = {"key": keys, "label": labels, "image_sha256": digests}
    zeros = ("sample_id", "ordinal", "shard", "index_in_shard", "tar_offset", "nbytes", "width", "height")
    table = table_of({**columns, **dict.fromkeys(zeros, np.zeros(14, dtype=np.int64))}, 14)
    samples = list(zip(keys, labels.tolist(), digests, strict=True))
    for start in (0, 3):
        expected = content_root(samples[start:], 4)
        assert content_root_of(table.slice(start), 4) == expected
        pieces = table.slice(start).to_batches(max_chunksize=4)
        assert content_root_of(type(table).from_batches(pieces), 4) == expected


@pytest.mark.parametrize("step", [1, 7, 63, 64, 200, 1000])
def test_roots_are_the_same_in_pieces_of_any_size(step: int) -> None:
    """Around the sizes of the subtrees that are hashed at once, and with classes that have none or one."""
    rng = np.random.default_rng(step)
    counts = [0, 1, 130, 0, 64, 63, 65, 128, 1, 0]
    labels, num = np.repeat(np.arange(len(counts)), counts), sum(counts)
    numbers = ("sample_id", "ordinal", "shard", "index_in_shard", "tar_offset", "nbytes", "width", "height")
    columns = {name: rng.integers(0, 2**40, num) for name in numbers}
    keys = [f"c{label}_{place}" for place, label in enumerate(labels)]
    table = table_of({**columns, "key": keys, "label": labels, "image_sha256": [rng.bytes(32) for _ in keys]}, num)
    content, rows = ContentTree(len(counts)), MerkleTree()
    for start in range(0, num, step):
        content.extend(table.slice(start, step))
        rows.extend(canonical_rows(table.slice(start, step)))
    samples = zip(keys, labels.tolist(), table.column("image_sha256").to_pylist(), strict=True)
    assert content.root() == content_root(samples, len(counts)) == content_root_of(table, len(counts))
    assert rows.root().hex() == rows_root(table)
    assert rows.root() == root_of_hashes([leaf_hash(canonical_row(row)) for row in iterate_rows(table)])
