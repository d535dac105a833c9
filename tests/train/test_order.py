import numpy as np
import pytest

from caskit.train.order import Order, epoch_order, epoch_words


@pytest.mark.parametrize("num", [1, 7, 1000])
def test_an_epoch_is_a_permutation(num: int) -> None:
    assert sorted(epoch_order(3, 2, num).tolist()) == list(range(num))


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_order(seed, epoch, 50).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_words_of_a_sample_do_not_depend_on_the_size_of_the_set() -> None:
    assert np.array_equal(epoch_words(1, 2, "augment", 10), epoch_words(1, 2, "augment", 1000)[:10])


@pytest.mark.parametrize(("num", "batch_size"), [(10, 3), (10, 10), (3, 10), (256, 32)])
def test_steps_walk_through_the_epochs(num: int, batch_size: int) -> None:
    order = Order(num, batch_size, seed=5)
    seen: dict[int, list[int]] = {}
    for step in range(4 * num // batch_size + 1):
        parts = order.batch(step)
        assert sum(len(ids) for _, ids in parts) == batch_size
        for epoch, ids in parts:
            seen.setdefault(epoch, []).extend(ids.tolist())
    for epoch in range(4):
        assert seen[epoch] == epoch_order(5, epoch, num).tolist()


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    walked, jumped = Order(10, 4, seed=1), Order(10, 4, seed=1)
    batches = [walked.batch(step) for step in range(20)]
    for step in (19, 3, 11):
        for (epoch, ids), (other_epoch, other_ids) in zip(batches[step], jumped.batch(step), strict=True):
            assert epoch == other_epoch
            assert np.array_equal(ids, other_ids)


@pytest.mark.parametrize(("num", "block", "window"), [(1000, 16, 4), (10, 3, 2), (5, 8, 3), (64, 1, 1), (64, 64, 1)])
def test_an_order_by_blocks_is_a_permutation_of_whole_blocks_in_every_window(num: int, block: int, window: int) -> None:
    for epoch in range(3):
        order = epoch_order(3, epoch, num, block=block, window=window)
        assert sorted(order.tolist()) == list(range(num))
        start, seen = 0, set[int]()
        while start < num:
            first: list[int] = []
            for sample in order[start:].tolist():  # the blocks of this window, by what comes first
                if sample // block not in first:
                    if len(first) == window:
                        break
                    first.append(sample // block)
            members = {sample for place in first for sample in range(place * block, min(num, (place + 1) * block))}
            assert set(order[start : start + len(members)].tolist()) == members
            assert not seen & members
            seen |= members
            start += len(members)


def test_orders_by_blocks_differ_between_epochs_and_shuffle_inside_and_out() -> None:
    first, second = (epoch_order(0, epoch, 4096, block=32, window=8) for epoch in (0, 1))
    assert not np.array_equal(first, second)
    windows = [frozenset((order[:256] // 32).tolist()) for order in (first, second)]
    assert windows[0] != windows[1] and all(len(window) == 8 for window in windows)
    assert np.abs(np.diff(first[:256])).mean() > 32, "samples of several blocks alternate"


def test_one_window_over_all_blocks_is_a_full_shuffle() -> None:
    assert np.array_equal(epoch_order(4, 1, 100, block=7, window=15), epoch_order(4, 1, 100))


def test_windows_name_what_the_next_steps_see() -> None:
    order = Order(200, 8, seed=2, block=10, window=3)
    told = {window: ids for step in range(50) for window, ids in order.windows(step)}
    assert {epoch for epoch, _ in told} == {0, 1, 2}, "after the last window of an epoch the next one's first"
    for epoch in (0, 1):
        ids = np.concatenate([told[epoch, place] for place in range(7)])
        assert np.array_equal(ids, epoch_order(2, epoch, 200, block=10, window=3))
    for step in range(50):
        coming = {(epoch, sample) for (epoch, _), ids in order.windows(step) for sample in ids.tolist()}
        assert {(epoch, sample) for epoch, ids in order.batch(step) for sample in ids.tolist()} <= coming
