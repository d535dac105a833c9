"""Fitting a generator to a frozen set, stage by stage.

For each level from the pixels up: its encoder through the auxiliary decoder, the codes of all images, its
autoregressive decoder. Then the prior over the last level's codes, and the checkpoint. A stage takes what earlier ones
made, and no gradient goes back to them: encoders and codes know nothing of the autoregressive decoders (De Fauw et al.
2019).
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.encoding import ENCODE_BATCH, EncodingTask, codes_digest
from caskit.gen.autoregressive.fitting import Maps, PriorTask
from caskit.gen.autoregressive.images import to_input
from caskit.gen.autoregressive.pixels import PixelMaps
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.autoregressive.variants import VariantImages
from caskit.gen.autoregressive.weights import tensors_digest
from caskit.gen.checkpoint import save_checkpoint
from caskit.gen.ham.abstraction import AbstractionTask
from caskit.gen.ham.config import FitConfig, level_name
from caskit.gen.ham.network import LevelNetwork
from caskit.gen.ham.weights import Networks, build_decoder, build_level, build_prior, checkpoint_tensors
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet
from caskit.train.distributed import World
from caskit.train.engine import ALONE, EngineConfig, Progress, Task, run
from caskit.train.images import Images

NAME = "ham"
PRIOR = "prior"
WORK_FOLDER = "_work"  # below the checkpoint's folder: a folder per stage with its log and resume point
# Fields of a level that its encoder and codes do not depend on.
DECODER_FIELDS = ("decoding", "decoder", "upsamplings")


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
        data: a real set of images of one size, sides multiples of `config.stride`.
        config: what to fit and for how long.
        out: the checkpoint's folder; resume points and JSONL logs go to `_work` below it.
        device: where the stages are trained.
        progress: told how far a stage is.
        stop: asked before every step whether to stop, which raises NotFinished.
        world: the processes that fit it together; batch sizes must be multiples of their number.

    Returns:
        `out`.

    Raises:
        InputError: the set cannot be fitted, or `out` holds the fit of another set or config.
        NotFinished: `stop` said so.
    """
    stages = Stages(data, config, out, device=device, progress=progress, stop=stop, world=world)
    levels, decoders = [], []
    for index in range(len(config.levels)):
        levels.append(stages.level(index))
        stages.encode(index, levels[index])
        decoders.append(stages.decoder(index))
    networks = Networks(levels=tuple(levels), decoders=tuple(decoders), prior=stages.prior())
    images = stages.images
    with world.agreed():
        if world.first:
            save_checkpoint(
                out,
                family=NAME,
                preset=config.preset,
                config=dataclasses.asdict(config),
                classes=data.classes,
                height=images.height,
                width=images.width,
                channels=images.channels,
                tensors=checkpoint_tensors(networks, config.storage),
            )
    return out


class Stages:
    """The stages of one fit, each made once, in order."""

    def __init__(
        self,
        data: FrozenSet,
        config: FitConfig,
        out: Path,
        *,
        device: torch.device,
        progress: Callable[[Progress], None] | None,
        stop: Callable[[], bool],
        world: World,
    ) -> None:
        self.images = Images(data)
        self._data, self._config, self._out, self._device = data, config, out, device
        self._progress, self._stop, self._world = progress, stop, world
        check_data(self.images, len(data), config)
        torch.set_num_threads(config.threads)
        self._shape = (self.images.height, self.images.width, self.images.channels)
        self._pixels = PixelMaps(self.images, len(data), mirrored=config.mirrored)
        self._variants = VariantImages(self.images, len(data), mirrored=config.mirrored, shifts=config.shifts)
        # Of the levels so far, [n, h, w] uint16: the images, the mirror images, then all of them again for each shift.
        self._codes: list[np.ndarray] = []

    def level(self, index: int) -> LevelNetwork:
        """Fit the autoencoder of a level, 0 the lowest, through its auxiliary decoder."""
        config, level = self._config, self._config.levels[index]
        torch.manual_seed(config.seed)
        model = build_level(config, index, channels=self.images.channels)
        num = len(self._data)  # the mirror images and shifts are for what overfits, and an encoder does not
        task = AbstractionTask(model, lambda ids: self._inputs(index, ids), num, level, config, world=self._world)
        fields = {k: v for k, v in dataclasses.asdict(level).items() if k not in DECODER_FIELDS}
        identity = {"level": fields, **self._common(), **({} if index == 0 else self._digest(index - 1))}
        self._run(task, f"level{index + 1}", identity, level.abstraction.batch_size)
        return model.eval()

    def encode(self, index: int, model: LevelNetwork) -> None:
        """Encode all images by a level."""
        name = level_name(index + 1)
        scale = self._config.strides[index]
        task = EncodingTask(
            lambda ids: {name: model.encode(self._inputs(index, ids))},
            {name: (len(self._variants), self.images.height // scale, self.images.width // scale)},
            self._out / WORK_FOLDER / name,
            world=self._world,
        )
        identity = {
            "level": tensors_digest(model.state_dict()),
            "mirrored": self._config.mirrored,
            "shifts": self._config.shifts,
            **({} if index == 0 else self._digest(index - 1)),
        }
        self._run(task, name, identity, ENCODE_BATCH)
        self._codes.append(task.codes()[name])

    def decoder(self, index: int) -> PixelSnail:
        """Fit the autoregressive decoder of a level to what the level encodes, given its codes."""
        level = self._config.levels[index]
        torch.manual_seed(self._config.seed)
        model = build_decoder(self._config, index, shape=self._shape, num_classes=len(self._data.classes))
        num = len(self._pixels)
        maps: Maps = self._pixels if index == 0 else self._codes[index - 1][:num]
        identity = {
            "upsamplings": level.upsamplings,
            **self._digest(index, num),
            **({"mirrored": self._config.mirrored} if index == 0 else self._digest(index - 1, num)),
        }
        return self._fitted(
            model, f"decoder{index + 1}", level.decoding, level.decoder, maps, self._codes[index][:num], identity
        )

    def prior(self) -> PixelSnail:
        """Fit the prior over the codes of the last level."""
        config = self._config
        torch.manual_seed(config.seed)
        variants, last = self._variants.num_variants, len(config.levels) - 1
        model = build_prior(config, shape=self._shape, num_classes=len(self._data.classes), num_variants=variants)
        return self._fitted(
            model, PRIOR, config.prior, config.prior_network, self._codes[last], None, self._digest(last), variants
        )

    def _fitted(
        self,
        model: PixelSnail,
        name: str,
        stage: StageConfig,
        network: PriorConfig,
        maps: Maps,
        above: Maps | None,
        identity: Mapping[str, Any],
        num_variants: int = 1,
    ) -> PixelSnail:
        config = self._config
        task = PriorTask(
            model,
            maps,
            np.tile(self._data.labels, 2 if config.mirrored else 1),
            above,
            num_steps=stage.num_steps,
            batch_size=stage.batch_size,
            optimizer=stage.optimizer,
            learning_rate=stage.rate,
            ema_decay=stage.ema_decay,
            seed=config.seed,
            precision=config.precision,
            world=self._world,
            num_variants=num_variants,
        )
        fields = {"stage": dataclasses.asdict(stage), "network": dataclasses.asdict(network), **self._common()}
        self._run(task, name, {**fields, **identity}, stage.batch_size)
        return task.fitted

    def _inputs(self, index: int, ids: np.ndarray) -> Tensor:
        """Return what a level reads of some samples: images [n, C, H, W] in -1..1, or codes [n, H, W] int64."""
        if index:
            return torch.from_numpy(self._codes[index - 1][ids].astype(np.int64)).to(self._device)
        return to_input(self._variants.batch(ids), self._device)

    def _common(self) -> dict[str, Any]:
        config = self._config
        return {"seed": config.seed, "threads": config.threads, "precision": config.precision}

    def _digest(self, index: int, num: int | None = None) -> dict[str, str]:
        """Return the digest of a level's codes, of the first `num` or of all."""
        name = level_name(index + 1)
        return {name: codes_digest({name: self._codes[index][:num]})}

    def _run(self, task: Task, name: str, identity: Mapping[str, Any], batch_size: int) -> None:
        run(
            task,
            out=self._out / WORK_FOLDER / name,
            identity={
                "family": NAME,
                "content_root": self._data.replica.content_root,
                "device": self._device.type,
                **identity,
            },
            config=EngineConfig(seed=self._config.seed),
            batch_size=batch_size,
            progress=self._progress,
            stop=self._stop,
            name=name,
            world=self._world,
        )


def check_data(images: Images, num: int, config: FitConfig) -> None:
    """Raise InputError unless a set of `num` images can be fitted."""
    if images.height % config.stride or images.width % config.stride:
        raise InputError(
            f"images are {images.height}x{images.width}, preset {config.preset} is fitted to sides that are multiples "
            f"of {config.stride}"
        )
    stages: dict[str, StageConfig] = {}
    for number, level in enumerate(config.levels, 1):
        stages |= {f"level {number}: abstraction": level.abstraction, f"level {number}: decoding": level.decoding}
    for name, stage in {**stages, "prior": config.prior}.items():
        if num < stage.batch_size:
            raise InputError(f"{name}.batch_size is {stage.batch_size}, the set has {num} images; at most as many")
