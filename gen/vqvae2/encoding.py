"""The second stage of a fit: all images as codes, in two files on disk, as a task of the shared engine."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.vqvae2.autoencoder import to_input
from caskit.gen.vqvae2.network import BOTTOM, TOP, Autoencoder
from caskit.train.images import Images

ENCODE_BATCH = 250


class EncodingTask:
    """Writes the codes of one batch of images per step, each image at its own place, so a step can be repeated."""

    def __init__(
        self, model: Autoencoder, images: Images, num: int, stride: int, folder: Path, device: torch.device
    ) -> None:
        """Take a fitted autoencoder, the images and their number, and the folder of the files."""
        self.num_steps = -(-num // ENCODE_BATCH)
        self._model, self._images, self._num, self._device = model.eval(), images, num, device
        height, width = images.height // stride, images.width // stride
        folder.mkdir(parents=True, exist_ok=True)
        self._maps = {
            TOP: open_codes(folder / f"{TOP}.npy", (num, height, width)),
            BOTTOM: open_codes(folder / f"{BOTTOM}.npy", (num, 2 * height, 2 * width)),
        }

    def codes(self) -> dict[str, np.ndarray]:
        """Return the maps of all images, [N, h, w] uint16 each, read from disk where they are used."""
        return dict(self._maps)

    @torch.no_grad()
    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Encode batch `step`; returns nothing to log but its number."""
        ids = np.arange(step * ENCODE_BATCH, min((step + 1) * ENCODE_BATCH, self._num))
        codes = self._model.encode(to_input(self._images.batch(ids), self._device))
        for name, part in zip((TOP, BOTTOM), codes, strict=True):
            self._maps[name][ids] = part.cpu().numpy().astype(np.uint16)
        return {"batch": float(step)}

    def state_dict(self) -> dict[str, Any]:
        """Flush the files; they are the state."""
        for codes in self._maps.values():
            codes.flush()  # type: ignore[attr-defined]
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing: the files are there."""


def open_codes(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Open a file of codes for writing, made anew unless it has this shape."""
    if path.exists():
        there: np.ndarray = np.load(path, mmap_mode="r+")
        if there.shape == shape and there.dtype == np.uint16:
            return there
    made: np.ndarray = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=shape)
    return made


def codes_digest(codes: Mapping[str, np.ndarray]) -> str:
    """Return one SHA-256 over all maps, by which the priors know what they were fitted to."""
    digest = hashlib.sha256()
    for name in sorted(codes):
        digest.update(name.encode() + b"\0")
        for start in range(0, len(codes[name]), ENCODE_BATCH):
            digest.update(np.ascontiguousarray(codes[name][start : start + ENCODE_BATCH]).tobytes())
    return digest.hexdigest()
