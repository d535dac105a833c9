"""All samples of a set as maps of codes, in files on disk, as a task of the shared engine."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.train.distributed import World

ENCODE_BATCH = 250

Encode = Callable[[np.ndarray], Mapping[str, Tensor]]


class EncodingTask:
    """Writes the codes of one batch of samples per step, each sample at its own place, so a step can be repeated.

    In a fit by several processes each encodes a part of every batch and writes all of it: to the same file, or to one
    of its own where they do not share a disk.
    """

    def __init__(
        self, encode: Encode, shapes: Mapping[str, tuple[int, int, int]], folder: Path, *, world: World
    ) -> None:
        """Take what encodes.

        Args:
            encode: ids [n] int64 to a map [n, h, w] int64 per name of `shapes`; it runs without gradients.
            shapes: number, height and width of each kind of map; of a kind with fewer, the first samples have one.
            folder: of the files.
            world: the processes that encode together.
        """
        self._num = max(num for num, _, _ in shapes.values())
        self.num_steps = -(-self._num // ENCODE_BATCH)
        self._encode, self._world = encode, world
        with world.agreed():
            if world.first:
                _open_all(folder, shapes)
        self._maps = _open_all(folder, shapes)

    def codes(self) -> dict[str, np.ndarray]:
        """Return the maps, [N, h, w] uint16 each, read from disk where they are used."""
        return dict(self._maps)

    @torch.no_grad()
    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Encode batch `step`; returns nothing to log but its number."""
        world = self._world
        ids = np.arange(step * ENCODE_BATCH, min((step + 1) * ENCODE_BATCH, self._num))
        ours = slice(world.rank, None, world.size)
        found = self._encode(ids[ours]) if len(ids[ours]) else {}
        for name, maps in self._maps.items():
            whole = torch.zeros(len(ids), *maps.shape[1:], dtype=torch.int64)
            if name in found:
                whole[ours] = found[name].cpu()
            kept = ids < len(maps)
            maps[ids[kept]] = world.sum_(whole).numpy().astype(np.uint16)[kept]
        return {"batch": float(step)}

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
    """Return one SHA-256 over all maps, by which a stage knows what it was fitted to."""
    digest = hashlib.sha256()
    for name in sorted(codes):
        digest.update(name.encode() + b"\0")
        for start in range(0, len(codes[name]), ENCODE_BATCH):
            digest.update(np.ascontiguousarray(codes[name][start : start + ENCODE_BATCH]).tobytes())
    return digest.hexdigest()
