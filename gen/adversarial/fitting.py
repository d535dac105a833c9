"""Fitting a generator to a frozen set: training, standing statistics, checkpoint."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caskit.gen.adversarial.collapse import Collapsed, read_verdict, write_verdict
from caskit.gen.adversarial.config import GanConfig
from caskit.gen.adversarial.gan_task import GanTask
from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.spectral import folded
from caskit.gen.adversarial.standing import standing_moments, write_moments
from caskit.gen.checkpoint import RECORD_NAME, save_checkpoint
from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet
from caskit.train.distributed import World
from caskit.train.engine import ALONE, EngineConfig, Progress, run
from caskit.train.images import Images

WORK_FOLDER = "_work/gan"  # resume point, log and the last good generator, below the checkpoint's folder
STATISTICS = ("means", "variances")  # tables that stay float32: variances can leave the range of float16


def fit_gan(
    data: FrozenSet,
    config: GanConfig,
    out: Path,
    *,
    family: str,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    world: World = ALONE,
) -> Path:
    """Fit a generator and write its checkpoint; called again after an interruption, it goes on where it stopped.

    Args:
        data: a real set of square images of the size that the network gives.
        config: what to fit and for how long.
        out: the checkpoint's folder; resume point and JSONL log go to `_work` below it.
        family: whose checkpoint it is.
        device: where it is trained.
        progress: told how far it is.
        stop: asked before every step whether to stop, which raises NotFinished.
        world: the processes that fit it together; the batch size must be a multiple of their number.

    Returns:
        `out`.

    Raises:
        InputError: the set cannot be fitted, or `out` holds the fit of another set or config.
        NotFinished: `stop` said so.
        RunFailed: training collapsed (collapse.py). The checkpoint is then the last good generator, if there was one,
            and the same call says the same again and trains no further.
    """
    images = Images(data)
    check_data(images, len(data), config)
    torch.set_num_threads(config.threads)
    work = out / WORK_FOLDER
    identity: dict[str, Any] = {
        "family": family,
        "config": json.loads(canonical_json(dataclasses.asdict(config))),
        "content_root": data.replica.content_root,
        "device": device.type,
    }
    task = GanTask(images, data.labels, len(data.classes), config, folder=work, world=world)
    ending = _Ending(family=family, data=data, config=config, out=out, task=task)
    with world.agreed():
        verdict = read_verdict(work, canonical_json(identity).decode()) if world.first else None
        if verdict is not None:
            if not (out / RECORD_NAME).exists():  # killed in between
                ending.keep_good(verdict.kept)
            raise Collapsed(verdict)
    try:
        run(
            task,
            out=work,
            identity=identity,
            config=EngineConfig(seed=config.seed),
            batch_size=config.batch_size,
            progress=progress,
            stop=stop,
            name="gan",
            world=world,
        )
    except Collapsed as collapsed:
        with world.agreed():
            if world.first:
                # First what makes the same command stop, then the checkpoint, which that command would make again.
                write_verdict(work, canonical_json(identity).decode(), collapsed.verdict)
                ending.keep_good(collapsed.verdict.kept)
        raise
    with world.agreed():
        if world.first:
            ending.save(config.num_steps)
    return out


def check_data(images: Images, num: int, config: GanConfig) -> None:
    """Raise InputError unless a set of `num` images can be fitted."""
    side = config.image_size
    if (images.height, images.width) != (side, side):
        raise InputError(
            f"images are {images.height}x{images.width}, the network of preset {config.preset} draws {side}x{side}"
        )
    if num < config.batch_size:
        raise InputError(f"batch_size is {config.batch_size}, the set has {num} images; at most as many")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ending:
    """What makes a checkpoint of the average that a task holds."""

    family: str
    data: FrozenSet
    config: GanConfig
    out: Path
    task: GanTask

    def keep_good(self, step: int | None) -> None:
        """Make the checkpoint of the last good generator, if there is one."""
        if step is not None:
            self.task.load_good(step)
            self.save(step)

    def save(self, step: int) -> None:
        """Fold the spectral norms, compute the statistics and write the checkpoint of `step` updates."""
        config = self.config
        average: Any = self.task.average.model
        generator = rounded(folded(average), config.storage)
        moments = standing_moments(generator, standing_batches(generator, config))
        write_moments(generator, moments)
        save_checkpoint(
            self.out,
            family=self.family,
            preset=config.preset,
            config=checkpoint_config(config, step),
            classes=self.data.classes,
            height=config.image_size,
            width=config.image_size,
            channels=self.data.channels,
            tensors=checkpoint_tensors(generator, config.storage),
        )


def checkpoint_config(config: GanConfig, step: int) -> dict[str, Any]:
    """Return what a checkpoint says of its fit, after `step` updates, and of its statistics."""
    statistics = {"kind": "standing", "z_law": "normal", **dataclasses.asdict(config.standing), "seed": config.seed}
    return {**dataclasses.asdict(config), "trained_steps": step, "statistics": statistics}


def rounded(generator: GeneratorNetwork, storage: str) -> GeneratorNetwork:
    """Round a generator's weights to what is stored, in place: its statistics have to be those of what is loaded."""
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.copy_(parameter.to(getattr(torch, storage)))
    return generator


def checkpoint_tensors(generator: GeneratorNetwork, storage: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, weights in the type of `storage`."""
    kind = getattr(torch, storage)
    state = generator.state_dict()
    return {n: t if n.rpartition(".")[2] in STATISTICS else t.detach().to(kind) for n, t in state.items()}


def standing_batches(generator: GeneratorNetwork, config: GanConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield z from the law of training and labels drawn evenly, from the fit's seed, on the generator's device."""
    noise = torch.Generator().manual_seed(config.seed)
    for _ in range(config.standing.num_batches):
        num = config.standing.batch_size
        latents = torch.randn(num, generator.latent_size, generator=noise)
        labels = torch.randint(generator.num_classes, (num,), generator=noise)
        yield latents.to(generator.device), labels.to(generator.device)
