"""The networks of a generator as one set of named tensors, and back."""

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from caskit.gen.autoregressive.pixels import NUM_VALUES
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.weights import fill, stored
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.ham.config import FitConfig, config_of
from caskit.gen.ham.network import LevelNetwork
from caskit.manifests.errors import InputError

PRIOR_PREFIX = "prior."
TRAINING_STATE = frozenset({"counts", "sums", "started"})  # of a codebook


@dataclasses.dataclass(frozen=True, kw_only=True)
class Networks:
    """All networks of a generator.

    Attributes:
        levels: encoder, codes and auxiliary decoder of each level, from the pixels up.
        decoders: the autoregressive decoder of each: of pixels, of the codes of level 1, ...
        prior: over the codes of the last level.
    """

    levels: tuple[LevelNetwork, ...]
    decoders: tuple[PixelSnail, ...]
    prior: PixelSnail


def build_level(config: FitConfig, index: int, *, channels: int) -> LevelNetwork:
    """Build the autoencoder of a level, 0 the lowest, with random weights; `channels` is of the images."""
    level = config.levels[index]
    if index == 0:
        return LevelNetwork(level, channels=channels)
    return LevelNetwork(level, below_codes=config.levels[index - 1].num_codes)


def build_decoder(config: FitConfig, index: int, *, shape: tuple[int, int, int], num_classes: int) -> PixelSnail:
    """Build the autoregressive decoder of a level, 0 the lowest, over what the level encodes.

    Args:
        config: a fit.
        index: of the level.
        shape: height, width and channels of the images.
        num_classes: of the set.
    """
    level, (height, width, channels) = config.levels[index], shape
    scale = 1 if index == 0 else config.strides[index - 1]
    return PixelSnail(
        level.decoder,
        height=height // scale,
        width=width // scale * (channels if index == 0 else 1),
        num_codes=NUM_VALUES if index == 0 else config.levels[index - 1].num_codes,
        num_classes=num_classes,
        condition_codes=level.num_codes,
        condition_upsamplings=level.upsamplings,
        checkpointing=config.checkpointing,
    )


def build_prior(
    config: FitConfig, *, shape: tuple[int, int, int], num_classes: int, num_variants: int = 1
) -> PixelSnail:
    """Build the prior over the codes of the last level, for `num_variants` of each image while fitting."""
    height, width, _ = shape
    return PixelSnail(
        config.prior_network,
        height=height // config.stride,
        width=width // config.stride,
        num_codes=config.levels[-1].num_codes,
        num_classes=num_classes,
        num_variants=num_variants,
        checkpointing=config.checkpointing,
    )


def build_networks(config: FitConfig, *, shape: tuple[int, int, int], num_classes: int) -> Networks:
    """Build all networks for images of a shape (height, width, channels), with random weights."""
    indices = range(len(config.levels))
    return Networks(
        levels=tuple(build_level(config, index, channels=shape[2]) for index in indices),
        decoders=tuple(build_decoder(config, index, shape=shape, num_classes=num_classes) for index in indices),
        prior=build_prior(config, shape=shape, num_classes=num_classes),
    )


def checkpoint_tensors(networks: Networks, storage: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, in the type of `storage`."""
    tensors = stored(networks.prior, PRIOR_PREFIX, storage)
    for index, (level, decoder) in enumerate(zip(networks.levels, networks.decoders, strict=True)):
        tensors |= stored(level, level_prefix(index), storage, without=TRAINING_STATE)
        tensors |= stored(decoder, decoder_prefix(index), storage)
    return tensors


def level_prefix(index: int) -> str:
    """Return how the names of a level's autoencoder begin; levels are counted from 1 in names."""
    return f"level{index + 1}."


def decoder_prefix(index: int) -> str:
    """Return how the names of a level's autoregressive decoder begin."""
    return f"decoder{index + 1}."


def load_networks(checkpoint: Checkpoint) -> tuple[Networks, FitConfig]:
    """Build the networks of a checkpoint and fill them, in float32 on the CPU.

    Raises:
        InputError: the config or the tensors are not those of this family.
    """
    record, tensors = checkpoint.record, checkpoint.tensors()
    config = _config(checkpoint, record["config"])
    shape = (record["height"], record["width"], record["channels"])
    networks = build_networks(config, shape=shape, num_classes=len(checkpoint.classes))
    known = [PRIOR_PREFIX]
    fill(networks.prior, tensors, PRIOR_PREFIX, checkpoint.path)
    for index, (level, decoder) in enumerate(zip(networks.levels, networks.decoders, strict=True)):
        fill(level, tensors, level_prefix(index), checkpoint.path, without=TRAINING_STATE)
        fill(decoder, tensors, decoder_prefix(index), checkpoint.path)
        known += [level_prefix(index), decoder_prefix(index)]
    unknown = sorted(name for name in tensors if not name.startswith(tuple(known)))
    if unknown:
        raise InputError(f"{checkpoint.path}: tensors do not go with the config, first {unknown[0]}")
    return networks, config


def _config(checkpoint: Checkpoint, values: Mapping[str, object]) -> FitConfig:
    try:
        return config_of(dict(values))
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{checkpoint.path}: config is not that of this family ({error})") from error
