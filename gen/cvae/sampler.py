"""Samples from a fitted generator: a component, a latent vector, the decoder's image."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.cvae.config import Settings
from caskit.gen.cvae.density import Mixtures
from caskit.gen.cvae.network import Decoder
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList

DECODER_PREFIX = "decoder."


class CvaeGenerator:
    """A loaded generator. Its only randomness is what the streams hand it."""

    def __init__(
        self, *, decoder: Decoder, mixtures: Mixtures, classes: ClassList, shape: tuple[int, int, int],
        settings: Settings, device: torch.device,
    ) -> None:  # fmt: skip
        self.classes = classes
        self.height, self.width, self.channels = shape
        self.settings = settings
        self.device = device
        self._decoder = fold_norms(decoder.eval()).to(device).to(memory_format=torch.channels_last)
        self._means = mixtures.means.numpy()
        self._factors = mixtures.factors.numpy()
        self._bounds = np.cumsum(mixtures.weights.numpy(), axis=1)

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Draw one image per label.

        Args:
            labels: [N] int64.
            streams: N streams, one per image.

        Returns:
            [N, H, W, C] uint8 images and [N] bool, whether an image's values were finite.
        """
        assert labels.shape == (streams.num,), f"{labels.shape} labels for {streams.num} streams"
        latents = self.latents(labels, streams).astype(np.float32)
        with torch.inference_mode():
            means, log_deviations = self._decoder(
                torch.from_numpy(latents).to(self.device),
                torch.from_numpy(labels.astype(np.int64)).to(self.device),
            )
            noise = torch.from_numpy(self.pixel_noise(streams)).to(self.device)
            images = means + log_deviations.exp() * noise
        return quantise(images)

    def pixel_noise(self, streams: Streams) -> np.ndarray:
        """Draw what each pixel's deviation is multiplied with; [N, C, H, W] float32."""
        shape = (self.channels, self.height, self.width)
        if self.settings.noise == 0:
            return np.zeros((streams.num, *shape), np.float32)
        scaled: np.ndarray = streams.normal("cvae/pixel", shape) * self.settings.noise
        return scaled.astype(np.float32)

    def latents(self, labels: np.ndarray, streams: Streams) -> np.ndarray:
        """Draw the latent vectors of labels [N]; [N, latent_size] float64."""
        noise = streams.normal("cvae/latent", (self._means.shape[2],)) * self.settings.temperature
        if self.settings.prior == "normal":
            return noise
        position = streams.uniform("cvae/component", (1,)) * self._bounds[labels, -1:]
        component = np.minimum((self._bounds[labels] <= position).sum(axis=1), self._bounds.shape[1] - 1)
        # A product and a sum per row, not a matrix product: its bits depend on neither the batch nor a BLAS's threads.
        spread = (self._factors[labels, component] * noise[:, None, :]).sum(axis=2)
        drawn: np.ndarray = self._means[labels, component] + spread
        return drawn


def quantise(means: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Round images [N, C, H, W] in 0..1 to [N, H, W, C] uint8; say which of them, [N], were finite."""
    finite = torch.isfinite(means).flatten(1).all(dim=1)
    pixels = torch.nan_to_num(means, nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy(), finite.cpu().numpy()


def fold_norms(decoder: Decoder) -> Decoder:
    """Fold every batch norm of a decoder in eval mode into the convolution before it: the same map, a third faster."""
    for index in range(5):
        convolution, norm = getattr(decoder, f"conv_{index}"), getattr(decoder, f"norm_{index}")
        transposed = isinstance(convolution, nn.ConvTranspose2d)
        setattr(decoder, f"conv_{index}", fuse_conv_bn_eval(convolution, norm, transpose=transposed))
        setattr(decoder, f"norm_{index}", nn.Identity())
    return decoder


def build_decoder(config: dict[str, Any], *, num_classes: int, shape: tuple[int, int, int]) -> Decoder:
    """Build a decoder without weights from a checkpoint's config and image shape (height, width, channels)."""
    height, width, channels = shape
    return Decoder(
        height=height,
        width=width,
        channels=channels,
        num_classes=num_classes,
        latent_size=config["latent_size"],
        label_size=config["label_size"],
        widths=(
            config["decoder_stem"],
            config["decoder_coarse"],
            config["decoder_middle"],
            config["decoder_fine"],
        ),
    )


def load(checkpoint: Checkpoint, settings: Settings, device: torch.device) -> CvaeGenerator:
    """Load a checkpoint of this family for sampling on a device."""
    record, tensors = checkpoint.record, checkpoint.tensors()
    classes = ClassList.from_json(record["classes"], name=f"{checkpoint.path}: classes")
    shape = (record["height"], record["width"], record["channels"])
    decoder = build_decoder(record["config"], num_classes=len(classes), shape=shape)
    weights = {k.removeprefix(DECODER_PREFIX): v for k, v in tensors.items() if k.startswith(DECODER_PREFIX)}
    for name, tensor in decoder.state_dict().items():
        if name.endswith("num_batches_tracked"):
            weights[name] = tensor  # a counter of training, not stored
    decoder.load_state_dict(weights)
    return CvaeGenerator(
        decoder=decoder,
        mixtures=Mixtures.from_tensors(tensors),
        classes=classes,
        shape=shape,
        settings=settings,
        device=device,
    )
