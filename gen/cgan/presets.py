"""The named fits of the family. `checkpoints/` holds what the commands in their docstrings gave."""

from collections.abc import Callable
from pathlib import Path

from caskit.gen.adversarial.config import CollapseConfig, StandingConfig
from caskit.gen.cgan.config import NetworkConfig
from caskit.gen.cgan.fit_config import FitConfig

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def fashion_mnist() -> FitConfig:
    """Fashion-MNIST, 28x28 grey, 60,000 images: maps of 7x7, 14x14, 28x28.

    Parameters: generator 0.56 M, discriminator 0.16 M.
    FLOPs per image: a training step 6.45e+08; a sample 5.75e+07.

    Command: `caskit fit --gen cgan:fashion-mnist --data runs/fashion-mnist/real/train --out runs/fit`.
    Hardware and time: 131 images/s on one AVX-512 core, which makes 37 minutes; `--set discriminator_steps=5`, the
    published number, would take twice that.
    Expected score: CAS of 60,000 samples, recipe fashion-mnist, three training seeds: 83.6 % beside Real 92.7 %, a gap
    of 9.2 points.
    Rates, their decay and two updates of the discriminator are ours, see `_short`.
    """
    return _short(
        preset="fashion-mnist",
        network=NetworkConfig(
            channels=(128, 64, 32), discriminator_channels=(32, 64, 128), start_size=7, latent_size=64
        ),
        num_steps=4500,
    )


def digits() -> FitConfig:
    """Scikit-learn's digits, 8x8 grey, 1,442 images: maps of 4x4, 8x8.

    Parameters: generator 0.07 M, discriminator 0.04 M.
    FLOPs per image: a training step 3.32e+07; a sample 2.40e+06.

    Command: `caskit fit --gen cgan:digits --data runs/digits/real/train --out runs/fit`.
    Hardware and time: a step took 0.06 processor seconds of one AVX-512 core beside much other work, which makes three
    minutes.
    Expected score: not fitted.
    """
    return _short(
        preset="digits",
        network=NetworkConfig(
            channels=(64, 32), discriminator_channels=(32, 64), halvings=1, start_size=4, latent_size=32
        ),
        num_steps=3000,
    )


def cifar_32() -> FitConfig:
    """CIFAR-10 or CIFAR-100, 32x32 colour: maps of 4x4 to 32x32, 256 channels. The costs are those of ten classes.

    Parameters: generator 4.30 M, discriminator 1.06 M.
    FLOPs per image: a training step 2.93e+10; a sample 2.35e+09.
    Fit: 50,000 x 64 x 2.93e+10 = 9.37e+16 FLOP, 16.7 minutes of one A100 80GB at 30 % of 312 TFLOP/s (bfloat16).
    Estimate, arithmetic alone.
    1,281,167 samples: 3.01e+15 FLOP, 1.1 minutes of one A100 80GB at 15 % of 312 TFLOP/s (TF32 at 30 % of its 156).
    Estimate, arithmetic alone.

    Command: `caskit fit --gen cgan:cifar-32 --data SET --out DIR`.
    Expected score: not fitted. Layers, steps, rates and batch are those of pfnet-research/sngan_projection for CIFAR-10
    (configs/sn_cifar10.yml), which keeps no average of the weights; its updates of the generator see 128 samples, ours
    64. The paper's CIFAR-10 row is 76.35 % beside Real 92.58 % (Ravuri & Vinyals 2019).
    """
    return FitConfig(
        preset="cifar-32",
        network=NetworkConfig(channels=(256, 256, 256, 256), discriminator_channels=(128, 128, 128, 128)),
        num_steps=50_000,
        batch_size=64,
        ema_decay=0.0,
        precision="bfloat16",
        collapse=CollapseConfig(check_every=1000, grace=5000),
        standing=StandingConfig(num_batches=200, batch_size=64),
    )


def _short(*, preset: str, network: NetworkConfig, num_steps: int) -> FitConfig:
    """Return a fit of minutes on a CPU.

    Gains and offsets of all classes begin alike, and one step of Adam moves a number by about the rate: at the
    published 2e-4, made for 50,000 steps, a generator of few steps hardly learns its classes (docs/cgan.md).
    """
    return FitConfig(
        preset=preset,
        network=network,
        num_steps=num_steps,
        batch_size=64,
        discriminator_steps=2,
        generator_rate=5e-4,
        discriminator_rate=5e-4,
        decay_after=0.5,
        storage="float16",
    )


PRESETS: dict[str, Callable[[], FitConfig]] = {
    "fashion-mnist": fashion_mnist,
    "digits": digits,
    "cifar-32": cifar_32,
}


def packaged(preset: str) -> Path | None:
    """Return the folder of the checkpoint that comes with the package, or None where there is none."""
    folder = CHECKPOINTS / preset
    return folder if preset in PRESETS and folder.is_dir() else None
