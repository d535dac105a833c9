"""The bootstrap is the same for everybody, has the variance of the theory, and keeps classes and pairs together."""

import numpy as np
import pytest

from caskit.evaluate.bootstrap import Bootstrap, normal_interval, percentile_interval, resampled_means
from caskit.manifests.errors import InputError
from caskit.manifests.seeds import philox_words

LABELS = np.repeat(np.arange(4), [5, 40, 30, 25])
HITS = (np.random.default_rng(0).random(100) < np.array([0.2, 0.9, 0.5, 0.7])[LABELS]).astype(float)


def test_draws_are_those_that_the_documentation_says() -> None:
    labels, values = np.array([0, 0, 0, 1, 1]), np.array([1.0, 2.0, 4.0, 10.0, 20.0])
    means = resampled_means(values[:, None], labels, Bootstrap(replicates=100, seed=3))[:, 0]
    words = philox_words(Bootstrap(replicates=100, seed=3).key, "images", 0, 3 * 100)
    shares = (words >> np.uint64(11)).astype(float) * 2.0**-53
    for row, (first, second, third) in enumerate(shares.reshape(100, 3)):
        drawn = values[[int(first * 3), int(second * 3)]].mean() * 3 / 5 + values[3 + int(third * 2)] * 2 / 5
        assert means[row] == pytest.approx(drawn)


def test_the_same_seed_gives_the_same_and_another_seed_others(monkeypatch: pytest.MonkeyPatch) -> None:
    first = resampled_means(HITS[:, None], LABELS, Bootstrap(replicates=300))
    monkeypatch.setattr("caskit.evaluate.bootstrap._CHUNK", 7)  # how many are drawn at once decides nothing
    assert resampled_means(HITS[:, None], LABELS, Bootstrap(replicates=300)) == pytest.approx(first)
    assert (resampled_means(HITS[:, None], LABELS, Bootstrap(replicates=300, seed=1)) != first).any()


def test_the_variance_is_the_unbiased_stratified_one() -> None:
    replicates = resampled_means(HITS[:, None], LABELS, Bootstrap(replicates=20000))
    expected = sum(
        (n / 100) ** 2 * HITS[LABELS == label].var(ddof=1) / n for label, n in enumerate(np.bincount(LABELS))
    )
    assert replicates.var() == pytest.approx(expected, rel=0.04)
    assert replicates.mean() == pytest.approx(HITS.mean(), abs=0.002)


def test_classes_keep_their_share_and_columns_their_pairs() -> None:
    of_class = np.eye(4)[LABELS]
    assert resampled_means(of_class, LABELS, Bootstrap(replicates=100)) == pytest.approx(
        np.tile(of_class.mean(axis=0), (100, 1))
    )
    pair = resampled_means(np.column_stack([HITS, 1 - HITS]), LABELS, Bootstrap(replicates=100))
    assert pair.sum(axis=1) == pytest.approx(np.ones(100))


def test_classes_of_one_image_are_resampled_together() -> None:
    labels, values = np.arange(30), (np.arange(30) % 2).astype(float)
    replicates = resampled_means(values[:, None], labels, Bootstrap(replicates=5000))
    assert replicates.var() == pytest.approx(values.var(ddof=1) / 30, rel=0.1)
    alone = resampled_means(np.ones((1, 1)), np.array([7]), Bootstrap(replicates=100))
    assert (alone == 1).all()  # one image has no spread, and no error either


def test_intervals_of_replicates() -> None:
    replicates = np.linspace(0, 1, 1001)
    assert percentile_interval(replicates) == pytest.approx({"low": 0.025, "high": 0.975, "se": 0.2890}, rel=1e-3)
    assert normal_interval(0.6, replicates) == pytest.approx({"low": 0.0334, "high": 1.1666, "se": 0.2891}, abs=2e-4)
    assert normal_interval(0.1, replicates)["low"] == 0.0


@pytest.mark.parametrize(("options", "message"), [({"replicates": 10}, "allowed: 100..100000"), ({"seed": -1}, "0..9")])
def test_what_cannot_be_resampled(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Bootstrap(**options)
