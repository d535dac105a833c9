"""A class-conditional convolutional VAE with a density fitted to its codes: small, quick, and fitted on a CPU."""

from caskit.gen.cvae.config import FitConfig, Settings
from caskit.gen.cvae.fitting import NAME, fit
from caskit.gen.cvae.presets import PRESETS, packaged
from caskit.gen.cvae.sampler import CvaeGenerator, load

MICROBATCH_SIZE = 64
SAMPLER_VERSION = 1  # raised by every change that changes the bytes of samples
CODED = False

__all__ = [
    "CODED",
    "MICROBATCH_SIZE",
    "NAME",
    "PRESETS",
    "SAMPLER_VERSION",
    "CvaeGenerator",
    "FitConfig",
    "Settings",
    "fit",
    "load",
    "packaged",
]
