"""Samples from a generator: z, the class, one pass."""

import math

import numpy as np
import torch
from torch import Tensor

from caskit.gen.adversarial.weights import read_generator
from caskit.gen.cgan.config import Settings, network_of
from caskit.gen.cgan.generator import Generator
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

DRAW = "cgan/latent"  # name of the draw, one word per dimension
PART_SIZE = 50  # images that are computed together, always: what else is in a microbatch decides no bits


class CganGenerator:
    """A loaded generator. Its only randomness is what the streams hand it."""

    def __init__(
        self,
        *,
        network: Generator,
        classes: ClassList,
        shape: tuple[int, int, int],
        settings: Settings,
        device: torch.device,
    ) -> None:
        self.classes = classes
        self.height, self.width, self.channels = shape
        self.settings = settings
        self.device = device
        self._network = network.to(device).to(memory_format=torch.channels_last)

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Draw one image per label [N] from N streams: images [N, H, W, C] uint8, and finite [N] bool."""
        assert labels.shape == (streams.num,), f"{labels.shape} labels for {streams.num} streams"
        latents = streams.normal(DRAW, (self._network.latent_size,)) * self.settings.z_scale
        latent_parts = self._in_parts(torch.from_numpy(latents.astype(np.float32)))
        label_parts = self._in_parts(torch.from_numpy(labels.astype(np.int64)))
        with torch.inference_mode():
            images = [self._network(*part) for part in zip(latent_parts, label_parts, strict=True)]
            return quantise(torch.cat(images)[: len(labels)])

    def _in_parts(self, values: Tensor) -> tuple[Tensor, ...]:
        """Divide values [N, ...] into parts of one size, the last one padded with its last value."""
        num = PART_SIZE * math.ceil(len(values) / PART_SIZE)
        return torch.split(values[torch.arange(num).clamp(max=len(values) - 1)].to(self.device), PART_SIZE)


def quantise(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Round images [N, C, H, W] in -1..1 to [N, H, W, C] uint8; say which of them, [N], were finite."""
    finite = torch.isfinite(images).flatten(1).all(dim=1)
    values = torch.nan_to_num(images, nan=-1.0).float().add(1).mul(127.5).round().clamp(0, 255)
    return values.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy(), finite.cpu().numpy()


def load(checkpoint: Checkpoint, settings: Settings, device: torch.device) -> CganGenerator:
    """Load a checkpoint of this family for sampling on a device.

    Raises:
        InputError: the config or the tensors are not those of this family.
    """
    record = checkpoint.record
    try:
        network = network_of(record["config"])
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from error

    def build() -> Generator:
        return Generator(network, num_classes=len(checkpoint.classes), channels=record["channels"])

    return CganGenerator(
        network=read_generator(checkpoint, build, network.image_size),
        classes=checkpoint.classes,
        shape=(record["height"], record["width"], record["channels"]),
        settings=settings,
        device=device,
    )
