"""HAM (De Fauw et al. 2019): codes learned through auxiliary decoders, autoregressive decoders down to the pixels."""

from caskit.gen.autoregressive.config import Settings
from caskit.gen.ham.config import FitConfig
from caskit.gen.ham.fitting import NAME, fit
from caskit.gen.ham.presets import PRESETS, packaged
from caskit.gen.ham.sampler import HamGenerator, load

MICROBATCH_SIZE = 250  # a quarter of a shard: a step of the samplers is then bound by arithmetic, not by calls
CODED = True
SAMPLER_VERSION = 1  # raised by every change that changes the bytes of samples

__all__ = [
    "CODED",
    "MICROBATCH_SIZE",
    "NAME",
    "PRESETS",
    "SAMPLER_VERSION",
    "FitConfig",
    "HamGenerator",
    "Settings",
    "fit",
    "load",
    "packaged",
]
