"""A class-conditional GAN with a projection discriminator (Miyato & Koyama 2018): residual networks, small."""

from caskit.gen.cgan.config import Settings
from caskit.gen.cgan.fit_config import FitConfig
from caskit.gen.cgan.fitting import NAME, fit
from caskit.gen.cgan.presets import PRESETS, packaged
from caskit.gen.cgan.sampler import CganGenerator, load

MICROBATCH_SIZE = 250  # five parts of the sampler
SAMPLER_VERSION = 1  # raised by every change that changes the bytes of samples
CODED = False

__all__ = [
    "CODED",
    "MICROBATCH_SIZE",
    "NAME",
    "PRESETS",
    "SAMPLER_VERSION",
    "CganGenerator",
    "FitConfig",
    "Settings",
    "fit",
    "load",
    "packaged",
]
