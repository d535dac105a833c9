"""Augmented images follow from (seed, epoch, sample), whatever other threads of the process draw meanwhile."""

import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from caskit.train.presets import get_recipe
from caskit.train.randaugment import RandAugmenter

IDS = np.arange(24)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def busy_switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("busy_switching")
def test_threads_do_not_draw_from_each_other() -> None:
    augmenters = [RandAugmenter(get_recipe("rsb-a3"), seed, 3) for seed in range(4)]
    expected = [augmenter.apply(IMAGES, 2, IDS) for augmenter in augmenters]
    assert not np.array_equal(expected[0], expected[1]) and not np.array_equal(expected[0], IMAGES)
    states = random.getstate(), np.random.get_state()[1].tolist()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            found = list(threads.map(lambda augmenter: augmenter.apply(IMAGES, 2, IDS), augmenters))
            assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
