"""The named fits of the family. `checkpoints/` holds what the commands in their docstrings gave."""

from collections.abc import Callable
from pathlib import Path

from caskit.gen.adversarial.config import CollapseConfig, StandingConfig
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.fit_config import FitConfig

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def fashion_mnist() -> FitConfig:
    """Fashion-MNIST, 28x28 grey, 60,000 images: maps of 7x7, 14x14, 28x28.

    Parameters: generator 0.59 M, discriminator 0.09 M.
    FLOPs per image: a training step 2.96e+08; a sample 1.41e+07.

    Command: `caskit fit --gen biggan_deep:fashion-mnist --data runs/fashion-mnist/real/train --out runs/fit`.
    Hardware and time: one AVX-512 core, 1 h 50 min beside other work, about 90 minutes of processor time.
    Expected score: CAS of 60,000 samples, recipe fashion-mnist, one training seed: 81.3 % at truncation 1 and 82.0 % at
    1.5, each with its own standing statistics, beside Real 92.9 % (docs/biggan_deep.md).
    """
    return FitConfig(
        preset="fashion-mnist",
        network=NetworkConfig(
            width=16, multipliers=(6, 3, 2), attention_after=0, start_size=7, latent_size=64, embedding_size=32
        ),
        discriminator_width=24,
        num_steps=12_000,
        batch_size=64,
        generator_rate=2e-4,
        discriminator_rate=4e-4,
        decay_after=0.5,
        ema_decay=0.999,
        storage="float16",
    )


def digits() -> FitConfig:
    """Scikit-learn's digits, 8x8 grey, 1,442 images: maps of 4x4, 8x8.

    Parameters: generator 0.06 M, discriminator 0.03 M.
    FLOPs per image: a training step 2.04e+07; a sample 6.62e+05.

    Command: `caskit fit --gen biggan_deep:digits --data runs/digits/real/train --out runs/fit`.
    Hardware and time: a step took 0.07 processor seconds of one AVX-512 core with `discriminator_width=16` and 0.11
    with 48, beside other work.
    Expected score: not fitted.
    """
    return FitConfig(
        preset="digits",
        network=NetworkConfig(
            width=16, multipliers=(3, 2), attention_after=0, start_size=4, latent_size=32, embedding_size=16
        ),
        discriminator_width=32,
        num_steps=6000,
        batch_size=64,
        generator_rate=4e-4,
        discriminator_rate=4e-4,
        decay_after=0.5,
        ema_decay=0.998,
        storage="float16",
    )


def cifar_32() -> FitConfig:
    """CIFAR-10 or CIFAR-100, 32x32 colour: maps of 4x4 to 32x32, 256 channels. The costs are those of ten classes.

    Parameters: generator 3.08 M, discriminator 0.65 M.
    FLOPs per image: a training step 1.12e+10; a sample 3.44e+08.
    Fit: 100,000 x 50 x 1.12e+10 = 5.61e+16 FLOP, 10.0 minutes of one A100 80GB at 30 % of 312 TFLOP/s (bfloat16).
    Estimate, arithmetic alone.
    1,281,167 samples: 4.40e+14 FLOP, 0.2 minutes of one A100 80GB at 15 % of 312 TFLOP/s (TF32 at 30 % of its 156).
    Estimate, arithmetic alone.

    Command: `caskit fit --gen biggan_deep:cifar-32 --data SET --out DIR`.
    Expected score: not fitted. Multipliers as in ajbrock/BigGAN-PyTorch for this size; the rest is ours. The paper's
    CIFAR-10 row is BigGAN's, 71.87 % beside Real 92.58 % (Ravuri & Vinyals 2019).
    """
    return FitConfig(
        preset="cifar-32",
        network=NetworkConfig(width=64, multipliers=(4, 4, 4, 4), attention_after=0),
        discriminator_width=64,
        num_steps=100_000,
        batch_size=50,
        discriminator_steps=4,
        generator_rate=2e-4,
        discriminator_rate=2e-4,
        ema_decay=0.9999,
        ema_start=1000,
        mirrored=True,
        precision="bfloat16",
        standing=StandingConfig(num_batches=200, batch_size=50),
    )


def imagenet_128() -> FitConfig:
    """ImageNet, 128x128 colour, 1000 classes (Brock et al. 2019, table 7).

    Parameters: generator 50.24 M, discriminator 34.59 M.
    FLOPs per image: a training step 3.47e+11; a sample 1.79e+10.
    Fit: 150,000 x 2048 x 3.47e+11 = 1.07e+20 FLOP, 13.2 days of one A100 80GB at 30 % of 312 TFLOP/s (bfloat16).
    Estimate, arithmetic alone.
    1,281,167 samples: 2.30e+16 FLOP, 8.2 minutes of one A100 80GB at 15 % of 312 TFLOP/s (TF32 at 30 % of its 156).
    Estimate, arithmetic alone.

    Command: `torchrun --nproc-per-node 8 -m caskit fit --gen biggan_deep:imagenet-128 --data SET --out DIR`.
    Expected score: not fitted. The paper's own model has a CAS of 40.64 % top-1 and 64.44 % top-5 at truncation 1.5
    beside Real 68.82 % and 88.79 % (Ravuri & Vinyals 2019, table 1). The number of steps is ours: the paper trains
    until collapse.
    """
    return _imagenet("imagenet-128", (16, 16, 8, 4, 2, 1), accumulation=2)


def imagenet_256() -> FitConfig:
    """ImageNet, 256x256 colour, 1000 classes (Brock et al. 2019, table 8).

    Parameters: generator 55.74 M, discriminator 38.25 M.
    FLOPs per image: a training step 1.14e+12; a sample 5.88e+10.
    Fit: 150,000 x 2048 x 1.14e+12 = 3.51e+20 FLOP, 43.3 days of one A100 80GB at 30 % of 312 TFLOP/s (bfloat16).
    Estimate, arithmetic alone.
    1,281,167 samples: 7.53e+16 FLOP, 26.8 minutes of one A100 80GB at 15 % of 312 TFLOP/s (TF32 at 30 % of its 156).
    Estimate, arithmetic alone.

    Command: `torchrun --nproc-per-node 8 -m caskit fit --gen biggan_deep:imagenet-256 --data SET --out DIR`.
    Expected score: not fitted. The paper's own model has a CAS of 42.65 % top-1 and 65.92 % top-5 at truncation 1.5
    beside Real 73.09 % and 91.47 % (Ravuri & Vinyals 2019, table 2). The number of steps is ours: the paper trains
    until collapse.
    """
    return _imagenet("imagenet-256", (16, 16, 8, 8, 4, 2, 1), accumulation=8)


def imagenet_512() -> FitConfig:
    """ImageNet, 512x512 colour, 1000 classes (Brock et al. 2019, table 9).

    Parameters: generator 56.02 M, discriminator 38.30 M.
    FLOPs per image: a training step 1.47e+12; a sample 7.60e+10.
    Fit: 150,000 x 2048 x 1.47e+12 = 4.51e+20 FLOP, 55.8 days of one A100 80GB at 30 % of 312 TFLOP/s (bfloat16).
    Estimate, arithmetic alone.
    1,281,167 samples: 9.74e+16 FLOP, 34.7 minutes of one A100 80GB at 15 % of 312 TFLOP/s (TF32 at 30 % of its 156).
    Estimate, arithmetic alone.

    Command: `torchrun --nproc-per-node 8 -m caskit fit --gen biggan_deep:imagenet-512 --data SET --out DIR`.
    Expected score: not fitted. The number of steps is ours: the paper trains until collapse.
    """
    return _imagenet("imagenet-512", (16, 16, 8, 8, 4, 2, 1, 1), accumulation=32)


def _imagenet(preset: str, multipliers: tuple[int, ...], *, accumulation: int) -> FitConfig:
    """Return a fit of the published sizes; `accumulation` divides the 256 images that each of eight GPUs has.

    Rates and two updates of the discriminator are the paper's; the average begins where launch_BigGAN_deep.sh of
    ajbrock/BigGAN-PyTorch lets it begin.
    """
    return FitConfig(
        preset=preset,
        network=NetworkConfig(width=128, multipliers=multipliers, attention_after=4),
        discriminator_width=128,
        num_steps=150_000,
        batch_size=2048,
        accumulation=accumulation,
        discriminator_steps=2,
        generator_rate=5e-5,
        discriminator_rate=2e-4,
        ema_decay=0.9999,
        ema_start=20_000,
        orthogonal=1e-4,
        mirrored=True,
        precision="bfloat16",
        collapse=CollapseConfig(check_every=1000, grace=10_000, window=1000),
        standing=StandingConfig(num_batches=1000, batch_size=128),
    )


PRESETS: dict[str, Callable[[], FitConfig]] = {
    "fashion-mnist": fashion_mnist,
    "digits": digits,
    "cifar-32": cifar_32,
    "imagenet-128": imagenet_128,
    "imagenet-256": imagenet_256,
    "imagenet-512": imagenet_512,
}


def packaged(preset: str) -> Path | None:
    """Return the folder of the checkpoint that comes with the package, or None where there is none."""
    folder = CHECKPOINTS / preset
    return folder if preset in PRESETS and folder.is_dir() else None
