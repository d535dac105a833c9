"""The mixtures: densities against torch's own, a density that is recovered, and the stored form."""

import itertools

import numpy as np
import torch

from caskit.gen.cvae.config import FitConfig
from caskit.gen.cvae.density import DensityTask, Mixtures, initial_responsibilities, log_densities, maximize


def random_factors(*shape: int) -> torch.Tensor:
    lower = torch.tril(torch.randn(*shape, shape[-1], dtype=torch.float64) * 0.3)
    return lower + torch.eye(shape[-1], dtype=torch.float64)


def two_clouds(num: int) -> torch.Tensor:
    points = torch.randn(num, 3, dtype=torch.float64) * torch.tensor([0.5, 0.1, 1.0], dtype=torch.float64)
    points[: num // 4, 0] += 6.0
    return points


def test_log_densities_equal_torch_distributions() -> None:
    torch.manual_seed(0)
    points, means, factors = torch.randn(7, 3).double(), torch.randn(2, 3).double(), random_factors(2, 3)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    reference = torch.distributions.MultivariateNormal(means, scale_tril=factors).log_prob(points[:, None])
    torch.testing.assert_close(log_densities(points, weights, means, factors), reference + weights.log())


def test_one_component_is_the_sample_mean_and_covariance_plus_noise() -> None:
    torch.manual_seed(0)
    points = two_clouds(500)
    noise = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    weights, means, factors = maximize(points, torch.ones(500, 1, dtype=torch.float64), noise, shrinkage=1e-9)
    torch.testing.assert_close(weights, torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(means[0], points.mean(0))
    expected = torch.cov(points.T, correction=0) + torch.diag(noise)
    torch.testing.assert_close(factors[0] @ factors[0].T, expected, atol=2e-6, rtol=1e-5)


def test_steps_raise_the_likelihood_and_find_the_clouds() -> None:
    torch.manual_seed(0)
    points, labels = two_clouds(800), torch.zeros(800, dtype=torch.int64)
    config = FitConfig(preset="x", mixture_components=2, mixture_steps=15, mixture_shrinkage=0.01)
    task = DensityTask(points, torch.zeros_like(points), labels, 1, config)
    losses = [float(task.step(step)["loss"]) for step in range(task.num_steps)]
    assert all(later <= earlier + 1e-3 for earlier, later in itertools.pairwise(losses))
    mixtures = task.mixtures
    far = int(mixtures.means[0, :, 0].argmax())
    assert abs(float(mixtures.weights[0, far]) - 0.25) < 0.01
    assert abs(float(mixtures.means[0, far, 0]) - 6.0) < 0.2


def test_a_component_of_one_point_stays_proper() -> None:
    torch.manual_seed(0)
    points = two_clouds(50)
    points[0] = 100.0
    nearest = initial_responsibilities(points, 8, seed=0)
    assert nearest.shape == (50, 8)
    assert bool((nearest.sum(1) == 1).all())
    _, _, factors = maximize(points, nearest, torch.zeros(3, dtype=torch.float64), shrinkage=3.0)
    assert bool(torch.isfinite(factors).all())
    assert float(factors.diagonal(dim1=1, dim2=2).min()) > 0


def test_stored_form_keeps_the_mixtures() -> None:
    torch.manual_seed(0)
    mixtures = Mixtures(
        weights=torch.tensor([[0.25, 0.75]], dtype=torch.float64),
        means=torch.randn(1, 2, 3, dtype=torch.float64),
        factors=random_factors(1, 2, 3),
    )
    tensors = mixtures.to_tensors()
    assert tensors["mixture.factors"].shape == (1, 2, 6)
    again = Mixtures.from_tensors(tensors)
    np.testing.assert_allclose(again.factors.numpy(), mixtures.factors.numpy(), rtol=1e-6)
    np.testing.assert_allclose(again.means.numpy(), mixtures.means.numpy(), rtol=1e-6)
    np.testing.assert_allclose(again.weights.numpy(), mixtures.weights.numpy(), rtol=1e-6)
