"""Spectral normalisation (Miyato et al. 2018): a weight is divided by its largest singular value while training.

The value comes from one power iteration after every update of a network, not from one per forward pass: all parts of an
accumulated batch then see one weight, and the vectors u and v are part of the state that resumes. As u is iterated
last, `u^T W v = |W v|` is never negative. torch's own parametrisation iterates in every forward pass and multiplies in
half precision under autocast.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.orthogonal import LAYERS

FIRST_ITERATIONS = 15  # when u and v are random yet
FOLD_ITERATIONS = 200  # of a weight that is kept; they start where training left u and v


class SpectralNorm(nn.Module):
    """Divides a weight [outputs, ...] by `u^T W v`.

    Attributes:
        u, v: estimates of the first singular vectors, [outputs] and [the rest], moved by `iterate` alone.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        rows = weight.detach().flatten(1)
        self.epsilon = epsilon
        self.register_buffer("u", functional.normalize(rows.new_empty(len(rows)).normal_(), dim=0, eps=epsilon))
        self.register_buffer("v", functional.normalize(rows.new_empty(rows.shape[1]).normal_(), dim=0, eps=epsilon))
        self.iterate(weight, FIRST_ITERATIONS)

    @torch.no_grad()
    def iterate(self, weight: Tensor, num: int = 1) -> None:
        """Do power iterations for a weight."""
        rows = weight.flatten(1)
        for _ in range(num):
            self.v.copy_(functional.normalize(rows.T @ self.u, dim=0, eps=self.epsilon))
            self.u.copy_(functional.normalize(rows @ self.v, dim=0, eps=self.epsilon))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that is used. Gradients flow through the singular value, not through u and v."""
        with torch.autocast(weight.device.type, enabled=False):
            # Copies: another update may move u and v before this pass goes backward.
            sigma = self.u.clone() @ (weight.flatten(1) @ self.v.clone())
        return weight / sigma.clamp(min=self.epsilon)


def normalise(module: nn.Module, epsilon: float, *, keep: nn.Module | None = None) -> None:
    """Give every convolution, matrix and embedding of a module a spectral norm, `keep` excepted.

    A generator's embedding is not normalised in the published weights either.
    """
    for part in list(module.modules()):
        if isinstance(part, LAYERS) and part is not keep:
            parametrize.register_parametrization(part, "weight", SpectralNorm(part.weight, epsilon))


@torch.no_grad()
def iterate(module: nn.Module, num: int = 1) -> None:
    """Move u and v of all weights by power iterations."""
    for part in module.modules():
        if isinstance(part, LAYERS) and parametrize.is_parametrized(part, "weight"):
            held: Any = part.parametrizations
            held["weight"][0].iterate(held["weight"].original, num)


@torch.no_grad()
def folded(generator: GeneratorNetwork, iterations: int = FOLD_ITERATIONS) -> GeneratorNetwork:
    """Return a copy with plain weights, each divided by its largest singular value once and for all.

    u and v of an average of weights are those of the last weights, hence more iterations first.
    """
    source = copy.deepcopy(generator)
    iterate(source, iterations)
    plain = generator.plain()
    # Not torch's remove_parametrizations: it takes `weight` from a class that the copy shares with the original.
    for name, part in plain.named_modules():
        held = source.get_submodule(name)
        for kept in (*part._parameters, *part._buffers):
            if getattr(part, kept) is not None:
                getattr(part, kept).copy_(getattr(held, kept))
    return plain.to(generator.device).train(generator.training).requires_grad_(False)
