"""Samples from a fitted generator: the codes of the last level, those below given them, the pixels given the lowest."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.config import Settings
from caskit.gen.autoregressive.draws import DrawRule
from caskit.gen.autoregressive.generator import Level, MapsGenerator
from caskit.gen.autoregressive.images import to_input, to_pixels
from caskit.gen.autoregressive.pixels import to_images
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.ham.config import FEEDFORWARD, PIXELS, FitConfig, level_name
from caskit.gen.ham.weights import Networks, load_networks
from caskit.manifests.classes import ClassList


def draw_name(level: str) -> str:
    """Return the name of a map's draw in the streams: one uniform per code, or value of a pixel, in raster order."""
    return f"ham/{level}"


class HamGenerator(MapsGenerator):
    """A loaded generator. Its lowest map are the pixels themselves."""

    def __init__(
        self,
        networks: Networks,
        *,
        classes: ClassList,
        shape: tuple[int, int, int],
        settings: Settings,
        device: torch.device,
    ) -> None:
        num = len(networks.levels)
        names = [PIXELS, *(level_name(number) for number in range(1, num + 1))]  # from the pixels up
        below = [
            Level(name=names[index], prior=decoder, draw=draw_name(names[index]), above=names[index + 1])
            for index, decoder in enumerate(networks.decoders)
        ]
        super().__init__(
            (Level(name=names[-1], prior=networks.prior, draw=draw_name(names[-1])), *reversed(below)),
            classes=classes,
            shape=shape,
            rule=DrawRule(temperature=settings.temperature, top_p=settings.top_p),
            device=device,
        )
        self._autoencoders = [
            level.eval().to(device).to(memory_format=torch.channels_last) for level in networks.levels
        ]

    def decode(self, maps: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of the lowest map as images; they are finite."""
        images = to_images(maps[PIXELS], self.channels)
        return images, np.ones(len(images), bool)

    @torch.no_grad()
    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return all maps of images [N, H, W, C] uint8, pixels and codes, [N, h, w] uint16, as they are drawn."""
        pixels = images.reshape(len(images), images.shape[1], -1)
        found = {PIXELS: pixels.astype(np.uint16)}
        read = to_input(images, self.device)
        for number, autoencoder in enumerate(self._autoencoders, 1):
            read = autoencoder.encode(read)
            found[level_name(number)] = read.cpu().numpy().astype(np.uint16)
        return {name: found[name] for name in self._levels}


class AbstractingGenerator(HamGenerator):
    """A generator whose auxiliary decoders are feed-forward: they decode codes to images, without detail."""

    def reconstruct(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode images [N, H, W, C] uint8 to the last level and decode them by all auxiliary decoders.

        Returns:
            images of the same shape, and finite [N] bool.
        """
        return self.reconstruct_from(images, len(self._autoencoders))

    @torch.no_grad()
    def reconstruct_from(self, images: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Do the same from the codes of level `number`, 1 or more."""
        codes = torch.from_numpy(self.encode(images)[level_name(number)].astype(np.int64)).to(self.device)
        for autoencoder in reversed(self._autoencoders[:number]):
            codes = autoencoder.decode(codes)
        return to_pixels(codes)


def load(checkpoint: Checkpoint, settings: Settings, device: torch.device) -> HamGenerator:
    """Load a checkpoint of this family for sampling on a device.

    Raises:
        InputError: the config or the tensors are not those of this family.
    """
    networks, config = load_networks(checkpoint)
    record = checkpoint.record
    return generator_class(config)(
        networks,
        classes=checkpoint.classes,
        shape=(record["height"], record["width"], record["channels"]),
        settings=settings,
        device=device,
    )


def generator_class(config: FitConfig) -> type[HamGenerator]:
    """Return what a config's generator is: one whose auxiliary decoders give images, or one whose do not."""
    decodes = all(level.auxiliary == FEEDFORWARD for level in config.levels)
    return AbstractingGenerator if decodes else HamGenerator
