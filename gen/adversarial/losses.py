"""The hinge losses (Lim & Ye 2017; Tran et al. 2017) that Brock et al. 2019 train with."""

import torch
from torch import Tensor
from torch.nn import functional


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of max(0, 1 - D(x)) over scores of real images, plus that of max(0, 1 + D(G(z))) over others'."""
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Return the mean of -D(G(z))."""
    return -fake.mean()


def saturation(real: Tensor, fake: Tensor) -> Tensor:
    """Return the share of scores beyond the hinge, from which the discriminator gets no gradient."""
    return torch.cat((real > 1, fake < -1)).float().mean()
