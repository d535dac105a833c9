"""Samples from a fitted generator: the top map, the bottom map given it, the decoder's image."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.config import Settings
from caskit.gen.autoregressive.draws import DrawRule
from caskit.gen.autoregressive.generator import Level, MapsGenerator
from caskit.gen.autoregressive.images import to_input, to_pixels
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.vqvae2.config import BOTTOM, TOP
from caskit.gen.vqvae2.network import Autoencoder
from caskit.gen.vqvae2.weights import load_networks
from caskit.manifests.classes import ClassList

DRAWS = {TOP: "vqvae2/top", BOTTOM: "vqvae2/bottom"}  # names of the draws, one uniform per code in raster order


class Vqvae2Generator(MapsGenerator):
    """A loaded generator of two levels."""

    def __init__(
        self,
        *,
        autoencoder: Autoencoder,
        priors: Mapping[str, PixelSnail],
        classes: ClassList,
        shape: tuple[int, int, int],
        settings: Settings,
        device: torch.device,
    ) -> None:
        super().__init__(
            (
                Level(name=TOP, prior=priors[TOP], draw=DRAWS[TOP]),
                Level(name=BOTTOM, prior=priors[BOTTOM], draw=DRAWS[BOTTOM], above=TOP),
            ),
            classes=classes,
            shape=shape,
            rule=DrawRule(temperature=settings.temperature, top_p=settings.top_p),
            device=device,
        )
        self._autoencoder = autoencoder.to(device).to(memory_format=torch.channels_last)

    def decode(self, maps: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Decode the two maps [N, h, w]."""
        return to_pixels(self._autoencoder.decode_codes(maps[TOP], maps[BOTTOM]))

    def reconstruct(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode and decode images [N, H, W, C] uint8; images of the same shape, and finite [N] bool."""
        with torch.no_grad():
            return to_pixels(self._autoencoder.decode_codes(*self._autoencoder.encode(to_input(images, self.device))))


def load(checkpoint: Checkpoint, settings: Settings, device: torch.device) -> Vqvae2Generator:
    """Load a checkpoint of this family for sampling on a device."""
    autoencoder, priors, _ = load_networks(checkpoint)
    record = checkpoint.record
    return Vqvae2Generator(
        autoencoder=autoencoder,
        priors=priors,
        classes=checkpoint.classes,
        shape=(record["height"], record["width"], record["channels"]),
        settings=settings,
        device=device,
    )
