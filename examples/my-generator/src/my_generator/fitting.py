"""The fit: per class the mean image, the directions of largest variance, and what is left of each pixel's variance."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caskit.gen.checkpoint import save_checkpoint
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet
from caskit.train.distributed import World
from caskit.train.images import Images
from my_generator.config import FitConfig
from my_generator.model import NAME


def fit(
    data: FrozenSet,
    config: FitConfig,
    out: Path,
    *,
    device: torch.device,
    progress: Callable[[Any], None] | None,
    stop: Callable[[], bool],
    world: World,
) -> Path:
    """Fit the model to a frozen set and write its checkpoint; seconds long, so it is not resumed but done again."""
    world.require_one(f"family {NAME}")
    images = Images(data)
    means, directions, deviations = [], [], []
    for label in range(len(data.classes)):
        ids = np.flatnonzero(data.labels == label)
        if len(ids) <= config.num_directions:
            raise InputError(
                f"{data.store.location}: class {data.classes.ids[label]} has {len(ids)} images, "
                f"more than num_directions ({config.num_directions}) are needed"
            )
        pixels = torch.from_numpy(images.batch(ids).reshape(len(ids), -1)).to(device).double() / 255
        mean = pixels.mean(dim=0)
        _, scales, rows = torch.linalg.svd(pixels - mean, full_matrices=False)
        chosen = rows[: config.num_directions].T * (scales[: config.num_directions] / (len(ids) - 1) ** 0.5)
        left = (pixels.var(dim=0) - chosen.square().sum(dim=1)).clamp(min=0)
        means.append(mean)
        directions.append(chosen)
        deviations.append(left.sqrt())
    tensors = {"means": means, "directions": directions, "deviations": deviations}
    save_checkpoint(
        out,
        family=NAME,
        preset=config.preset,
        config=dataclasses.asdict(config),
        classes=data.classes,
        height=images.height,
        width=images.width,
        channels=images.channels,
        tensors={name: torch.stack(values).float() for name, values in tensors.items()},
    )
    return out
