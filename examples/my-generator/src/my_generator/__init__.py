"""A generator family for caskit: the pixels of each class as a normal distribution with a few directions."""

from my_generator.config import PRESETS, FitConfig, Settings, packaged
from my_generator.fitting import fit
from my_generator.model import NAME, load

MICROBATCH_SIZE = 64  # a constant: large enough for speed, small enough for memory, never read from the host
SAMPLER_VERSION = 1  # raise it with every change that changes the bytes of samples
CODED = False  # True for a generator that draws discrete codes and decodes them

__all__ = [
    "CODED",
    "MICROBATCH_SIZE",
    "NAME",
    "PRESETS",
    "SAMPLER_VERSION",
    "FitConfig",
    "Settings",
    "fit",
    "load",
    "packaged",
]
