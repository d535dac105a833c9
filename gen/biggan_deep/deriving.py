"""A checkpoint with its batch-norm statistics computed again, for the law of z that samples are to be drawn with.

Standing statistics: Brock et al. 2019, section 3.2 and appendix D. The published tables end at truncation 1, and the
paper's best scores stand at 1.5 (Ravuri and Vinyals 2019, table 2).
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caskit.gen.adversarial.standing import standing_moments
from caskit.gen.autoregressive.config import check_integer
from caskit.gen.biggan_deep.config import Settings
from caskit.gen.biggan_deep.latents import draw_latents
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.biggan_deep.weights import load_network
from caskit.gen.checkpoint import Checkpoint, derived_there, save_checkpoint
from caskit.gen.numerics import numerics_applied
from caskit.gen.own_judge import own_judge, own_rejection
from caskit.gen.streams import Streams
from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.manifests.plan import Numerics
from caskit.manifests.seeds import MAX_SEED, stream_key

KIND = "standing"
DRAWS = {"latent": "biggan_deep/standing-latent", "label": "biggan_deep/standing-label"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeriveConfig:
    """All that decides the statistics besides the weights.

    Attributes:
        z_scale: see Settings.
        z_mode: see Settings.
        num_batches: over how many batches they are averaged.
        batch_size: samples of each. Norms see one batch, and the maps of all of it are in memory at once: about
            250 MB per image of 256x256.
        seed: of z and the labels, which are drawn evenly.
        threads: intra-op threads; the last bits depend on it.
    """

    z_scale: float = 1.0
    z_mode: str = "scale"
    num_batches: int = 100
    batch_size: int = 64
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        Settings(z_scale=self.z_scale, z_mode=self.z_mode)
        bounds = {"num_batches": (1, 10**6), "batch_size": (2, 65536), "seed": (0, MAX_SEED), "threads": (1, 1024)}
        for name, (low, high) in bounds.items():
            check_integer(name, getattr(self, name), low, high)


def derive(
    checkpoint: Checkpoint,
    config: DeriveConfig,
    out: Path,
    *,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Write a checkpoint with the same weights and one set of statistics; equal arguments give an equal id.

    Args:
        checkpoint: of this family, with a table of statistics or with one set.
        config: the law of z, and over how much of it.
        out: folder of the new checkpoint; where it is there already nothing is computed.
        device: where to compute.
        progress: hears how many batches are done, of how many.
        stop: asked before every batch.

    Raises:
        InputError: the checkpoint is not of this family, or `out` holds another one.
        NotFinished: stopped; nothing was written.
        RunFailed: the statistics are not finite.
    """
    if out.resolve() == checkpoint.path.resolve():
        raise InputError(f"{out}: is the folder of the checkpoint to derive from, use another one")
    transform = canonical_json(
        {"name": "standing-statistics", **dataclasses.asdict(config), "device": device.type}
    ).decode()
    if (there := derived_there(out, checkpoint, transform)) is not None:
        return there
    rejection = own_rejection(checkpoint)
    judge = None if rejection is None else own_judge(checkpoint, rejection)  # before anything that takes hours
    generator, _ = load_network(checkpoint)
    generator.to(device)
    with numerics_applied(Numerics(device=device.type, threads=config.threads)):
        moments = standing_moments(generator, _batches(generator, config, device, progress, stop))
    broken = [name for name, pair in moments.items() if not all(part.isfinite().all() for part in pair)]
    if broken:
        raise RunFailed(f"{checkpoint.path}: statistics of {broken[0]} at z_scale {config.z_scale:g} are not finite")
    tensors = checkpoint.tensors()
    for name, (mean, variance) in moments.items():
        tensors[f"{name}.means"], tensors[f"{name}.variances"] = mean.float()[None], variance.float()[None]
    record = checkpoint.record
    how = {name: value for name, value in dataclasses.asdict(config).items() if name != "threads"}
    return save_checkpoint(
        out,
        family=record["family"],
        preset=record["preset"],
        config={**record["config"], "statistics": {"kind": KIND, **how}},
        classes=checkpoint.classes,
        height=record["height"],
        width=record["width"],
        channels=record["channels"],
        tensors=tensors,
        derived_from=checkpoint.checkpoint_id,
        transform=transform,
        rejection=rejection,
        judge=judge,
    )


def _batches(
    generator: Generator,
    config: DeriveConfig,
    device: torch.device,
    progress: Callable[[int, int], None] | None,
    stop: Callable[[], bool],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield latents [N, latent_size] and labels [N]: sample i of all batches has the stream (seed, 0, i, 0)."""
    num_classes = generator.embedding.num_embeddings
    for batch in range(config.num_batches):
        if stop():
            raise NotFinished(
                f"stopped on request after {batch} of {config.num_batches} batches, nothing was written; "
                "the same command begins again"
            )
        first = batch * config.batch_size
        streams = Streams([stream_key(config.seed, 0, first + i, 0) for i in range(config.batch_size)])
        labels = (streams.uniform(DRAWS["label"], ()) * num_classes).astype(np.int64)
        latents = draw_latents(
            streams,
            generator.config.latent_size,
            z_scale=config.z_scale,
            z_mode=config.z_mode,
            draw=DRAWS["latent"],
        )
        yield torch.from_numpy(latents).to(device), torch.from_numpy(labels).to(device)
        if progress is not None:
            progress(batch + 1, config.num_batches)
