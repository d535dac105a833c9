"""The encoder and the decoder: a small convolutional conditional VAE (Kingma & Welling 2014, Sohn et al. 2015).

Both work on images whose sides are multiples of 4. The label enters the encoder and the decoder as a learned vector
added at the coarsest grid; it enters the decoder once more beside the latent vector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4  # the decoder doubles its grid twice
MAX_LOG_VARIANCE = 4.0
MIN_LOG_VARIANCE = -12.0
MAX_LOG_DEVIATION = 0.0  # of a pixel in 0..1
MIN_LOG_DEVIATION = -7.0  # a quarter of a grey level


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False)


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1, bias=False)


def _bias_table(num_classes: int, size: int) -> nn.Embedding:
    """A vector per class, zero at first: training starts from a network that treats all classes alike."""
    table = nn.Embedding(num_classes, size)
    nn.init.zeros_(table.weight)
    return table


class Encoder(nn.Module):
    """q(z | x, y), a diagonal normal; needed to fit a generator, not to sample from it."""

    def __init__(
        self, *, height: int, width: int, channels: int, num_classes: int, latent_size: int, width_base: int
    ) -> None:
        super().__init__()
        base = width_base
        self.grid = (height // STRIDE, width // STRIDE)
        self.conv_0 = _convolution(channels, base, kernel=4, stride=2)
        self.norm_0 = nn.BatchNorm2d(base)
        self.conv_1 = _convolution(base, 2 * base, kernel=4, stride=2)
        self.norm_1 = nn.BatchNorm2d(2 * base)
        self.class_map = _bias_table(num_classes, 2 * base * self.grid[0] * self.grid[1])
        self.conv_2 = _convolution(2 * base, 4 * base)
        self.norm_2 = nn.BatchNorm2d(4 * base)
        self.conv_3 = _convolution(4 * base, 4 * base, stride=2)
        self.norm_3 = nn.BatchNorm2d(4 * base)
        half = (-(-self.grid[0] // 2), -(-self.grid[1] // 2))
        self.head = nn.Linear(4 * base * half[0] * half[1], 2 * latent_size)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            images: [N, C, H, W] float32 in 0..1.
            labels: [N] int64.

        Returns:
            Mean and log variance of the posterior, [N, latent_size] each.
        """
        hidden = functional.relu(self.norm_0(self.conv_0(images)))
        class_map = self.class_map(labels).view(len(labels), -1, *self.grid)
        hidden = functional.relu(self.norm_1(self.conv_1(hidden)) + class_map)
        hidden = functional.relu(self.norm_2(self.conv_2(hidden)))
        hidden = functional.relu(self.norm_3(self.conv_3(hidden)))
        mean, log_variance = self.head(hidden.flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(MIN_LOG_VARIANCE, MAX_LOG_VARIANCE)


class Decoder(nn.Module):
    """p(x | z, y): mean and standard deviation of every pixel, given a latent vector and a label."""

    def __init__(
        self,
        *,
        height: int,
        width: int,
        channels: int,
        num_classes: int,
        latent_size: int,
        label_size: int,
        widths: tuple[int, int, int, int],
    ) -> None:
        super().__init__()
        stem, coarse, middle, fine = widths
        self.grid = (height // STRIDE, width // STRIDE)
        self.label = nn.Embedding(num_classes, label_size)
        self.stem = nn.Linear(latent_size + label_size, stem * self.grid[0] * self.grid[1])
        self.class_bias = _bias_table(num_classes, coarse)
        self.conv_0 = _convolution(stem, coarse)
        self.norm_0 = nn.BatchNorm2d(coarse)
        self.conv_1 = _convolution(coarse, coarse)
        self.norm_1 = nn.BatchNorm2d(coarse)
        self.conv_2 = _doubling(coarse, middle)
        self.norm_2 = nn.BatchNorm2d(middle)
        self.conv_3 = _convolution(middle, middle)
        self.norm_3 = nn.BatchNorm2d(middle)
        self.conv_4 = _doubling(middle, fine)
        self.norm_4 = nn.BatchNorm2d(fine)
        self.image = nn.Conv2d(fine, channels, 3, padding=1)
        self.noise = nn.Conv2d(fine, channels, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode latent vectors.

        The deviations learn from the features without changing them: a mean and a variance that share their weights
        pull each other off (Seitzer et al. 2022), and here the mean must not lose.

        Args:
            latents: [N, latent_size] float32.
            labels: [N] int64.

        Returns:
            Mean, in 0..1, and log standard deviation of the pixels, [N, C, H, W] each.
        """
        hidden = functional.relu(self.stem(torch.cat([latents, self.label(labels)], dim=1)))
        hidden = hidden.view(len(labels), *self.grid, -1).permute(0, 3, 1, 2)  # channels last in memory
        hidden = functional.relu(self.norm_0(self.conv_0(hidden)) + self.class_bias(labels)[:, :, None, None])
        hidden = hidden + functional.relu(self.norm_1(self.conv_1(hidden)))
        hidden = functional.relu(self.norm_2(self.conv_2(hidden)))
        hidden = hidden + functional.relu(self.norm_3(self.conv_3(hidden)))
        hidden = functional.relu(self.norm_4(self.conv_4(hidden)))
        log_deviation = self.noise(hidden.detach()).clamp(MIN_LOG_DEVIATION, MAX_LOG_DEVIATION)
        return torch.sigmoid(self.image(hidden)), log_deviation
