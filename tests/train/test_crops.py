import dataclasses
import math

import numpy as np
import pytest

from caskit.train.crops import Box, Cropper, centre_box, inception_box, uniform_area_box
from caskit.train.draws import Draws
from caskit.train.presets import cas_resnet50
from caskit.train.resampling import resize

NUM = 3000


def boxes(kind: str, height: int, width: int, area: tuple[float, float] = (0.08, 1.0)) -> list[Box]:
    draw = {"inception": inception_box, "uniform-area": uniform_area_box}[kind]
    found = [draw(height, width, area, Draws(0, "crop", 0, sample)) for sample in range(NUM)]
    return [box for box in found if box is not None]


def test_tests_cut_out_the_centre_as_published() -> None:
    """_decode_and_center_crop: side int(224 / (224 + 32) * min), offsets ((size - side) + 1) // 2."""
    for height, width in ((500, 375), (375, 500), (256, 256), (97, 333), (8, 9)):
        side = int(224 / 256 * min(height, width))
        box = centre_box(height, width, cas_resnet50().eval_crop)
        assert box == Box(top=(height - side + 1) // 2, left=(width - side + 1) // 2, height=side, width=side)


@pytest.mark.parametrize("kind", ["inception", "uniform-area"])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (128, 128), (500, 120)])
def test_crops_are_inside_with_the_published_areas_and_aspects(kind: str, height: int, width: int) -> None:
    found = boxes(kind, height, width)
    assert len(found) > 0.9 * NUM
    for box in found:
        assert 0 <= box.top <= box.top + box.height <= height
        assert 0 <= box.left <= box.left + box.width <= width
        slack = 1 / min(box.height, box.width)  # of rounding to pixels
        assert 3 / 4 * (1 - slack) <= box.width / box.height <= 4 / 3 * (1 + slack)
        assert 0.08 * (1 - 2 * slack) <= box.height * box.width / (height * width) <= 1
    if kind == "inception":
        assert min(box.height * box.width for box in found) >= 0.1 * height * width, "min_object_covered"


def test_uniform_area_has_a_uniform_area_and_inception_a_uniform_height() -> None:
    areas = np.array([b.height * b.width for b in boxes("uniform-area", 1000, 1000, (0.1, 0.5))]) / 1e6
    assert np.quantile(areas, [0.25, 0.5, 0.75]) == pytest.approx([0.2, 0.3, 0.4], abs=0.015)
    found = boxes("inception", 1000, 1000, (0.1, 0.5))
    lowest, highest = math.sqrt(0.1), math.sqrt(0.5)
    heights = np.array([b.height / 1000 * math.sqrt(b.width / b.height) for b in found])
    middle = np.quantile((heights - lowest) / (highest - lowest), [0.25, 0.5, 0.75])
    assert middle == pytest.approx([0.25, 0.5, 0.75], abs=0.03)
    aspects = np.array([b.width / b.height for b in found])
    assert aspects.mean() == pytest.approx((3 / 4 + 4 / 3) / 2, abs=0.01), "uniform, not its logarithm"
    logs = np.log([b.width / b.height for b in boxes("uniform-area", 1000, 1000, (0.1, 0.5))])
    assert logs.mean() == pytest.approx(0, abs=0.01)


def test_where_no_crop_fits_the_centre_is_taken() -> None:
    assert inception_box(400, 20, (0.9, 1.0), Draws(0, "crop", 0, 0)) is None
    box = uniform_area_box(400, 20, (0.9, 1.0), Draws(0, "crop", 0, 0))
    assert box == Box(top=(400 - 27) // 2, left=0, height=27, width=20)
    recipe = cas_resnet50()
    tall = np.random.default_rng(0).integers(0, 256, (400, 3, 3), dtype=np.uint8)
    seen = Cropper(recipe, seed=0).apply([tall], 0, np.array([5]))
    side = int(0.875 * 3)
    top, left = (400 - side + 1) // 2, (3 - side + 1) // 2
    assert np.array_equal(seen[0], resize(tall[top : top + side, left : left + side], 224, "bicubic-tf1"))


def test_a_crop_depends_on_seed_epoch_and_sample_alone() -> None:
    images = [np.random.default_rng(i).integers(0, 256, (40 + i, 50, 3), dtype=np.uint8) for i in range(6)]
    cropper, ids = Cropper(cas_resnet50(), seed=4), np.arange(6)
    whole = cropper.apply(images, 2, ids)
    assert whole.shape == (6, 224, 224, 3)
    some = Cropper(cas_resnet50(), seed=4).apply([images[4], images[1]], 2, np.array([4, 1]))
    assert np.array_equal(some, whole[[4, 1]])
    for other in (cropper.apply(images, 3, ids), Cropper(cas_resnet50(), seed=5).apply(images, 2, ids)):
        assert not np.array_equal(other, whole)


def test_draws_are_uniform_and_long() -> None:
    draws = Draws(0, "crop", 1, 2)
    numbers = [draws.uniform() for _ in range(1000)]
    assert len(set(numbers)) == 1000 and 0 <= min(numbers) and max(numbers) < 1
    assert np.mean(numbers) == pytest.approx(0.5, abs=0.03)
    again = Draws(0, "crop", 1, 2)
    assert [again.uniform() for _ in range(1000)] == numbers
    assert {draws.below(3) for _ in range(50)} == {0, 1, 2}
    assert Draws(0, "mix", 1, 2).word() != Draws(0, "crop", 1, 2).word() != Draws(0, "crop", 2, 1).word()


def test_a_crop_is_reduced_as_far_as_it_keeps_the_resolution() -> None:
    recipe = dataclasses.replace(cas_resnet50(), resolution=32, decode="reduced")
    cropper = Cropper(recipe, seed=0)
    sides = [(63, 500, 1), (64, 64, 2), (127, 200, 2), (128, 255, 4), (256, 300, 8), (9999, 9999, 8), (20, 20, 1)]
    found = [Box(top=5, left=9, height=height, width=width) for height, width, _ in sides]
    assert cropper.scales(found).tolist() == [scale for _, _, scale in sides]
    for box, scale in zip(found, cropper.scales(found).tolist(), strict=True):
        small = box.over(scale)
        assert (small.top, small.left) == (5 // scale, 9 // scale)
        assert abs(small.height * scale - box.height) <= scale / 2 and abs(small.width * scale - box.width) <= scale / 2
        if scale > 1:
            assert min(small.height, small.width) >= 32
