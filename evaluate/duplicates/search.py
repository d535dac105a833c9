"""One search for copies: its device, its progress and its stop, for reading images and comparing them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from caskit.evaluate.duplicates.findings import NUM_NEIGHBOURS, Found
from caskit.evaluate.duplicates.neighbours import nearest
from caskit.evaluate.duplicates.pixels import Pixels, read_pixels
from caskit.shards.dataset import FrozenSet
from caskit.train.engine import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How one search runs.

    Attributes:
        device: where to compute.
        progress: told how far each stage is; steps are images.
        stop: asked now and then.
    """

    device: torch.device
    progress: Callable[[Progress], None] | None
    stop: Callable[[], bool]

    def shown(self, stage: str) -> Callable[[int, int], None]:
        """Return what tells images done and their total of a stage."""

        def show(done: int, total: int) -> None:
            if self.progress is not None:
                at = Progress(step=done, num_steps=total, metrics={}, images_per_s=0.0, eta_s=0.0, stage=stage)
                self.progress(at)

        return show

    def read(self, data: FrozenSet, name: str, side: int) -> Pixels:
        """Decode a set, see `read_pixels`."""
        return read_pixels(data, name, side=side, progress=self.shown(f"read {name}"), stop=self.stop)

    def find(
        self,
        ours: np.ndarray,
        theirs: np.ndarray,
        stage: str,
        *,
        same: np.ndarray | None = None,
        unit: float | None = None,
    ) -> Found:
        """Find the NUM_NEIGHBOURS nearest vectors of each of ours, or as many as there are, see `nearest`."""
        distances, places = nearest(
            ours,
            theirs,
            num=min(NUM_NEIGHBOURS, len(theirs) - (same is not None)),
            unit=unit,
            same=same,
            device=self.device,
            progress=self.shown(stage),
            stop=self.stop,
        )
        return Found(distances=distances, places=places)


def spaced(num: int, most: int) -> np.ndarray:
    """Return up to `most` of `num` places, evenly, [n] int64."""
    return np.arange(num) if num <= most else np.arange(most) * num // most
