"""Fitting a generator to a frozen set, stage by stage: judge, autoencoder, codes, top and bottom prior, checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.autoregressive.encoding import ENCODE_BATCH, EncodingTask, codes_digest
from caskit.gen.autoregressive.fitting import PriorTask
from caskit.gen.autoregressive.images import to_input
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.variants import VariantImages, shift_offsets
from caskit.gen.autoregressive.weights import tensors_digest
from caskit.gen.checkpoint import save_checkpoint
from caskit.gen.foreign import file_digest, read_state_dict
from caskit.gen.judge_fitting import fit_judge
from caskit.gen.vqvae2.autoencoder import AutoencoderTask
from caskit.gen.vqvae2.config import BOTTOM, TOP, FitConfig
from caskit.gen.vqvae2.importing import ImportedAutoencoder, load_autoencoder
from caskit.gen.vqvae2.network import Autoencoder
from caskit.gen.vqvae2.weights import build_prior, checkpoint_tensors
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet
from caskit.train.distributed import World
from caskit.train.engine import ALONE, EngineConfig, Progress, Task, run
from caskit.train.images import Images

NAME = "vqvae2"
JUDGE, AUTOENCODER, CODES = "judge", "autoencoder", "codes"
WORK_FOLDER = "_work"  # below the checkpoint's folder: a folder per stage with its log and resume point
# Fields of the config that the priors or the judge read: with others, the autoencoder's work stays what it is. With a
# label loss it reads `mirrored` too.
PRIOR_FIELDS = ("top", "bottom", "top_prior", "bottom_prior", "mirrored", "shifts", "storage", "checkpointing", "judge")


def fit(
    data: FrozenSet,
    config: FitConfig,
    out: Path,
    *,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    world: World = ALONE,
    autoencoder: Autoencoder | None = None,
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
        autoencoder: one that is not to be trained, as `config.imported_autoencoder` says.

    Returns:
        `out`.

    Raises:
        InputError: the set cannot be fitted, or `out` holds the fit of another set or config.
        NotFinished: `stop` said so.
    """
    if (autoencoder is None) != (config.imported_autoencoder is None):
        raise InputError("imported_autoencoder: a config that names one is fitted with --from-autoencoder, no other is")
    stages = Stages(data, config, out, device=device, progress=progress, stop=stop, world=world)
    rejection = fit_judge(  # first: it takes the least time to say that the images are not those of its recipe
        data,
        config.judge,
        out / WORK_FOLDER / JUDGE,
        seed=config.seed,
        device=device,
        progress=progress,
        stop=stop,
        world=world,
    )
    autoencoder = stages.autoencoder(autoencoder)
    codes = stages.codes(autoencoder)
    priors = {level: stages.prior(level, codes) for level in (TOP, BOTTOM)}
    images = stages.images
    with world.agreed():
        if world.first:
            save_checkpoint(
                out,
                family=NAME,
                preset=config.preset,
                config=config.to_json(),
                classes=data.classes,
                height=images.height,
                width=images.width,
                channels=images.channels,
                tensors=checkpoint_tensors(autoencoder, priors, config.storage),
                rejection=rejection,
                judge=None if rejection is None else out / WORK_FOLDER / JUDGE,
            )
    return out


def fit_from_autoencoder(
    path: Path,
    data: FrozenSet,
    config: FitConfig,
    out: Path,
    *,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    world: World = ALONE,
) -> Path:
    """Fit priors to the codes of an imported autoencoder (importing.py) and write the checkpoint of all three.

    Args:
        path: the file, whose digest becomes `config.imported_autoencoder`.
        data: see `fit`, like the others.
        config: see there.
        out: see there.
        device: see there.
        progress: see there.
        stop: see there.
        world: see there.

    Raises:
        InputError: also where the file does not fit the config.
    """
    tensors = read_state_dict(path)
    config = dataclasses.replace(config, imported_autoencoder=file_digest(path))
    autoencoder = load_autoencoder(tensors, config, channels=data.channels, name=str(path))
    return fit(data, config, out, device=device, progress=progress, stop=stop, world=world, autoencoder=autoencoder)


class Stages:
    """The stages of one fit. Each takes what the ones before it made; the two priors do not know each other."""

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

    def autoencoder(self, imported: Autoencoder | None) -> Autoencoder:
        """Fit the autoencoder, or enter an imported one into the records."""
        task: AutoencoderTask | ImportedAutoencoder
        if imported is None:
            num_classes = len(self._data.classes)
            task = AutoencoderTask(self.images, self._data.labels, num_classes, self._config, world=self._world)
        else:
            task = ImportedAutoencoder(imported, self._device)
        fields = {k: v for k, v in dataclasses.asdict(self._config).items() if k not in PRIOR_FIELDS}
        if self._config.label_loss:
            fields["mirrored"] = self._config.mirrored
        self._run(task, AUTOENCODER, {"config": fields}, self._config.autoencoder.batch_size)
        return task.model

    def codes(self, autoencoder: Autoencoder) -> dict[str, np.ndarray]:
        """Encode all images."""
        stride, mirrored, shifts = self._config.stride, self._config.mirrored, self._config.shifts
        images = VariantImages(self.images, len(self._data), mirrored=mirrored, shifts=shifts)
        height, width = self.images.height // stride, self.images.width // stride
        autoencoder.eval()

        def encode(ids: np.ndarray) -> dict[str, Tensor]:
            maps = autoencoder.encode(to_input(images.batch(ids), self._device))
            return dict(zip((TOP, BOTTOM), maps, strict=True))

        task = EncodingTask(
            encode,
            # Shifts are for the top prior, the bottom one does not overfit.
            {TOP: (len(images), height, width), BOTTOM: (images.num_unshifted, 2 * height, 2 * width)},
            self._out / WORK_FOLDER / CODES,
            world=self._world,
        )
        identity = {
            "autoencoder": tensors_digest(autoencoder.state_dict()),
            "mirrored": mirrored,
            "shifts": shifts,
        }
        self._run(task, CODES, identity, ENCODE_BATCH)
        return task.codes()

    def prior(self, level: str, codes: Mapping[str, np.ndarray]) -> PixelSnail:
        """Fit the prior of a level."""
        config, stage = self._config, getattr(self._config, level)
        torch.manual_seed(config.seed)
        num_classes, num_maps = len(self._data.classes), len(codes[BOTTOM])
        num_variants = len(shift_offsets(config.shifts)) if level == TOP else 1
        given = {TOP: codes[TOP]} if level == TOP else {TOP: codes[TOP][:num_maps], BOTTOM: codes[BOTTOM]}
        model = build_prior(
            config, level, top_shape=codes[TOP].shape[1:], num_classes=num_classes, num_variants=num_variants
        )
        task = PriorTask(
            model,
            given[level],
            np.tile(self._data.labels, 2 if config.mirrored else 1),
            given[TOP] if level == BOTTOM else None,
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
        identity = {
            "stage": dataclasses.asdict(stage),
            "prior": dataclasses.asdict(getattr(config, f"{level}_prior")),
            "codes": codes_digest(given),
            "seed": config.seed,
            "threads": config.threads,
            "precision": config.precision,
        }
        self._run(task, level, identity, stage.batch_size)
        return task.fitted

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
    for name in (AUTOENCODER, TOP, BOTTOM):
        batch_size = getattr(config, name).batch_size
        if num < batch_size:
            raise InputError(f"{name}.batch_size is {batch_size}, the set has {num} images; at most as many")
