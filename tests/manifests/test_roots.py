import hashlib
from dataclasses import replace

import pytest

from caskit.manifests.merkle import merkle_root
from caskit.manifests.roots import ShardRecord, class_leaf, content_leaf, content_root, packing_root

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
