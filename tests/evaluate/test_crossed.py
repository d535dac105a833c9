"""Closed forms of the crossed variance, and coverage where seeds and images both vary."""

import numpy as np
import pytest
from scipy import stats

from caskit.evaluate.crossed import parts_of, student_interval


def test_one_classifier_has_the_stratified_variance_alone() -> None:
    labels = np.repeat([0, 1], [40, 60])
    values = np.random.default_rng(0).random((1, 100))
    parts = parts_of(values, labels)
    expected = sum((n / 100) ** 2 * values[0, labels == c].var(ddof=1) / n for c, n in ((0, 40), (1, 60)))
    assert (parts.mean, parts.variance) == pytest.approx((values.mean(), expected))
    assert parts.trainings is None and parts.degrees == pytest.approx(98)


def test_classifiers_that_agree_leave_the_images_and_equal_images_the_classifiers() -> None:
    labels = np.repeat([0, 1], 50)
    row = np.random.default_rng(0).random(100)
    alike = parts_of(np.tile(row, (4, 1)), labels)
    assert alike.variance == pytest.approx(parts_of(row[None], labels).variance)
    assert (alike.trainings, alike.interaction) == pytest.approx((0, 0), abs=1e-30)
    seeds = np.array([0.1, 0.4, 0.2])
    flat = parts_of(np.tile(seeds[:, None], (1, 100)), labels)
    assert flat.images == pytest.approx(0, abs=1e-30)
    assert flat.variance == pytest.approx(seeds.var(ddof=1) / 3) and flat.degrees == pytest.approx(2)


def test_the_parts_are_those_of_the_analysis_of_variance() -> None:
    values = np.random.default_rng(3).normal(size=(3, 50)) + np.random.default_rng(4).normal(size=(3, 1))
    parts = parts_of(values, np.zeros(50, dtype=np.int64))
    residual = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    interaction = (residual**2).sum() / (2 * 49)
    assert parts.images == pytest.approx(values.mean(axis=0).var(ddof=1) / 50)
    assert parts.trainings == pytest.approx(values.mean(axis=1).var(ddof=1) / 3)
    assert parts.interaction == pytest.approx(interaction / 150)


def test_noise_alone_is_counted_once() -> None:
    generator = np.random.default_rng(5)
    labels = np.repeat(np.arange(10), 20)
    found = [parts_of(generator.normal(size=(3, 200)), labels).variance for _ in range(300)]
    assert 1 / 600 < np.mean(found) < 1.5 / 600  # never below either part, so above the truth here, never below


def test_intervals_are_students() -> None:
    low, high = stats.t.interval(0.95, 2, loc=3, scale=0.5)
    assert student_interval(3, 0.25, 2) == pytest.approx({"low": low, "high": high, "se": 0.5})
    assert student_interval(3, 0.0, 2) == {"low": 3.0, "high": 3.0, "se": 0.0}
