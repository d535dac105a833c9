"""The second stage of a fit: all images as codes, in two files on disk, as a task of the shared engine."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.variants import shift_offsets, shifted
from caskit.gen.vqvae2.autoencoder import to_input
from caskit.gen.vqvae2.config import BOTTOM, TOP
from caskit.gen.vqvae2.network import Autoencoder
from caskit.train.distributed import World
from caskit.train.images import Images

ENCODE_BATCH = 250


class EncodingTask:
    """Writes the codes of one batch of images per step, each image at its own place, so a step can be repeated.

    In a fit by several processes each encodes a part of every batch and writes all of it: to the same file, or to one
    of its own where they do not share a disk.
    """

    def __init__(
        self,
        model: Autoencoder,
        images: Images,
        num: int,
        stride: int,
        folder: Path,
        *,
        mirrored: bool = False,
        shifts: int = 0,
        world: World,
    ) -> None:
        """Take the images to encode.

        Args:
            model: a fitted autoencoder.
            images: of a set.
            num: how many.
            stride: image sides over top map sides.
            folder: of the files.
            mirrored: encode the mirror image of each too, after all of them.
            shifts: then encode all that again in each other one of `shift_offsets(shifts)`, the top map alone.
            world: the processes that encode together.
        """
        self._images_num, self._offsets = num, shift_offsets(shifts)
        self._unshifted_num = 2 * num if mirrored else num
        self._num = len(self._offsets) * self._unshifted_num
        self.num_steps = -(-self._num // ENCODE_BATCH)
        self._model, self._images, self._world = model.eval(), images, world
        height, width = images.height // stride, images.width // stride
        shapes = {TOP: (self._num, height, width), BOTTOM: (self._unshifted_num, 2 * height, 2 * width)}
        with world.agreed():
            if world.first:
                _open_all(folder, shapes)
        self._maps = _open_all(folder, shapes)

    def codes(self) -> dict[str, np.ndarray]:
        """Return the maps, [n, h, w] uint16, read from disk where they are used; n as `mirrored` and `shifts` say."""
        return dict(self._maps)

    @torch.no_grad()
    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Encode batch `step`; returns nothing to log but its number."""
        world = self._world
        ids = np.arange(step * ENCODE_BATCH, min((step + 1) * ENCODE_BATCH, self._num))
        ours = slice(world.rank, None, world.size)
        drawn = [torch.zeros(len(ids), *self._maps[name].shape[1:], dtype=torch.int64) for name in (TOP, BOTTOM)]
        if len(ids[ours]):
            codes = self._model.encode(to_input(self._pixels(ids[ours]), world.device))
            for whole, part in zip(drawn, codes, strict=True):
                whole[ours] = part.cpu()
        for name, whole in zip((TOP, BOTTOM), drawn, strict=True):
            kept = ids < len(self._maps[name])
            self._maps[name][ids[kept]] = world.sum_(whole).numpy().astype(np.uint16)[kept]
        return {"batch": float(step)}

    def _pixels(self, ids: np.ndarray) -> np.ndarray:
        """Return images [N, H, W, C] uint8; of a shift, ids from the number of images on are mirror images."""
        variants, ids = np.divmod(ids, self._unshifted_num)
        pixels = self._images.batch(ids % self._images_num)
        mirror = (ids >= self._images_num)[:, None, None, None]
        pixels = np.where(mirror, pixels[:, :, ::-1], pixels)
        for variant in np.unique(variants):
            chosen = variants == variant
            pixels[chosen] = shifted(pixels[chosen], self._offsets[variant])
        return pixels

    def state_dict(self) -> dict[str, Any]:
        """Flush the files; they are the state."""
        for codes in self._maps.values():
            codes.flush()  # type: ignore[attr-defined]
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing: the files are there."""


def _open_all(folder: Path, shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    return {name: open_codes(folder / f"{name}.npy", shape) for name, shape in shapes.items()}


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
