"""Passes a real set through a generator's autoencoder: record, shards, freeze, card. The same call again goes on.

The paper's row "VQ-VAE-2 reconstructions" (Ravuri & Vinyals 2019, table 1): what a classifier loses by training on
reconstructions, the generator loses before it draws its first code.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from caskit.gen.checkpoint import Checkpoint, load_checkpoint
from caskit.gen.family import family_path, open_family, require_code
from caskit.gen.planning import write_plan
from caskit.gen.reconstructing import ReconstructionWorker, as_reconstructor
from caskit.gen.sampling import SampleConfig, check_device, freeze_replica, frozen_replica, make_shards, tell_done
from caskit.gen.telemetry import Progress
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.plan import DEFAULT_MICROBATCH_SIZE, DEFAULT_SAMPLES_PER_SHARD, Numerics
from caskit.manifests.reconstruction import Parent, Reconstruction
from caskit.manifests.replica import Replica
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.parentage import check_parent
from caskit.shards.store import open_target, probe_create_only


def make_reconstruction(
    checkpoint: Checkpoint,
    parent: FrozenSet,
    *,
    codec: Codec | None = None,
    numerics: Numerics | None = None,
    samples_per_shard: int = DEFAULT_SAMPLES_PER_SHARD,
    microbatch_size: int = DEFAULT_MICROBATCH_SIZE,
    pixel_digests: bool = False,
    allow_code: bool = False,
) -> Reconstruction:
    """Make the record of a set of reconstructions.

    Args:
        checkpoint: whose autoencoder.
        parent: the real set.
        codec: how images are stored; lossless PNG by default.
        numerics: device kind, precision, threads.
        samples_per_shard: see Plan, as for the next two.
        microbatch_size: images that are reconstructed together.
        pixel_digests: also digest decoded pixels.
        allow_code: the model may be code that is not caskit's own.

    Raises:
        InputError: the set is not real, or the model is for other classes or images, or cannot reconstruct.
    """
    record, where = checkpoint.record, parent.store.location
    if parent.ingest is None:
        raise InputError(f"{where}: is a {parent.kind} set, reconstructions are made of a real one")
    if parent.classes != checkpoint.classes:
        raise InputError(
            f"{checkpoint.path}: fitted to other classes ({len(checkpoint.classes)}, {checkpoint.classes.ids[0]}, ...) "
            f"than those of {where} ({len(parent.classes)}, {parent.classes.ids[0]}, ...)"
        )
    _check_images(checkpoint, parent)
    family = open_family(record["family"], allow_code=allow_code)
    as_reconstructor(family.load(checkpoint, family.Settings(), torch.device("cpu")), family.NAME)
    histogram = np.bincount(parent.labels, minlength=len(parent.classes))
    return Reconstruction(
        classes=parent.classes,
        parent=Parent(
            replica_id=parent.replica.replica_id,
            content_root=parent.replica.content_root,
            dataset=parent.ingest.dataset,
            split=parent.ingest.split,
        ),
        family=record["family"],
        preset=record["preset"],
        checkpoint_id=checkpoint.checkpoint_id,
        sampler_version=family.SAMPLER_VERSION,
        histogram=tuple(int(count) for count in histogram),
        height=record["height"],
        width=record["width"],
        channels=record["channels"],
        codec=codec or Codec.of("png"),
        samples_per_shard=samples_per_shard,
        microbatch_size=microbatch_size,
        pixel_digests=pixel_digests,
        numerics=numerics or Numerics(),
    )


def _check_images(checkpoint: Checkpoint, parent: FrozenSet) -> None:
    sides = {name: np.unique(parent.table.column(name).to_numpy()).tolist() for name in ("height", "width")}
    found = {**sides, "channels": [parent.channels]}
    for name, values in found.items():
        if values != [checkpoint.record[name]]:
            shown = f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"
            raise InputError(
                f"{parent.store.location}: {name} of the images is {shown}, {checkpoint.path} is a model of "
                f"{checkpoint.record[name]}"
            )


def reconstruct(
    record: Reconstruction,
    out: Path,
    *,
    parent: FrozenSet,
    checkpoint: Path,
    config: SampleConfig | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Replica | None:
    """Make a set of reconstructions, or go on with it, and check at the end that every row stands for its real image.

    Args:
        record: what to make.
        out: the set's folder, new or with the same record in it.
        parent: the real set of the record.
        checkpoint: folder of the weights.
        config: how; see SampleConfig, of which `classifier` and `extend` are of no use here.
        progress: told after every shard.
        stop: see `sample`.

    Returns:
        The frozen set; None if it was not to be frozen.

    Raises:
        InputError: the folder holds something else, or the record cannot be worked off here.
        RunFailed: shards failed, listed; the others are committed.
        NotFinished: `stop` said so.
    """
    config = config or SampleConfig()
    check_device(record, config.device)
    store = open_target(str(out))
    if store.exists("replica.json"):
        write_plan(store, record)  # compares
        tell_done(record, config.part, progress)
        return _checked(out, frozen_replica(store), parent)
    require_code(record.family, record.preset, allow_code=config.allow_code)
    load_checkpoint(checkpoint, record.checkpoint_id)
    probe_create_only(store)  # before the record, the first thing that must never be overwritten
    write_plan(store, record)
    worker = ReconstructionWorker(
        record,
        parent=str(Path(parent.store.location).absolute()),
        module=family_path(record.family),
        location=str(Path(store.location).absolute()),
        checkpoint=checkpoint.absolute(),
        device=config.device,
        discard_orphans=config.discard_orphans,
        allow_environment=config.allow_environment,
        allow_code=config.allow_code,
    )
    make_shards(store, worker, config, progress, stop)
    if not config.freeze or config.part.count > 1:
        return None
    return _checked(out, freeze_replica(out, licence=config.licence), parent)


def _checked(out: Path, replica: Replica, parent: FrozenSet) -> Replica:
    check_parent(open_set(f"{out}@sha256:{replica.replica_id}", verify=False), parent)
    return replica
