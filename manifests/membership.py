"""Proof that samples belong to a set, against its content_root: docs/format.md, rule 6.4."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from caskit.manifests.merkle import leaf_hash, subset_proof, subset_root
from caskit.manifests.roots import class_leaf, content_leaf


def prove_membership(
    histogram: Sequence[int],
    chosen: Mapping[int, Sequence[int]],
    sample_hash: Callable[[int, int, int], bytes],
    class_roots: Sequence[bytes],
) -> list[str]:
    """Return the proof of some samples of a set.

    Args:
        histogram: samples of each class of the set.
        chosen: by label the ordinals of the samples, ascending, none of them empty.
        sample_hash: gives the hash over ordinals `start <= i < stop` of a label, called as (label, start, stop).
        class_roots: the root of every class.

    Returns:
        hashes as 64 hex digits: class by class of the chosen ones, then those of the tree over the classes.
    """
    proof = []
    for label in sorted(chosen):

        def of_samples(start: int, stop: int, label: int = label) -> bytes:
            return sample_hash(label, start, stop)

        proof += subset_proof(histogram[label], chosen[label], of_samples)
    leaves = [
        leaf_hash(class_leaf(label, count, root))
        for label, (count, root) in enumerate(zip(histogram, class_roots, strict=True))
    ]

    def of_classes(start: int, stop: int) -> bytes:
        if stop - start == 1:
            return leaves[start]
        return subset_root(stop - start, dict(enumerate(leaves[start:stop])), iter(()))

    proof += subset_proof(len(histogram), sorted(chosen), of_classes)
    return [digest.hex() for digest in proof]


def proven_root(histogram: Sequence[int], samples: Iterable[tuple[str, int, int, bytes]], proof: Iterable[str]) -> str:
    """Return the content_root that samples and their proof give, 64 hex digits.

    Args:
        histogram: samples of each class of the set that they are said to belong to.
        samples: (key, label, ordinal, image digest).
        proof: see `prove_membership`.

    Raises:
        ValueError: an ordinal is out of range, a sample is there twice, or the proof is too short or too long.
    """
    leaves: dict[int, dict[int, bytes]] = {}
    for key, label, ordinal, image_sha256 in samples:
        inside = leaves.setdefault(label, {})
        if not 0 <= label < len(histogram) or not 0 <= ordinal < histogram[label] or ordinal in inside:
            raise ValueError(f"key {key}: ordinal {ordinal} of label {label} is not of the set, or is there twice")
        inside[ordinal] = leaf_hash(content_leaf(key, label, image_sha256))
    hashes = iter([bytes.fromhex(digest) for digest in proof])
    classes = {
        label: leaf_hash(class_leaf(label, histogram[label], subset_root(histogram[label], leaves[label], hashes)))
        for label in sorted(leaves)
    }
    root = subset_root(len(histogram), classes, hashes)
    if next(hashes, None) is not None:
        raise ValueError("the proof is too long")
    return root.hex()
