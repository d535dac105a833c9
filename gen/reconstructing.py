"""The work on one shard of a set of reconstructions: read the parent's images, pass them through the autoencoder."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np

from caskit.gen.drawing import Drawn, check_output
from caskit.gen.family import Family, Generator, Reconstructor
from caskit.gen.packer import ShardPacker
from caskit.gen.worker import Filled, ShardWorker, WorkerOptions
from caskit.manifests.errors import InputError, RunFailed
from caskit.manifests.reconstruction import Reconstruction
from caskit.shards.dataset import FrozenSet, open_set


def as_reconstructor(generator: Generator, family: str) -> Reconstructor:
    """Return a generator as what reconstructs. Raises InputError if it has no autoencoder of its own."""
    if not callable(getattr(generator, "reconstruct", None)):
        raise InputError(f"family {family} cannot reconstruct images, it has no encoder of its own; use another family")
    return cast(Reconstructor, generator)


def reconstruct_shard(
    model: Reconstructor, record: Reconstruction, parent: FrozenSet, start: int, stop: int
) -> Iterator[Drawn]:
    """Reconstruct the parent's samples `start <= i < stop`, in microbatches of exactly the record's size.

    A short one is padded by repeating its last image, and what the padding gave is thrown away.

    Raises:
        RunFailed: an output was not finite, naming its key; the same image would give it again.
    """
    for first in range(start, stop, record.microbatch_size):
        last = min(first + record.microbatch_size, stop)
        images = np.stack([parent.image(sample_id) for sample_id in range(first, last)])
        padding = np.repeat(images[-1:], record.microbatch_size - len(images), axis=0)
        outputs, finite = model.reconstruct(np.concatenate([images, padding]))
        check_output(outputs, finite, record, "reconstruct")
        for place in np.flatnonzero(~finite[: len(images)]):
            raise RunFailed(f"output of {record.family} was not finite for key {parent.keys[first + place]}")
        positions = np.arange(first, last) - start
        yield Drawn(positions=positions, attempts=np.zeros_like(positions), images=outputs[: len(images)])


class ReconstructionWorker(ShardWorker[Reconstruction]):
    """Reconstructs the shards of a record.

    Args:
        plan: the record.
        parent: path of the real set; it is checked in full once per machine, and every image when it is read.
        options: see ShardWorker.
    """

    def __init__(self, plan: Reconstruction, *, parent: str, **options: Unpack[WorkerOptions]) -> None:
        super().__init__(plan, **options)
        self.parent = parent
        self._data: FrozenSet | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was loaded behind."""
        return {**super().__getstate__(), "_data": None}

    def settings(self, family: Family) -> Any:
        """Return the family's defaults: they are about sampling."""
        return family.Settings()

    def load_more(self) -> None:
        """Open the parent."""
        self._data = open_set(f"{self.parent}@sha256:{self.plan.parent.replica_id}")

    def fill(self, generator: Generator, shard: int, tar: Path) -> Filled:
        """Reconstruct the shard's samples into its tar."""
        began, data = time.perf_counter(), self._data
        assert data is not None, "the parent is opened with the generator"
        model = as_reconstructor(generator, self.plan.family)
        start, stop = self.plan.shard_range(shard)
        ordinals = data.table.column("ordinal").to_numpy()[start:stop]
        with ShardPacker(tar, self.plan, shard, data.labels[start:stop], ordinals) as packer:
            for drawn in reconstruct_shard(model, self.plan, data, start, stop):
                packer.add(drawn)
            rows = packer.rows()
        seconds = {
            "reconstruct": time.perf_counter() - began - packer.wait_s,
            "encode": packer.encode_s,
            "write": packer.write_s,
            "wait": packer.wait_s,
        }
        return Filled(rows=rows, written=packer.written, seconds=seconds)
