"""A generator that draws maps of codes level by level, each by a PixelSNAIL, and decodes them."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.draws import DrawRule
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.sampler import CachedSampler, map_nats, score_maps
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList


@dataclasses.dataclass(frozen=True, kw_only=True)
class Level:
    """One map of codes.

    Attributes:
        name: of the level.
        prior: the network it is drawn from.
        draw: name of its draw in the streams, one uniform per code in raster order.
        above: name of the level that the prior is conditioned on, an earlier one; None, none.
    """

    name: str
    prior: PixelSnail
    draw: str
    above: str | None = None


class MapsGenerator(abc.ABC):
    """A loaded generator, a `gen.family.CodedGenerator`; families say how maps become images, in `decode`.

    Its only randomness is what the streams hand it.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        classes: ClassList,
        shape: tuple[int, int, int],
        rule: DrawRule,
        device: torch.device,
    ) -> None:
        """Take the networks.

        Args:
            levels: in the order in which they are drawn.
            classes: the labels.
            shape: height, width and channels of the images.
            rule: of all draws.
            device: where to compute.
        """
        self.classes = classes
        self.height, self.width, self.channels = shape
        self.device = device
        self._rule = rule
        self._levels = {
            level.name: dataclasses.replace(
                level, prior=level.prior.eval().to(device).to(memory_format=torch.channels_last)
            )
            for level in levels
        }
        self._samplers: dict[str, CachedSampler] = {}

    @abc.abstractmethod
    def decode(self, maps: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Decode maps [N, h, w] int64 of known codes: images [N, H, W, C] uint8, and finite [N] bool."""

    @property
    def code_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Height and width of each map, in the order in which they are drawn."""
        return {name: (level.prior.height, level.prior.width) for name, level in self._levels.items()}

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Draw one image per label [N] from N streams: images [N, H, W, C] uint8, and finite [N] bool."""
        return self.decode_codes(labels, self.sample_codes(labels, streams))

    def sample_codes(
        self, labels: np.ndarray, streams: Streams, *, given: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Draw the maps of codes of one image per label, [N, h, w] uint16 each.

        A map whose logits were not finite holds a code that the model does not have, so that decoding it is not finite.

        Args:
            labels: [N].
            streams: N of them.
            given: maps [N, h, w] that are taken instead of drawn, of known codes: an image's, to draw what is below.
        """
        given = given or {}
        drawn: dict[str, Tensor] = {name: self._codes(given[name]) for name in self._levels if name in given}
        broken = torch.zeros(len(labels), dtype=torch.bool, device=self.device)
        for name, level in self._levels.items():
            if name in drawn:
                continue
            codes, finite = self._sampler(name, len(labels)).sample(
                self._labels(labels),
                self._uniforms(level, streams),
                self._rule,
                None if level.above is None else drawn[level.above],
            )
            broken |= ~finite
            drawn[name] = codes
        return {
            name: torch.where(broken[:, None, None], level.prior.num_codes, drawn[name]).cpu().numpy().astype(np.uint16)
            for name, level in self._levels.items()
        }

    def decode_codes(self, labels: np.ndarray, codes: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Decode maps of codes [N, h, w]; images [N, H, W, C] uint8, and finite [N] bool: False for unknown codes."""
        maps, known = {}, torch.ones(len(labels), dtype=torch.bool, device=self.device)
        for name in self._levels:
            maps[name], inside = self._known(name, codes)
            known &= inside.flatten(1).all(dim=1)
        with torch.no_grad():
            images, finite = self.decode(maps)
        return images, finite & known.cpu().numpy()

    def score_codes(
        self, labels: np.ndarray, streams: Streams, codes: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Tell how far each uniform lies outside its code's interval, [N, h, w] float64 per level."""
        return {
            name: score_maps(
                level.prior,
                self._codes(codes[name]),
                self._labels(labels),
                self._uniforms(level, streams),
                self._rule,
                None if level.above is None else self._known(level.above, codes)[0],
            )
            .cpu()
            .numpy()
            for name, level in self._levels.items()
        }

    @torch.no_grad()
    def map_bits(self, labels: np.ndarray, codes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return -log2 of the probability of each map given its label and the map above it, [N] float64 per level.

        Where codes are a function of the image and the lowest map is the image itself, their sum is at least the bits
        that the whole model gives the image (it may draw the image from other codes too). Temperature and top-p play no
        part.

        Args:
            labels: [N].
            codes: all maps, [N, h, w], of known codes.
        """
        return {
            name: map_nats(
                level.prior,
                self._codes(codes[name]),
                self._labels(labels),
                None if level.above is None else self._codes(codes[level.above]),
            )
            .div_(math.log(2))
            .cpu()
            .numpy()
            for name, level in self._levels.items()
        }

    def _known(self, name: str, codes: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
        """Return a level's map with 0 in the place of codes it does not have, and which it has."""
        values = self._codes(codes[name])
        inside = values < self._levels[name].prior.num_codes
        return torch.where(inside, values, 0), inside

    def _sampler(self, name: str, num: int) -> CachedSampler:
        """Return the sampler of a level for `num` maps; its buffers are kept while the number stays the same."""
        if name not in self._samplers or self._samplers[name].num != num:
            self._samplers[name] = CachedSampler(self._levels[name].prior, num)
        return self._samplers[name]

    def _uniforms(self, level: Level, streams: Streams) -> Tensor:
        shape = level.prior.height, level.prior.width
        return torch.from_numpy(streams.uniform(level.draw, shape)).to(self.device)

    def _labels(self, labels: np.ndarray) -> Tensor:
        return torch.from_numpy(labels.astype(np.int64)).to(self.device)

    def _codes(self, codes: np.ndarray) -> Tensor:
        return torch.from_numpy(codes.astype(np.int64)).to(self.device)
