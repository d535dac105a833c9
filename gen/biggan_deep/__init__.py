"""BigGAN-deep (Brock et al. 2019): the generator, published weights, truncation and standing statistics, training."""

from caskit.gen.biggan_deep.config import Settings
from caskit.gen.biggan_deep.converting import convert
from caskit.gen.biggan_deep.deriving import DeriveConfig, derive
from caskit.gen.biggan_deep.fit_config import FitConfig
from caskit.gen.biggan_deep.fitting import NAME, fit
from caskit.gen.biggan_deep.presets import PRESETS, packaged
from caskit.gen.biggan_deep.sampler import BigGanGenerator, describe, load

MICROBATCH_SIZE = 40  # 25 to a shard; 40 images of 256x256 are drawn 8 at a time
CODED = False
SAMPLER_VERSION = 1  # raised by every change that changes the bytes of samples

__all__ = [
    "CODED",
    "MICROBATCH_SIZE",
    "NAME",
    "PRESETS",
    "SAMPLER_VERSION",
    "BigGanGenerator",
    "DeriveConfig",
    "FitConfig",
    "Settings",
    "convert",
    "derive",
    "describe",
    "fit",
    "load",
    "packaged",
]
