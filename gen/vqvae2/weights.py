"""The three networks of a generator as one set of named tensors, and back."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.autoregressive.weights import fill, stored
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.judge_fitting import JudgeConfig
from caskit.gen.vqvae2.config import BOTTOM, TOP, FitConfig
from caskit.gen.vqvae2.network import Autoencoder
from caskit.manifests.errors import InputError

AUTOENCODER_PREFIX = "autoencoder."
PRIOR_PREFIX = {TOP: "top.", BOTTOM: "bottom."}
TRAINING_STATE = frozenset({"counts", "sums", "started"})  # of a codebook


def build_prior(
    config: FitConfig, level: str, *, top_shape: tuple[int, ...], num_classes: int, num_variants: int = 1
) -> PixelSnail:
    """Build the prior of a level with random weights; `top_shape` is height and width of the top map."""
    architecture: PriorConfig = getattr(config, f"{level}_prior")
    height, width = top_shape
    scale = 1 if level == TOP else 2
    return PixelSnail(
        architecture,
        height=height * scale,
        width=width * scale,
        num_codes=config.level_codes[level],
        num_classes=num_classes,
        condition_codes=0 if level == TOP else config.level_codes[TOP],
        num_variants=num_variants,
        checkpointing=config.checkpointing,
    )


def checkpoint_tensors(autoencoder: Autoencoder, priors: Mapping[str, PixelSnail], storage: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, in the type of `storage`."""
    tensors = stored(autoencoder, AUTOENCODER_PREFIX, storage, without=TRAINING_STATE)
    for level, prior in priors.items():
        tensors |= stored(prior, PRIOR_PREFIX[level], storage)
    return tensors


def config_of(record: Mapping[str, Any]) -> FitConfig:
    """Return the config that a checkpoint's record states. Raises InputError or TypeError for one of another form."""
    values = dict(record["config"])
    for name in ("autoencoder", TOP, BOTTOM):
        values[name] = StageConfig(**values[name])
    for name in ("top_prior", "bottom_prior"):
        values[name] = PriorConfig(**values[name])
    values["judge"] = JudgeConfig(**values.get("judge", {}))
    return FitConfig(**values)


def load_networks(checkpoint: Checkpoint) -> tuple[Autoencoder, dict[str, PixelSnail], FitConfig]:
    """Build the networks of a checkpoint and fill them, in float32 on the CPU.

    Raises:
        InputError: the config or the tensors are not those of this family.
    """
    record, tensors = checkpoint.record, checkpoint.tensors()
    try:
        config = config_of(record)
    except TypeError as error:
        raise InputError(f"{checkpoint.path}: config is not that of this family ({error})") from error
    top_shape = (record["height"] // config.stride, record["width"] // config.stride)
    num_classes = len(checkpoint.classes)
    autoencoder = Autoencoder(record["channels"], config)
    fill(autoencoder, tensors, AUTOENCODER_PREFIX, checkpoint.path, without=TRAINING_STATE)
    priors = {}
    for level in (TOP, BOTTOM):
        priors[level] = build_prior(config, level, top_shape=top_shape, num_classes=num_classes)
        fill(priors[level], tensors, PRIOR_PREFIX[level], checkpoint.path)
    return autoencoder, priors, config
