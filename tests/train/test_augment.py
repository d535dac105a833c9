import numpy as np
import pytest

from caskit.manifests.errors import InputError
from caskit.train.augment import Augmenter

IDS = np.arange(200)
IMAGES = np.random.default_rng(0).integers(1, 256, (200, 6, 5, 3), dtype=np.uint8)


def moved_by_hand(image: np.ndarray, flip: bool, down: int, right: int) -> np.ndarray:
    height, width, _ = image.shape
    image = image[:, ::-1] if flip else image
    result = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                result[y, x] = image[y - down, x - right]
    return result


@pytest.mark.parametrize("flip", ["none", "random", "alternate"])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_equals_the_definition(flip: str, shift: int) -> None:
    augmenter = Augmenter(200, 7, flip=flip, shift=shift)
    for epoch in (0, 1, 5):
        augmented = augmenter.apply(IMAGES, epoch, IDS)
        flips, (down, right) = augmenter.flips(epoch, IDS), augmenter.shifts(epoch, IDS)
        for i in range(0, 200, 9):
            assert np.array_equal(augmented[i], moved_by_hand(IMAGES[i], flips[i], down[i], right[i]))


def test_an_image_depends_on_its_sample_and_epoch_alone() -> None:
    augmenter = Augmenter(200, 7, flip="random", shift=2)
    whole = augmenter.apply(IMAGES, 4, IDS)
    some = np.array([150, 3, 77])
    again = Augmenter(200, 7, flip="random", shift=2).apply(IMAGES[some], 4, some)
    assert np.array_equal(whole[some], again)


def test_draws_are_fair() -> None:
    augmenter = Augmenter(20000, 1, flip="random", shift=2)
    ids = np.arange(20000)
    down, right = augmenter.shifts(0, ids)
    for moves in (down, right):
        counts = np.bincount(moves + 2, minlength=5)
        assert len(counts) == 5
        assert abs(counts - 4000).max() < 300  # 5 standard deviations
    assert abs(augmenter.flips(0, ids).mean() - 0.5) < 0.02
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.04
    assert abs((augmenter.flips(0, ids) == augmenter.flips(1, ids)).mean() - 0.5) < 0.02


def test_alternate_shows_both_sides_in_two_epochs() -> None:
    augmenter = Augmenter(200, 1, flip="alternate", shift=0)
    flips = [augmenter.flips(epoch, IDS) for epoch in range(4)]
    assert np.array_equal(flips[0], ~flips[1])
    assert np.array_equal(flips[0], flips[2])
    assert 60 < flips[0].sum() < 140


def test_unknown_settings() -> None:
    with pytest.raises(InputError, match="flip is 'up', allowed: none, random, alternate"):
        Augmenter(1, 0, flip="up", shift=0)
    with pytest.raises(InputError, match="shift is -1"):
        Augmenter(1, 0, flip="none", shift=-1)
