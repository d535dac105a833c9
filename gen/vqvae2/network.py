"""The two-level autoencoder of VQ-VAE-2 (Razavi et al. 2019, section 3.1 and appendix A).

The bottom encoder halves the image once or twice, the top encoder halves its features once more. The top map is
quantised first; decoded, it helps to choose the bottom codes, which therefore hold only what the top ones do not. The
layout is that of rosinality/vq-vae-2-pytorch, so that its stage-1 weights can be imported.
"""

import torch
from torch import Tensor, nn

from caskit.gen.autoregressive.codebook import Codebook
from caskit.gen.autoregressive.residual import Residual
from caskit.gen.vqvae2.config import BOTTOM, TOP, FitConfig


def _residuals(config: FitConfig) -> list[nn.Module]:
    return [
        Residual(config.channels, config.residual_channels, add_to_activated=config.add_to_activated)
        for _ in range(config.residual_blocks)
    ]


def encoder(inputs: int, stride: int, config: FitConfig) -> nn.Sequential:
    """Return a stack that divides the sides by 2 or 4 and ends in a ReLU."""
    half, full = config.channels // 2, config.channels
    down: list[nn.Module] = [nn.Conv2d(inputs, half, 4, 2, padding=1), nn.ReLU()]
    if stride == 4:
        down += [nn.Conv2d(half, full, 4, 2, padding=1), nn.ReLU(), nn.Conv2d(full, full, 3, padding=1)]
    else:
        down += [nn.Conv2d(half, full, 3, padding=1)]
    return nn.Sequential(*down, *_residuals(config), nn.ReLU())


def decoder(inputs: int, outputs: int, stride: int, config: FitConfig) -> nn.Sequential:
    """Return a stack that multiplies the sides by 2 or 4."""
    half, full = config.channels // 2, config.channels
    if stride == 4:
        up: list[nn.Module] = [
            nn.ConvTranspose2d(full, half, 4, 2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(half, outputs, 4, 2, padding=1),
        ]
    else:
        up = [nn.ConvTranspose2d(full, outputs, 4, 2, padding=1)]
    return nn.Sequential(nn.Conv2d(inputs, full, 3, padding=1), *_residuals(config), nn.ReLU(), *up)


class Autoencoder(nn.Module):
    """Images to two maps of codes and back. Images are float, [N, C, H, W] in -1..1."""

    def __init__(self, channels: int, config: FitConfig) -> None:
        super().__init__()
        size = config.code_size
        self.encode_bottom = encoder(channels, config.bottom_stride, config)
        self.encode_top = encoder(config.channels, 2, config)
        self.project_top = nn.Conv2d(config.channels, size, 1)
        self.decode_top = decoder(size, size, 2, config)
        self.project_bottom = nn.Conv2d(size + config.channels, size, 1)
        self.upsample_top = nn.ConvTranspose2d(size, size, 4, 2, padding=1)
        self.decode_image = decoder(2 * size, channels, config.bottom_stride, config)
        self.top, self.bottom = (
            Codebook(num_codes, size, decay=config.codebook_decay, revive_below=config.revive_below)
            for num_codes in (config.level_codes[TOP], config.level_codes[BOTTOM])
        )

    def top_vectors(self, features: Tensor) -> Tensor:
        """Return what is quantised at the top, [N, h, w, D], from the bottom encoder's features."""
        projected: Tensor = self.project_top(self.encode_top(features))
        return projected.permute(0, 2, 3, 1)

    def bottom_vectors(self, features: Tensor, quantised_top: Tensor) -> Tensor:
        """Return what is quantised at the bottom, [N, 2h, 2w, D], given the quantised top map, [N, D, h, w]."""
        projected: Tensor = self.project_bottom(torch.cat([self.decode_top(quantised_top), features], dim=1))
        return projected.permute(0, 2, 3, 1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the top codes, [N, h, w], and the bottom codes, [N, 2h, 2w], int64."""
        features = self.encode_bottom(images)
        top = self.top.nearest(self.top_vectors(features))
        bottom = self.bottom.nearest(self.bottom_vectors(features, self._map(self.top, top)))
        return top, bottom

    def decode(self, quantised_top: Tensor, quantised_bottom: Tensor) -> Tensor:
        """Return images from the two quantised maps, [N, D, h, w] and [N, D, 2h, 2w]."""
        image: Tensor = self.decode_image(torch.cat([self.upsample_top(quantised_top), quantised_bottom], dim=1))
        return image

    def decode_codes(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Return images from the two maps of codes, [N, h, w] and [N, 2h, 2w]."""
        return self.decode(self._map(self.top, top), self._map(self.bottom, bottom))

    @staticmethod
    def _map(codebook: Codebook, codes: Tensor) -> Tensor:
        vectors: Tensor = codebook(codes)
        return vectors.permute(0, 3, 1, 2)
