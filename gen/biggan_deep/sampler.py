"""Samples from a generator: z, the class, one pass."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.biggan_deep.config import Settings
from caskit.gen.biggan_deep.inference import FoldedGenerator
from caskit.gen.biggan_deep.latents import draw_latents
from caskit.gen.biggan_deep.statistics import choose_statistics, describe_statistics, statistics_of
from caskit.gen.biggan_deep.weights import load_network
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError


class BigGanGenerator:
    """A loaded generator. Its only randomness is what the streams hand it."""

    def __init__(
        self,
        *,
        network: FoldedGenerator,
        classes: ClassList,
        shape: tuple[int, int, int],
        settings: Settings,
        device: torch.device,
    ) -> None:
        self.classes = classes
        self.height, self.width, self.channels = shape
        self.settings = settings
        self.device = device
        self._network = network

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Draw one image per label [N] from N streams: images [N, H, W, C] uint8, and finite [N] bool."""
        assert labels.shape == (streams.num,), f"{labels.shape} labels for {streams.num} streams"
        size = self._network.config.latent_size
        latents = draw_latents(streams, size, z_scale=self.settings.z_scale, z_mode=self.settings.z_mode)
        with torch.inference_mode():
            images = self._network(
                torch.from_numpy(latents).to(self.device), torch.from_numpy(labels.astype(np.int64)).to(self.device)
            )
        return quantise(images)


def quantise(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Make images [N, C, H, W] in -1..1 [N, H, W, C] uint8; say which of them, [N], were finite.

    As the published code does (`convert_to_images`): `(x + 1) / 2 * 256`, clipped to 0..255 and cut to whole numbers,
    so that all 256 values have equally much room.
    """
    finite = torch.isfinite(images).flatten(1).all(dim=1)
    values = torch.nan_to_num(images, nan=-1.0).float().add(1).div(2).mul(256).clamp(0, 255)
    pixels = values.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return pixels.cpu().numpy(), finite.cpu().numpy()


def load(checkpoint: Checkpoint, settings: Settings, device: torch.device) -> BigGanGenerator:
    """Load a checkpoint of this family for sampling on a device.

    Raises:
        InputError: it does not hold what its record says, or the settings ask for statistics that it does not have.
    """
    generator, statistics = load_network(checkpoint)
    choose_statistics(generator, statistics, settings)
    record = checkpoint.record
    return BigGanGenerator(
        network=FoldedGenerator(generator, device),
        classes=checkpoint.classes,
        shape=(record["height"], record["width"], record["channels"]),
        settings=settings,
        device=device,
    )


def describe(record: Mapping[str, Any], settings: Settings) -> str:
    """Say in one line which batch-norm statistics a checkpoint's samples are drawn with.

    Args:
        record: its checkpoint.json.
        settings: of the sampler.

    Raises:
        InputError: the settings ask for statistics that it does not have.
    """
    try:
        statistics = statistics_of(record["config"])
    except InputError as error:
        raise InputError(f"checkpoint of {record['family']}:{record['preset']}: {error}") from error
    return describe_statistics(statistics, settings)
