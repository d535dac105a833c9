"""Standing statistics (Brock et al. 2019, appendix D): means and variances of a generator's norms over many samples.

The published generators use, in place of the moments of a batch, averages over many batches of samples whose z has the
law of the samples to come, so that an image does not depend on the others beside it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.norm import Norm

Moments = dict[str, tuple[Tensor, Tensor]]


def norms(generator: GeneratorNetwork) -> dict[str, Norm]:
    """Return the norms of a generator by their names in it."""
    return {name: module for name, module in generator.named_modules() if isinstance(module, Norm)}


@contextmanager
def batch_moments_used(generator: GeneratorNetwork) -> Iterator[None]:
    """Let the norms of a generator use the moments of the batch inside the block, all else staying as it is."""
    before = {norm: norm.training for norm in norms(generator).values()}
    for norm in before:
        norm.training = True
    try:
        yield
    finally:
        for norm, training in before.items():
            norm.training = training


@torch.no_grad()
def standing_moments(generator: GeneratorNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> Moments:
    """Return mean and variance, [C] float64 each on the CPU, of what every norm sees, by the norm's name.

    They are those of all samples together: batch means and second moments are added up in float64, weighted by the
    size of the batch. While they are computed the norms use the moments of each batch, as in training; the tables are
    neither read nor written.

    Args:
        generator: on any device.
        batches: (latents [N, latent_size], labels [N]) pairs on its device.
    """
    sums: dict[str, Tensor] = {}

    def adding(name: str) -> Callable[[Tensor, Tensor], None]:
        def add(mean: Tensor, variance: Tensor) -> None:
            first, second = mean.double().cpu(), variance.double().cpu()
            part = weights[-1] * torch.stack((first, second + first.square()))
            sums[name] = sums[name] + part if name in sums else part

        return add

    weights: list[int] = []
    found = norms(generator)
    before = {name: norm.observe for name, norm in found.items()}
    try:
        for name, norm in found.items():
            norm.observe = adding(name)
        with batch_moments_used(generator):
            for latents, labels in batches:
                weights.append(len(latents))
                generator(latents, labels)
    finally:
        for name, norm in found.items():
            norm.observe = before[name]
    weight = sum(weights)
    assert weight, "standing statistics need a batch"
    means = {name: total / weight for name, total in sums.items()}
    return {name: (mean, (second - mean.square()).clamp(min=0)) for name, (mean, second) in means.items()}


@torch.no_grad()
def write_moments(generator: GeneratorNetwork, moments: Moments, row: int = 0) -> None:
    """Write standing statistics into a row of the norms' tables."""
    for name, norm in norms(generator).items():
        norm.means[row], norm.variances[row] = moments[name]
