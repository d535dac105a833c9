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
