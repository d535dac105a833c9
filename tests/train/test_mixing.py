import numpy as np
import pytest
import torch

from caskit.train.draws import Draws
from caskit.train.mixing import beta, mix, present

IMAGES = torch.rand(6, 3, 10, 12)
LABELS = torch.tensor([0, 1, 2, 0, 1, 0])


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_shares_follow_the_beta_law(alpha: float) -> None:
    """Mean 1/2, variance 1 / (4 (2 alpha + 1)), symmetric."""
    drawn = np.array([beta(alpha, Draws(0, "mix", 0, i)) for i in range(4000)])
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.025)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)
    assert np.quantile(drawn, 0.2) == pytest.approx(1 - np.quantile(drawn, 0.8), abs=0.02)


def test_mixup_is_a_sum_with_the_reverse() -> None:
    mixed, targets = mix(IMAGES, LABELS, 3, mixup=1.0, cutmix=0.0, draws=Draws(0, "mix", 0, 0))
    share = float(targets[1, 1])  # of label 1, whose partner has label 1 too
    assert share == 1
    share = float(targets[2, 2])
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * IMAGES + (1 - share) * IMAGES.flip(0))
    torch.testing.assert_close(targets[2], torch.tensor([1 - share, 0.0, share]))


def test_cutmix_pastes_one_box_and_counts_its_pixels() -> None:
    for number in range(20):
        mixed, targets = mix(IMAGES, LABELS, 3, mixup=0.0, cutmix=1.0, draws=Draws(0, "mix", 0, number))
        pasted = (mixed != IMAGES).any(dim=1)[2]
        rows, columns = pasted.any(dim=1).nonzero(), pasted.any(dim=0).nonzero()
        if len(rows):
            box = pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert bool(box.all())
            assert torch.equal(mixed[2][:, pasted], IMAGES[3][:, pasted])
        assert float(targets[2, 2]) == pytest.approx(1 - float(pasted.sum()) / 120)
        assert targets.sum(dim=1) == pytest.approx(1.0)


def test_of_two_kinds_each_part_takes_one() -> None:
    kinds = []
    for number in range(200):
        mixed, _ = mix(IMAGES, LABELS, 3, mixup=1.0, cutmix=1.0, draws=Draws(1, "mix", 0, number))
        from_either = ((mixed == IMAGES) | (mixed == IMAGES.flip(0))).all()
        kinds.append(bool(from_either))
    assert 0.35 < np.mean(kinds) < 0.65


def test_present_is_more_than_a_fifth() -> None:
    shares = torch.tensor([[0.2, 0.8], [0.21, 0.79], [0.0, 1.0]])
    assert present(shares).tolist() == [[0, 1], [1, 1], [0, 1]]
