"""Samples from a fitted generator: the top map, the bottom map given it, the decoder's image."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.draws import DrawRule
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.sampler import CachedSampler, score_maps
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.streams import Streams
from caskit.gen.vqvae2.autoencoder import to_input, to_pixels
from caskit.gen.vqvae2.config import BOTTOM, TOP, Settings
from caskit.gen.vqvae2.network import Autoencoder
from caskit.gen.vqvae2.weights import load_networks
from caskit.manifests.classes import ClassList

DRAWS = {TOP: "vqvae2/top", BOTTOM: "vqvae2/bottom"}  # names of the draws, one uniform per code in raster order


class Vqvae2Generator:
    """A loaded generator. Its only randomness is what the streams hand it."""

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
        self.classes = classes
        self.height, self.width, self.channels = shape
        self.device = device
        self._rule = DrawRule(temperature=settings.temperature, top_p=settings.top_p)
        self._autoencoder = autoencoder.to(device).to(memory_format=torch.channels_last)
        self._priors = {
            level: prior.to(device).to(memory_format=torch.channels_last) for level, prior in priors.items()
        }
        self._samplers: dict[str, CachedSampler] = {}

    @property
    def code_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Height and width of the two maps, in the order in which they are drawn."""
        return {level: (prior.height, prior.width) for level, prior in self._priors.items()}

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Draw one image per label [N] from N streams: images [N, H, W, C] uint8, and finite [N] bool."""
        return self.decode_codes(labels, self.sample_codes(labels, streams))

    def sample_codes(self, labels: np.ndarray, streams: Streams) -> dict[str, np.ndarray]:
        """Draw the two maps of codes of one image per label, [N, h, w] uint16 each.

        A map whose logits were not finite holds a code that the model does not have, so that decoding it is not finite.
        """
        drawn: dict[str, Tensor] = {}
        broken = torch.zeros(len(labels), dtype=torch.bool, device=self.device)
        for level in (TOP, BOTTOM):
            codes, finite = self._sampler(level, len(labels)).sample(
                self._labels(labels), self._uniforms(level, streams), self._rule, drawn.get(TOP)
            )
            broken |= ~finite
            drawn[level] = codes
        missing = {level: self._priors[level].num_codes for level in drawn}
        return {
            level: torch.where(broken[:, None, None], missing[level], codes).cpu().numpy().astype(np.uint16)
            for level, codes in drawn.items()
        }

    def decode_codes(self, labels: np.ndarray, codes: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Decode maps of codes [N, h, w]; images [N, H, W, C] uint8, and finite [N] bool: False for unknown codes."""
        maps = {level: self._codes(codes[level]) for level in (TOP, BOTTOM)}
        known = torch.ones(len(labels), dtype=torch.bool, device=self.device)
        for level, values in maps.items():
            inside = values < self._priors[level].num_codes
            known &= inside.flatten(1).all(dim=1)
            maps[level] = torch.where(inside, values, 0)
        with torch.no_grad():
            images, finite = to_pixels(self._autoencoder.decode_codes(maps[TOP], maps[BOTTOM]))
        return images, finite & known.cpu().numpy()

    def score_codes(
        self, labels: np.ndarray, streams: Streams, codes: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Tell how far each uniform lies outside its code's interval, [N, h, w] float64 per level."""
        above = self._codes(codes[TOP])
        known_above = torch.where(above < self._priors[TOP].num_codes, above, 0)
        return {
            level: score_maps(
                self._priors[level],
                self._codes(codes[level]),
                self._labels(labels),
                self._uniforms(level, streams),
                self._rule,
                known_above if level == BOTTOM else None,
            )
            .cpu()
            .numpy()
            for level in (TOP, BOTTOM)
        }

    def reconstruct(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode and decode images [N, H, W, C] uint8; images of the same shape, and finite [N] bool."""
        with torch.no_grad():
            return to_pixels(self._autoencoder.decode_codes(*self._autoencoder.encode(to_input(images, self.device))))

    def _sampler(self, level: str, num: int) -> CachedSampler:
        """Return the sampler of a level for `num` maps; its buffers are kept while the number stays the same."""
        if level not in self._samplers or self._samplers[level].num != num:
            self._samplers[level] = CachedSampler(self._priors[level], num)
        return self._samplers[level]

    def _uniforms(self, level: str, streams: Streams) -> Tensor:
        return torch.from_numpy(streams.uniform(DRAWS[level], self.code_shapes[level])).to(self.device)

    def _labels(self, labels: np.ndarray) -> Tensor:
        return torch.from_numpy(labels.astype(np.int64)).to(self.device)

    def _codes(self, codes: np.ndarray) -> Tensor:
        return torch.from_numpy(codes.astype(np.int64)).to(self.device)


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
