"""A class-conditional gated PixelCNN over the pixels themselves: slow, without an encoder, with exact likelihoods."""

from caskit.gen.autoregressive.config import Settings
from caskit.gen.pixelcnn.config import FitConfig
from caskit.gen.pixelcnn.fitting import NAME, fit
from caskit.gen.pixelcnn.presets import PRESETS, packaged
from caskit.gen.pixelcnn.sampler import PixelCnnGenerator, load

MICROBATCH_SIZE = 250
SAMPLER_VERSION = 1  # raised by every change that changes the bytes of samples
CODED = True

__all__ = [
    "CODED",
    "MICROBATCH_SIZE",
    "NAME",
    "PRESETS",
    "SAMPLER_VERSION",
    "FitConfig",
    "PixelCnnGenerator",
    "Settings",
    "fit",
    "load",
    "packaged",
]
