"""The ex-post density: per class a mixture of normals over the latent space, fitted after the autoencoder.

At a low beta the codes of real images do not fill the standard normal prior, and its samples decode to garbage. A
density fitted to the codes repairs that (Dai & Wipf 2019, section 4; Ghosh et al. 2020, section 4). One mixture per
class keeps the sampler class conditional.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caskit.gen.cvae.config import FitConfig

KMEANS_ROUNDS = 15
COVARIANCE_FLOOR = 1e-6  # of a variance; latent variances are near 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixtures:
    """One mixture of K normals with full covariances for each of C classes, over D dimensions.

    Attributes:
        weights: [C, K], rows sum to 1.
        means: [C, K, D].
        factors: [C, K, D, D], lower Cholesky factors of the covariances.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the tensors a checkpoint stores, float32; only the lower triangles of the factors."""
        rows, columns = np.tril_indices(self.means.shape[2])
        return {
            "mixture.weights": self.weights.float().contiguous(),
            "mixture.means": self.means.float().contiguous(),
            "mixture.factors": self.factors[:, :, rows, columns].float().contiguous(),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Mixtures":
        """Build mixtures from `to_tensors`, in float64."""
        means = tensors["mixture.means"].double()
        rows, columns = np.tril_indices(means.shape[2])
        factors = torch.zeros(*means.shape, means.shape[2], dtype=torch.float64)
        factors[:, :, rows, columns] = tensors["mixture.factors"].double()
        return cls(weights=tensors["mixture.weights"].double(), means=means, factors=factors)


class DensityTask:
    """Fits every class's mixture by expectation maximisation, as a task of the shared engine: a step is E, then M."""

    def __init__(self, means: Tensor, variances: Tensor, labels: Tensor, num_classes: int, config: FitConfig) -> None:
        """Take the codes of the images: means and variances, [N, latent_size] float64 each, and the labels, [N]."""
        self.num_steps = config.mixture_steps
        self._shrinkage = config.mixture_shrinkage
        self._points = [means[labels == label] for label in range(num_classes)]
        self._noise = [variances[labels == label].mean(dim=0) for label in range(num_classes)]
        self._fitted = []
        for points, noise in zip(self._points, self._noise, strict=True):
            nearest = initial_responsibilities(points, config.mixture_components, seed=config.seed)
            self._fitted.append(maximize(points, nearest, noise, shrinkage=self._shrinkage))

    @property
    def mixtures(self) -> Mixtures:
        """The mixtures as they stand."""
        weights, means, factors = (torch.stack(parts) for parts in zip(*self._fitted, strict=True))
        return Mixtures(weights=weights, means=means, factors=factors)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one step on every class; the loss is minus the codes' mean log density before it, nats per image."""
        total = 0.0
        for label, points in enumerate(self._points):
            joint = log_densities(points, *self._fitted[label])
            log_density = joint.logsumexp(dim=1, keepdim=True)
            total += float(log_density.sum())
            self._fitted[label] = maximize(
                points, (joint - log_density).exp(), self._noise[label], shrinkage=self._shrinkage
            )
        return {"loss": -total / sum(len(points) for points in self._points)}

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later step depends on."""
        mixtures = self.mixtures
        return {"weights": mixtures.weights, "means": mixtures.means, "factors": mixtures.factors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of `state_dict` back."""
        self._fitted = list(zip(state["weights"], state["means"], state["factors"], strict=True))


def log_densities(points: Tensor, weights: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Return log(weight x normal density), [N, K], of points [N, D] under the mixture of one class.

    Args:
        points: [N, D] float64.
        weights: [K].
        means: [K, D].
        factors: [K, D, D], lower triangular.
    """
    columns = []
    for weight, mean, factor in zip(weights, means, factors, strict=True):
        whitened = torch.linalg.solve_triangular(factor, (points - mean).T, upper=False)
        log_volume = factor.diagonal().log().sum() + 0.5 * points.shape[1] * math.log(2 * math.pi)
        columns.append(weight.log() - 0.5 * whitened.square().sum(dim=0) - log_volume)
    return torch.stack(columns, dim=1)


def initial_responsibilities(points: Tensor, num_components: int, *, seed: int) -> Tensor:
    """Assign points [N, D] to components by some rounds of k-means from random points; [N, K] of zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    centres = points[torch.randperm(len(points), generator=generator)[:num_components]].clone()
    nearest = torch.zeros(len(points), dtype=torch.int64)
    for _ in range(KMEANS_ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        for component in range(num_components):
            members = points[nearest == component]
            if len(members):
                centres[component] = members.mean(dim=0)
    return functional.one_hot(nearest, num_components).to(points.dtype)


def maximize(
    points: Tensor, responsibilities: Tensor, noise: Tensor, *, shrinkage: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights [K], means [K, D] and factors [K, D, D] that best explain one class: the M step.

    It is a maximum a posteriori estimate (Fraley & Raftery 2007): a covariance is drawn toward half the class's own
    as if `shrinkage` further points had shown it, so that a component of few points stays proper.

    Args:
        points: [N, D] float64, posterior means.
        responsibilities: [N, K] float64, rows sum to 1.
        noise: [D], the class's mean posterior variance: the aggregate posterior is wider by it than its means.
        shrinkage: weight of the prior covariance, in points.
    """
    counts = responsibilities.sum(dim=0) + 1e-9
    means = (responsibilities.T @ points) / counts[:, None]
    prior = 0.5 * torch.cov(points.T, correction=0)
    floor = torch.diag(noise + COVARIANCE_FLOOR)
    factors = []
    for component, count in enumerate(counts):
        centred = points - means[component]
        scatter = (centred * responsibilities[:, component : component + 1]).T @ centred
        factors.append(torch.linalg.cholesky((scatter + shrinkage * prior) / (count + shrinkage) + floor))
    return counts / counts.sum(), means, torch.stack(factors)
