"""The generator: from labels and streams to uint8 images."""

import numpy as np
import torch

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.streams import Streams
from my_generator.config import Settings

NAME = "my_generator"


class NormalGenerator:
    """A loaded generator. Its only randomness is what the streams hand it."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings, device: torch.device) -> None:
        record, tensors = checkpoint.record, checkpoint.tensors()
        self.classes = checkpoint.classes
        self.height, self.width, self.channels = record["height"], record["width"], record["channels"]
        self._settings, self._device = settings, device
        self._means = tensors["means"].to(device)  # [classes, pixels]
        self._directions = tensors["directions"].to(device)  # [classes, pixels, directions]
        self._deviations = tensors["deviations"].to(device)  # [classes, pixels]

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Draw one image per label.

        Args:
            labels: [N] int64.
            streams: N streams; each random array is drawn under a name of its own.

        Returns:
            [N, H, W, C] uint8 images, and [N] bool: whether an image's values were finite.
        """
        which = torch.from_numpy(labels).to(self._device)
        shared = self._normal(streams, "my_generator/directions", self._directions.shape[2])
        own = self._normal(streams, "my_generator/pixels", self._means.shape[1])
        spread = torch.bmm(self._directions[which], shared[:, :, None])[:, :, 0]
        pixels = self._means[which] + spread + self._deviations[which] * own
        finite = torch.isfinite(pixels).all(dim=1)
        images = torch.nan_to_num(pixels).clamp(0, 1).mul(255).round().to(torch.uint8)
        return images.reshape(-1, self.height, self.width, self.channels).cpu().numpy(), finite.cpu().numpy()

    def _normal(self, streams: Streams, name: str, num: int) -> torch.Tensor:
        """Draw [N, num] float32: on the CPU, equal on every machine, then moved."""
        drawn = streams.normal(name, (num,)) * self._settings.temperature
        return torch.from_numpy(drawn.astype(np.float32)).to(self._device)


def load(checkpoint: Checkpoint, settings: Settings, device: torch.device) -> NormalGenerator:
    """Load a checkpoint of this family for sampling on a device."""
    return NormalGenerator(checkpoint, settings, device)
