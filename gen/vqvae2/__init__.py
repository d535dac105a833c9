"""VQ-VAE-2 (Razavi et al. 2019): a two-level autoencoder with codes, and class-conditional PixelSNAIL priors."""

from caskit.gen.autoregressive.config import Settings
from caskit.gen.vqvae2.config import FitConfig
from caskit.gen.vqvae2.fitting import NAME, fit, fit_from_autoencoder
from caskit.gen.vqvae2.presets import PRESETS, packaged
from caskit.gen.vqvae2.refining import RefineConfig, refine
from caskit.gen.vqvae2.sampler import DRAWS, Vqvae2Generator, load

MICROBATCH_SIZE = 250  # a quarter of a shard: a step of the samplers is then bound by arithmetic, not by calls
CODED = True
SAMPLER_VERSION = 1  # raised by every change that changes the bytes of samples

__all__ = [
    "CODED",
    "DRAWS",
    "MICROBATCH_SIZE",
    "NAME",
    "PRESETS",
    "SAMPLER_VERSION",
    "FitConfig",
    "RefineConfig",
    "Settings",
    "Vqvae2Generator",
    "fit",
    "fit_from_autoencoder",
    "load",
    "packaged",
    "refine",
]
