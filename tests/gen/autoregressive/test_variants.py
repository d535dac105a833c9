"""Shifts are enumerated with none first, move pixels, and are drawn as a pure function of seed and step."""

import numpy as np
import pytest

from caskit.gen.autoregressive.variants import PLAIN_SHARE, draw_variants, shift_offsets, shifted


def test_no_shift_is_the_first_of_all_shifts() -> None:
    assert shift_offsets(0) == [(0, 0)]
    offsets = shift_offsets(2)
    assert offsets[0] == (0, 0) and len(offsets) == len(set(offsets)) == 25
    assert {abs(part) for offset in offsets for part in offset} == {0, 1, 2}


@pytest.mark.parametrize("offset", shift_offsets(2))
def test_a_shift_moves_pixels_and_repeats_the_edge(offset: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(2, 5, 6, 3)).astype(np.uint8)
    down, right = offset
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    assert (shifted(images, offset) == padded[:, 2 - down : 7 - down, 2 - right : 8 - right]).all()


def test_variants_are_drawn_by_seed_and_step_alone_with_a_share_for_the_first() -> None:
    assert (draw_variants(1, 2, 5, 1) == 0).all()
    drawn = np.concatenate([draw_variants(7, step, 500, 9) for step in range(40)])
    assert (draw_variants(7, 3, 500, 9) == drawn[1500:2000]).all()
    assert (draw_variants(8, 3, 500, 9) != drawn[1500:2000]).any()
    shares = np.bincount(drawn, minlength=9) / len(drawn)
    expected = (1 - PLAIN_SHARE) / 9 + PLAIN_SHARE * (np.arange(9) == 0)
    assert np.abs(shares - expected).max() < 0.01  # about four standard deviations of 20,000 draws
