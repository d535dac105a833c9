"""Orthogonal initial weights, and the regularisation that keeps a generator's filters unlike each other.

Brock et al. 2019, section 3.1: `R = beta ||W^T W * (1 - I)||_F^2`, W's columns being filters, which leaves their norms
alone. torch's weights hold filters in rows, so here it is W W^T. ajbrock/BigGAN-PyTorch adds half of R's gradient
(its strength is twice this one), and like it we take the raw weights, before they are divided by their spectral norm.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

LAYERS = (nn.Conv2d, nn.Linear, nn.Embedding)


@torch.no_grad()
def draw_weights(module: nn.Module) -> None:
    """Draw all convolutions, matrices and embeddings orthogonal (Saxe et al. 2014); biases become zero."""
    for part in module.modules():
        if isinstance(part, LAYERS):
            nn.init.orthogonal_(part.weight)
            if getattr(part, "bias", None) is not None:
                nn.init.zeros_(part.bias)  # type: ignore[arg-type]


def penalty(weight: Tensor) -> Tensor:
    """Return `||W W^T * (1 - I)||_F^2` of a weight [outputs, ...], whose rows are filters."""
    return _off_diagonal(weight.flatten(1)).square().sum()


def penalty_gradient(weight: Tensor) -> Tensor:
    """Return the gradient of `penalty`, `4 (W W^T * (1 - I)) W`, of the shape of the weight [outputs, ...]."""
    rows = weight.flatten(1)
    return (4 * _off_diagonal(rows) @ rows).view_as(weight)


def _off_diagonal(rows: Tensor) -> Tensor:
    products = rows @ rows.T
    return products - torch.diag(products.diagonal())


def regularised(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the weights that the penalty is for: all matrices and kernels but those of embeddings."""
    embeddings = {id(p) for part in module.modules() if isinstance(part, nn.Embedding) for p in part.parameters()}
    for parameter in module.parameters():
        if parameter.ndim > 1 and id(parameter) not in embeddings:
            yield parameter


@torch.no_grad()
def add_gradients(module: nn.Module, strength: float) -> None:
    """Add the gradient of `strength` times the penalties of all weights to what the backward pass left."""
    if strength == 0:
        return
    for parameter in regularised(module):
        assert parameter.grad is not None, "regularised before the backward pass"
        parameter.grad.add_(penalty_gradient(parameter), alpha=strength)
