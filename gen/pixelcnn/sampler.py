"""Samples from a fitted generator, pixel by pixel, and the exact likelihood of images."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caskit.gen.autoregressive.config import PriorConfig, Settings
from caskit.gen.autoregressive.draws import DrawRule
from caskit.gen.autoregressive.generator import Level, MapsGenerator
from caskit.gen.autoregressive.pixels import NUM_VALUES, to_images
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.autoregressive.weights import fill
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.pixelcnn.config import FitConfig
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

PIXELS = "pixels"  # the one level
DRAW = "pixelcnn/pixels"


class PixelCnnGenerator(MapsGenerator):
    """A loaded generator: its codes are the values of the pixels."""

    def __init__(
        self,
        network: PixelSnail,
        *,
        classes: ClassList,
        shape: tuple[int, int, int],
        settings: Settings,
        device: torch.device,
    ) -> None:
        super().__init__(
            (Level(name=PIXELS, prior=network, draw=DRAW),),
            classes=classes,
            shape=shape,
            rule=DrawRule(temperature=settings.temperature, top_p=settings.top_p),
            device=device,
        )
        self._network = self._levels[PIXELS].prior

    def decode(self, maps: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Return the values as images; they are finite."""
        images = to_images(maps[PIXELS], self.channels)
        return images, np.ones(len(images), bool)

    def log_likelihoods(self, images: np.ndarray) -> np.ndarray:
        """Return log p(image | class) in nats, [N, classes] float64, of images [N, H, W, C] uint8.

        Exact up to rounding, for the model as fitted: temperature and top-p play no part.
        """
        maps = torch.from_numpy(images.reshape(len(images), images.shape[1], -1).astype(np.int64)).to(self.device)
        found = np.empty((len(images), len(self.classes)))
        with torch.inference_mode():
            for label in range(len(self.classes)):
                labels = torch.full((len(maps),), label, device=self.device)
                logits = self._network(maps, labels).double()
                nats = functional.cross_entropy(logits, maps, reduction="none")
                found[:, label] = -nats.flatten(1).sum(dim=1).cpu().numpy()
        return found


def build_network(config: FitConfig, *, shape: tuple[int, int, int], num_classes: int) -> PixelSnail:
    """Build the network for images of a shape (height, width, channels), with random weights."""
    height, width, channels = shape
    return PixelSnail(
        config.network,
        height=height,
        width=width * channels,
        num_codes=NUM_VALUES,
        num_classes=num_classes,
        checkpointing=config.checkpointing,
    )


def load(checkpoint: Checkpoint, settings: Settings, device: torch.device) -> PixelCnnGenerator:
    """Load a checkpoint of this family for sampling on a device.

    Raises:
        InputError: the config or the tensors are not those of this family.
    """
    record, values = checkpoint.record, dict(checkpoint.record["config"])
    try:
        values |= {"network": PriorConfig(**values["network"]), "stage": StageConfig(**values["stage"])}
        config = FitConfig(**values)
    except (TypeError, KeyError) as error:
        raise InputError(f"{checkpoint.path}: config is not that of this family ({error})") from error
    shape = (record["height"], record["width"], record["channels"])
    network = build_network(config, shape=shape, num_classes=len(checkpoint.classes))
    fill(network, checkpoint.tensors(), "", checkpoint.path)
    return PixelCnnGenerator(network, classes=checkpoint.classes, shape=shape, settings=settings, device=device)
