"""The discrete autoencoders of the hierarchy: encoder, codes, and the auxiliary decoder that both are trained through.

De Fauw, Dieleman & Simonyan 2019 (arXiv 1903.04933). A level encodes the image or, stacked, the codes of the level
below. An autoregressive decoder could fill in any detail by itself, and nothing would then make the codes hold the
structure; so the encoder never gets a gradient from it. An auxiliary decoder of either kind gives all gradients:

- FeedForward decodes the codes in one pass. With a squared error (of pixels) or independent probabilities (of codes) it
  cannot use codes on detail that it cannot place exactly.
- MaskedPrediction gets the codes of a box only, and the encoder's features of an image in which that box is masked, and
  predicts the encoder's features inside. What can be told from around the box need not be in the codes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.autoregressive.codebook import Codebook
from caskit.gen.autoregressive.layers import enlarged
from caskit.gen.autoregressive.residual import Residual
from caskit.gen.ham.config import MSP, LevelConfig

FEATURES_EPSILON = 1e-4  # of a variance
COVARIANCE_WEIGHT = 0.04  # beside the variances' (Bardes et al. 2022, section 4.2: 1 to 25)


def _residuals(config: LevelConfig) -> list[nn.Module]:
    return [Residual(config.channels, config.residual_channels) for _ in range(config.residual_blocks)]


def _encoder(inputs: int, config: LevelConfig) -> nn.Sequential:
    """Return a stack that divides the sides by the stride, halving them again and again."""
    half, full = max(config.channels // 2, 1), config.channels
    down: list[nn.Module] = [nn.Conv2d(inputs, half, 4, 2, padding=1), nn.ReLU()]
    width = half
    for _ in range(config.stride.bit_length() - 2):
        down += [nn.Conv2d(width, full, 4, 2, padding=1), nn.ReLU()]
        width = full
    return nn.Sequential(*down, nn.Conv2d(width, full, 3, padding=1), *_residuals(config))


class FeedForward(nn.Module):
    """Codes to what was encoded, in one pass: pixels, or logits of the codes below."""

    def __init__(self, outputs: int, config: LevelConfig) -> None:
        super().__init__()
        half, full = max(config.channels // 2, 1), config.channels
        up: list[nn.Module] = []
        width = full
        for left in reversed(range(config.stride.bit_length() - 1)):
            narrower = outputs if left == 0 else half
            up += [nn.ConvTranspose2d(width, narrower, 4, 2, padding=1), *([nn.ReLU()] if left else [])]
            width = narrower
        self.layers = nn.Sequential(
            nn.Conv2d(config.code_size, full, 3, padding=1), *_residuals(config), nn.ReLU(), *up
        )

    def forward(self, quantised: Tensor) -> Tensor:
        """[N, D, h, w] to [N, outputs, H, W]."""
        out: Tensor = self.layers(quantised)
        return out


class MaskedPrediction(nn.Module):
    """Codes of a box and features of the masked input to the features inside the box."""

    def __init__(self, config: LevelConfig) -> None:
        super().__init__()
        full = config.channels
        self.layers = nn.Sequential(
            nn.Conv2d(config.code_size + full + 1, full, 3, padding=1),
            *_residuals(config),
            nn.ReLU(),
            nn.Conv2d(full, full, 1),
        )

    def forward(self, quantised: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """[N, D, h, w], [N, C, h, w] and [N, 1, h, w], 1 inside the box, to [N, C, h, w]."""
        out: Tensor = self.layers(torch.cat([quantised * mask, context.relu(), mask], dim=1))
        return out


class LevelNetwork(nn.Module):
    """Encoder, codebook and auxiliary decoder of one level.

    Level 1 reads images, float [N, C, H, W] in -1..1; a higher one the codes below, [N, H, W] int64.
    """

    def __init__(self, config: LevelConfig, *, channels: int = 0, below_codes: int = 0) -> None:
        """Take the channels of the images, or how many codes the level below has."""
        super().__init__()
        assert bool(channels) != bool(below_codes), "a level encodes images or codes"
        self.config, self.below_codes = config, below_codes
        self.embedding = nn.Embedding(below_codes, config.embedding) if below_codes else None
        # Masked prediction tells the encoder by a channel of its own what is masked: nothing, but while it is trained.
        self._masks = config.auxiliary == MSP
        self.encoder = _encoder((config.embedding if below_codes else channels) + int(self._masks), config)
        self.project = nn.Conv2d(config.channels, config.code_size, 1)
        self.codebook = Codebook(
            config.num_codes, config.code_size, decay=config.codebook_decay, revive_below=config.revive_below
        )
        self.auxiliary = MaskedPrediction(config) if self._masks else FeedForward(below_codes or channels, config)

    def features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the encoder's features, [N, C, h, w].

        Args:
            x: images or codes.
            mask: [N, 1, h, w], 1 in the cells whose pixels or codes are hidden; none, nothing is.
        """
        read = x if self.embedding is None else self.embedding(x).permute(0, 3, 1, 2)
        if self._masks:
            full = read.new_zeros(len(read), 1, *read.shape[2:])
            if mask is not None:
                full = enlarged(mask, read.shape[2:])
                read = read * (1 - full)
            read = torch.cat([read, full], dim=1)
        out: Tensor = self.encoder(read)
        return out

    def vectors(self, features: Tensor) -> Tensor:
        """Return what is quantised, [N, h, w, D]."""
        projected: Tensor = self.project(features.relu())
        return projected.permute(0, 2, 3, 1)

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes [N, h, w] int64 of images or of the codes below."""
        return self.codebook.nearest(self.vectors(self.features(x)).float())

    def decode(self, codes: Tensor) -> Tensor:
        """Return what a feed-forward auxiliary decoder makes of codes [N, h, w]: images, or likeliest codes below."""
        assert isinstance(self.auxiliary, FeedForward), "masked prediction gives features, no images"
        vectors: Tensor = self.codebook(codes)
        out: Tensor = self.auxiliary(vectors.permute(0, 3, 1, 2))
        return out.argmax(dim=1) if self.below_codes else out


def self_prediction_loss(predicted: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the error of predicted features inside the boxes, and what keeps features from becoming all alike.

    A network that predicts its own features could make them constant, or all of them copies of one. So no gradient goes
    into the features as targets, they are standardised (the error of knowing nothing is 1), and a second term holds the
    deviation of each channel above 1 and channels uncorrelated (variance and covariance of Bardes et al. 2022,
    "VICReg", section 4.1). Means are taken over the images, for each position by itself: a feature that only tells the
    position has no deviation.

    Args:
        predicted: [N, C, h, w] float32.
        features: [N, C, h, w] float32, of the input without a mask.
        mask: [N, 1, h, w], 1 inside.
    """
    centred = features - features.mean(dim=0, keepdim=True)
    flat = centred.transpose(0, 1).flatten(1)  # [C, N h w]
    covariance = flat @ flat.t() / max(flat.shape[1] - 1, 1)
    variance = covariance.diagonal()
    deviation = (variance + FEATURES_EPSILON).sqrt()
    target = (centred / deviation[:, None, None]).detach()
    error = ((predicted - target).square() * mask).sum() / (mask.sum() * features.shape[1])
    apart = functional.relu(1 - deviation).mean()
    others = (covariance.square().sum() - variance.square().sum()) / len(variance)
    return error, apart + COVARIANCE_WEIGHT * others
