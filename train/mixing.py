"""Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019) of a part of a batch with its own reverse, as timm does."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from caskit.train.draws import Draws


def beta(alpha: float, draws: Draws) -> float:
    """Draw from Beta(alpha, alpha), 0 < alpha <= 1, by Jöhnk's method in logarithms, as small alphas underflow."""
    while True:
        first, second = (math.log1p(-draws.uniform()) / alpha for _ in range(2))
        top = max(first, second)
        both = top + math.log1p(math.exp(min(first, second) - top))
        if both <= 0:
            return math.exp(first - both)


def mix(
    images: Tensor, labels: Tensor, num_classes: int, *, mixup: float, cutmix: float, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Mix each image with the one as far from the end as it is from the beginning, all in one way.

    Args:
        images: [n, C, H, W] float32.
        labels: [n] int64.
        num_classes: of the labels.
        mixup: its alpha, 0 for none.
        cutmix: its alpha; one of them is not 0, of two a fair coin takes one.
        draws: of this part of the step.

    Returns:
        Mixed images, and targets [n, num_classes] float32 that sum to 1: shares of the image, for CutMix by pixels.
    """
    targets = functional.one_hot(labels, num_classes).float()
    cut = cutmix > 0 and (mixup == 0 or draws.uniform() < 0.5)
    share = beta(cutmix if cut else mixup, draws)
    if cut:
        images, share = _cut(images, share, draws)
    else:
        images = share * images + (1 - share) * images.flip(0)
    return images, share * targets + (1 - share) * targets.flip(0)


def _cut(images: Tensor, share: float, draws: Draws) -> tuple[Tensor, float]:
    """Paste a box of about 1 - share of the pixels, centred anywhere, cut off at the edges; also return what stays."""
    height, width = images.shape[2:]
    side = math.sqrt(1 - share)
    tall, wide = int(height * side), int(width * side)
    row, column = draws.below(height), draws.below(width)
    top, bottom = max(0, row - tall // 2), min(height, row + (tall + 1) // 2)
    left, right = max(0, column - wide // 2), min(width, column + (wide + 1) // 2)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def present(targets: Tensor) -> Tensor:
    """Return targets for the binary loss: 1 for every class that makes more than a fifth of a mixed image."""
    return torch.gt(targets, 0.2).float()
