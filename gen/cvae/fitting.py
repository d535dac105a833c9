"""Fitting a generator to a frozen set: the autoencoder, then the density of its codes, then the checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caskit.gen.checkpoint import save_checkpoint
from caskit.gen.cvae.autoencoder import AutoencoderTask
from caskit.gen.cvae.config import FitConfig
from caskit.gen.cvae.density import DensityTask, Mixtures
from caskit.gen.cvae.network import STRIDE, Decoder
from caskit.gen.cvae.sampler import DECODER_PREFIX
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet
from caskit.train.distributed import World
from caskit.train.engine import ALONE, EngineConfig, Progress, run

NAME = "cvae"
AUTOENCODER_FOLDER = "_work/autoencoder"  # resume points and logs of the two stages, below the checkpoint's folder
DENSITY_FOLDER = "_work/density"


def fit(
    data: FrozenSet,
    config: FitConfig,
    out: Path,
    *,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    world: World = ALONE,
) -> Path:
    """Fit a generator and write its checkpoint; called again after an interruption, it goes on where it stopped.

    Its losses are logarithms of means over the batch, and no average of gradients over parts of it gives theirs: it is
    fitted by one process.

    Args:
        data: a real set of images of one size, sides multiples of 4.
        config: what to fit and for how long.
        out: the checkpoint's folder; resume points and JSONL logs go to `_work` below it.
        device: where the autoencoder is trained; the density is fitted on the CPU.
        progress: told how far a stage is.
        stop: asked before every step whether to stop, which raises NotFinished.
        world: of one process.

    Returns:
        `out`.

    Raises:
        InputError: the set cannot be fitted, `out` holds the fit of another set or config, or there are several
            processes.
        NotFinished: `stop` said so.
    """
    world.require_one(f"family {NAME}")
    images, labels = data.arrays()
    check_data(images, labels, len(data.classes), config)
    torch.set_num_threads(config.threads)
    fields = dataclasses.asdict(config)
    identity = {"family": NAME, "config": fields, "content_root": data.replica.content_root, "device": device.type}
    # The first stage does not know the density's fields: with another density its work can be copied and kept.
    first_fields = {name: value for name, value in fields.items() if not name.startswith("mixture_")}
    engine = EngineConfig(seed=config.seed)
    autoencoder = AutoencoderTask(images, labels, len(data.classes), config, device=device)
    run(
        autoencoder,
        out=out / AUTOENCODER_FOLDER,
        identity={**identity, "config": first_fields},
        config=engine,
        batch_size=config.batch_size,
        progress=progress,
        stop=stop,
        name="autoencoder",
    )
    means, variances = autoencoder.encode()
    density = DensityTask(means, variances, torch.from_numpy(labels), len(data.classes), config)
    run(
        density,
        out=out / DENSITY_FOLDER,
        identity=identity,
        config=engine,
        batch_size=len(labels),
        progress=progress,
        stop=stop,
        name="density",
    )
    save_checkpoint(
        out,
        family=NAME,
        preset=config.preset,
        config=fields,
        classes=data.classes,
        height=images.shape[1],
        width=images.shape[2],
        channels=images.shape[3],
        tensors=checkpoint_tensors(autoencoder.decoder, density.mixtures),
    )
    return out


def check_data(images: np.ndarray, labels: np.ndarray, num_classes: int, config: FitConfig) -> None:
    """Raise InputError for images [N, H, W, C] and labels [N] that this family cannot be fitted to."""
    height, width = images.shape[1:3]
    if height % STRIDE or width % STRIDE:
        raise InputError(f"images are {height}x{width}, cvae is fitted to sides that are multiples of {STRIDE}")
    if len(images) < config.batch_size:
        raise InputError(f"batch_size is {config.batch_size}, the set has {len(images)} images; at most as many")
    counts = np.bincount(labels, minlength=num_classes)
    if counts.min() < config.mixture_components:
        scarce = int(counts.argmin())
        raise InputError(
            f"class {scarce} has {counts[scarce]} images, mixture_components is {config.mixture_components}; "
            "at most as many as images"
        )


def checkpoint_tensors(decoder: Decoder, mixtures: Mixtures) -> dict[str, Tensor]:
    """Return what sampling needs. The encoder is no part of it; it stays in the resume point."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in decoder.state_dict().items()}
    kept = {DECODER_PREFIX + name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}
    return {**kept, **mixtures.to_tensors()}
