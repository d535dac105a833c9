"""A codebook follows its encodings, counts what it does, and comes back from a bad start only with revival."""

import numpy as np
import pytest
import torch

from caskit.gen.autoregressive.codebook import Codebook, perplexity
from caskit.train.engine import ALONE


def clusters(num: int = 512, *, seed: int = 0) -> torch.Tensor:
    """Points around the 16 corners of a cube in four dimensions."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)
    chosen = torch.randint(16, (num,), generator=generator)
    return corners[chosen] + 0.05 * torch.randn(num, 4, generator=generator)


def bad_start(*, revive_below: float) -> Codebook:
    """All vectors far away on one side but one, which therefore wins every point."""
    codebook = Codebook(16, 4, decay=0.95, revive_below=revive_below)
    codebook.weight.fill_(100.0)
    codebook.weight[0] = 0.0
    codebook.counts.fill_(32.0)
    codebook.sums.copy_(codebook.weight * 32)
    codebook.started.fill_(True)
    return codebook


def used_after(codebook: Codebook, num_steps: int, *, reviving: bool) -> int:
    """Return how many codes the points use after some steps."""
    torch.manual_seed(0)
    for step in range(num_steps):
        points = clusters(seed=step)
        codebook.update(points, codebook.nearest(points), ALONE)
        if reviving and step % 10 == 9:
            codebook.revive(points[torch.randint(len(points), (16,))])
    return len(codebook.nearest(clusters(seed=999)).unique())


def test_nearest_is_the_nearest() -> None:
    torch.manual_seed(0)
    codebook = Codebook(32, 5, decay=0.99, revive_below=0.0)
    vectors = torch.randn(3, 7, 5)
    distances = (vectors[..., None, :] - codebook.weight).square().sum(dim=-1)
    assert torch.equal(codebook.nearest(vectors), distances.argmin(dim=-1))


def test_a_bad_start_collapses_without_revival_and_recovers_with_it() -> None:
    assert used_after(bad_start(revive_below=0.0), 120, reviving=False) == 1
    # Two codes may share one corner and one code serve two: a local optimum of k-means, not a collapse.
    assert used_after(bad_start(revive_below=0.1), 120, reviving=True) >= 15


def test_a_start_from_data_uses_what_the_data_has() -> None:
    torch.manual_seed(0)
    codebook = Codebook(16, 4, decay=0.9, revive_below=0.1)
    points = clusters()
    codebook.start(points[torch.randperm(len(points))[:16]], len(points))
    assert codebook.started
    assert len(codebook.nearest(points).unique()) >= 8
    assert used_after(codebook, 100, reviving=True) == 16


def test_update_is_the_moving_average_of_the_encodings() -> None:
    codebook = Codebook(2, 1, decay=0.75, revive_below=0.0)
    codebook.weight.copy_(torch.tensor([[0.0], [10.0]]))
    codebook.counts.copy_(torch.tensor([4.0, 4.0]))
    codebook.sums.copy_(torch.tensor([[0.0], [40.0]]))
    counts = codebook.update(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1]), ALONE)
    assert counts.tolist() == [2, 1]
    assert codebook.counts.tolist() == [0.75 * 4 + 0.25 * 2, 0.75 * 4 + 0.25 * 1]
    assert codebook.weight[:, 0].tolist() == pytest.approx([0.75 / 3.5, (30 + 0.75) / 3.25], rel=1e-4)


def test_perplexity_is_the_number_of_codes_used_alike() -> None:
    assert perplexity(torch.full((64,), 5.0)).item() == pytest.approx(64)
    assert perplexity(torch.tensor([3.0, 0.0, 0.0])).item() == pytest.approx(1)
    counts = torch.tensor([1.0, 3.0])
    assert perplexity(counts).item() == pytest.approx(np.exp(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75))))
