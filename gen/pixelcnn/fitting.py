"""Fitting a generator to a frozen set."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from caskit.gen.autoregressive.fitting import PriorTask
from caskit.gen.autoregressive.pixels import PixelMaps
from caskit.gen.autoregressive.weights import stored
from caskit.gen.checkpoint import save_checkpoint
from caskit.gen.pixelcnn.config import FitConfig
from caskit.gen.pixelcnn.sampler import build_network
from caskit.shards.dataset import FrozenSet
from caskit.train.distributed import World
from caskit.train.engine import ALONE, EngineConfig, Progress, run
from caskit.train.images import Images

NAME = "pixelcnn"
WORK_FOLDER = "_work/pixels"  # resume point and log, below the checkpoint's folder


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

    Args:
        data: a real set of images of one size.
        config: what to fit and for how long.
        out: the checkpoint's folder; resume point and JSONL log go to `_work` below it.
        device: where it is trained.
        progress: told how far it is.
        stop: asked before every step whether to stop, which raises NotFinished.
        world: the processes that fit it together; the batch size must be a multiple of their number.

    Returns:
        `out`.

    Raises:
        InputError: the set cannot be fitted, or `out` holds the fit of another set or config.
        NotFinished: `stop` said so.
    """
    images = Images(data)
    shape = (images.height, images.width, images.channels)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    network = build_network(config, shape=shape, num_classes=len(data.classes)).to(device)
    stage = config.stage
    task = PriorTask(
        network,
        PixelMaps(images, len(data), mirrored=config.mirrored),
        np.tile(data.labels, 2 if config.mirrored else 1),
        None,
        num_steps=stage.num_steps,
        batch_size=stage.batch_size,
        optimizer=stage.optimizer,
        learning_rate=stage.rate,
        ema_decay=stage.ema_decay,
        seed=config.seed,
        precision=config.precision,
        world=world,
    )
    fields = dataclasses.asdict(config)
    run(
        task,
        out=out / WORK_FOLDER,
        identity={"family": NAME, "config": fields, "content_root": data.replica.content_root, "device": device.type},
        config=EngineConfig(seed=config.seed),
        batch_size=stage.batch_size,
        progress=progress,
        stop=stop,
        name="pixels",
        world=world,
    )
    with world.agreed():
        if world.first:
            save_checkpoint(
                out,
                family=NAME,
                preset=config.preset,
                config=fields,
                classes=data.classes,
                height=images.height,
                width=images.width,
                channels=images.channels,
                tensors=stored(task.fitted, "", config.storage),
            )
    return out
