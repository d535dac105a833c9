import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caskit.manifests.errors import InputError
from caskit.manifests.quota import MAX_NUM, Quota, balanced, like

IMAGENET_NUM = 1_281_167


def imagenet_like(num_classes: int = 1000) -> tuple[int, ...]:
    """ImageNet's shape: most classes hold 1300 images, the rest between 732 and 1299."""
    random = np.random.default_rng(0)
    short = random.integers(732, 1300, size=104)
    histogram = np.full(num_classes, 1300)
    histogram[random.choice(num_classes, size=104, replace=False)] = short
    histogram[0] = 732
    return tuple(int(n) for n in histogram)


def prefix_counts(quota: Quota) -> np.ndarray:
    """Samples per class after 0, 1, ..., B whole blocks, counted from the blocks themselves: [B + 1, classes]."""
    counts = np.zeros((quota.num_blocks + 1, len(quota.histogram)), dtype=np.int64)
    for block in range(quota.num_blocks):
        counts[block + 1] = counts[block] + np.bincount(quota.block_labels(block), minlength=len(quota.histogram))
    return counts


def assert_prefixes_are_the_histogram_in_small(quota: Quota) -> None:
    counts = prefix_counts(quota)
    shares = np.outer(np.arange(quota.num_blocks + 1), quota.histogram) / quota.num_blocks
    assert np.abs(counts - shares).max() < 1
    assert tuple(counts[-1]) == quota.histogram


def test_every_prefix_of_an_imagenet_like_histogram_is_within_one_of_its_share() -> None:
    histogram = imagenet_like()
    assert min(histogram) == 732 and max(histogram) == 1300
    assert_prefixes_are_the_histogram_in_small(Quota(histogram=histogram, seed=3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=30).filter(any), st.integers(0, 2**53 - 1))
def test_every_prefix_of_a_random_histogram_is_within_one_of_its_share(histogram: list[int], seed: int) -> None:
    assert_prefixes_are_the_histogram_in_small(Quota(histogram=tuple(histogram), seed=seed))


def test_balanced_imagenet_gives_1281_or_1282_everywhere() -> None:
    quota = balanced(IMAGENET_NUM, 1000, seed=0)
    assert set(quota.histogram) == {1281, 1282}
    assert quota.num == IMAGENET_NUM


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(0, 300), st.integers(1, 300), st.integers(0, 1000))
def test_a_longer_balanced_replica_starts_with_the_shorter_one(classes: int, extra: int, more: int, seed: int) -> None:
    short, long = balanced(classes + extra, classes, seed), balanced(classes + extra + more, classes, seed)
    for ours, theirs in zip(short.assign(0, short.num), long.assign(0, short.num), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any), st.integers(0, 1000), st.data())
def test_random_access_equals_the_whole_order(histogram: list[int], seed: int, data: st.DataObject) -> None:
    quota = Quota(histogram=tuple(histogram), seed=seed)
    labels, ordinals = quota.assign(0, quota.num)
    start = data.draw(st.integers(0, quota.num - 1))
    stop = data.draw(st.integers(start + 1, quota.num))
    part_labels, part_ordinals = quota.assign(start, stop)
    np.testing.assert_array_equal(part_labels, labels[start:stop])
    np.testing.assert_array_equal(part_ordinals, ordinals[start:stop])
    for label, count in enumerate(histogram):  # the ordinals of a class count up from 0 in draw order
        np.testing.assert_array_equal(ordinals[labels == label], np.arange(count))


def test_blocks_are_ordered_by_the_seed() -> None:
    first, second = (Quota(histogram=(5,) * 50, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.block_labels(0), second.block_labels(0))
    assert not np.array_equal(first.block_labels(0), first.block_labels(1))
    assert sorted(first.block_labels(0)) == list(range(50))


def test_like_scales_by_largest_remainders() -> None:
    assert like((10, 20, 30), 0).histogram == (10, 20, 30)
    assert like((10, 20, 30), 0, num=30).histogram == (5, 10, 15)
    assert like((3, 3, 3), 0, num=4).histogram == (2, 1, 1)
    assert like((0, 3), 0, num=1).histogram == (0, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: balanced(9, 10, 0), "num is 9, fewer than the 10 classes"),
        (lambda: balanced(MAX_NUM + 1, 10, 0), "at most"),
        (lambda: balanced(10, 10, -1), "seed is -1"),
        (lambda: Quota(histogram=(), seed=0), "at least one class"),
        (lambda: Quota(histogram=(0, 0), seed=0), "one sample"),
        (lambda: like((1, 1000), 0, num=3), "class 0 would get no sample"),
    ],
)
def test_bad_quotas_are_refused(make, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        make()
