"""The named fits of the family."""

from collections.abc import Callable
from pathlib import Path

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.ham.config import MSP, FitConfig, LevelConfig

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def fashion_mnist() -> FitConfig:
    """Fashion-MNIST, 28x28 grey, 60,000 images: 7x7 codes of 256, pixels given them.

    Parameters: level1 0.21 M, decoder1 0.47 M, prior 1.91 M.
    FLOPs per image: a training step 6.20e+07, 9.89e+08, 5.32e+08; a sample 4.48e+08.

    Command: `caskit fit --gen ham:fashion-mnist --data runs/fashion-mnist/real/train --out runs/fit`.
    Hardware and time: one AVX-512 core, about 90 minutes of processor time: 75 images/s of the pixel decoder, 110 of
    the prior, 1,200 of the encoder, 8,000 encoded.
    Expected score: CAS of 60,000 samples, recipe fashion-mnist, three training seeds: 88.1 % beside Real 92.7 %, a gap
    of 4.6 points.
    """
    return FitConfig(
        preset="fashion-mnist",
        levels=(
            LevelConfig(
                stride=4,
                channels=64,
                residual_channels=32,
                code_size=32,
                num_codes=256,
                abstraction=StageConfig(num_steps=6000, batch_size=64, learning_rate=2e-3),
                decoding=StageConfig(
                    num_steps=5000, batch_size=32, learning_rate=3e-3, ema_decay=0.999, optimizer="muon"
                ),
                decoder=PriorConfig(
                    hidden=48,
                    residual=48,
                    blocks=1,
                    layers=6,
                    first_rows_above=3,
                    first_columns=7,
                    embedding=16,
                    condition_layers=2,
                    condition_hidden=64,
                    condition_residual=64,
                    dropout=0.0,
                ),
                upsamplings=2,
            ),
        ),
        prior=StageConfig(num_steps=7500, batch_size=32, learning_rate=3e-3, ema_decay=0.999, optimizer="muon"),
        prior_network=PriorConfig(
            hidden=128,
            residual=128,
            blocks=2,
            layers=4,
            first_rows_above=2,
            first_columns=9,
            class_positions=True,
            heads=4,
            head_size=16,
            dropout=0.1,
        ),
        mirrored=True,
        shifts=1,
        storage="float16",
    )


def digits() -> FitConfig:
    """Scikit-learn's digits, 8x8 grey, 1,442 images: 4x4 codes of 32, pixels given them.

    Parameters: level1 0.03 M, decoder1 0.12 M, prior 0.04 M.
    FLOPs per image: a training step 2.98e+06, 3.20e+07, 2.86e+06; a sample 9.65e+06.

    Command: `caskit fit --gen ham:digits --data runs/digits/real/train --out runs/fit`.
    Hardware and time: one AVX-512 core, about 3 minutes of processor time, estimated.
    Expected score: not fitted.
    """
    stage = StageConfig(num_steps=1500, batch_size=64, learning_rate=3e-3, ema_decay=0.99, optimizer="muon")
    return FitConfig(
        preset="digits",
        levels=(
            LevelConfig(
                stride=2,
                channels=32,
                residual_channels=16,
                code_size=16,
                num_codes=32,
                abstraction=StageConfig(num_steps=1200, batch_size=64, learning_rate=2e-3),
                decoding=stage,
                decoder=PriorConfig(
                    hidden=32,
                    residual=32,
                    blocks=1,
                    layers=3,
                    rows_above=2,
                    columns=5,
                    embedding=16,
                    condition_layers=1,
                    condition_hidden=32,
                    condition_residual=32,
                    dropout=0.1,
                ),
                upsamplings=1,
            ),
        ),
        prior=stage,
        prior_network=PriorConfig(
            hidden=32, residual=32, blocks=1, layers=3, embedding=16, class_positions=True, dropout=0.2
        ),
        storage="float16",
    )


def cifar_32() -> FitConfig:
    """CIFAR-10 or CIFAR-100, 32x32 colour: 8x8 codes of 256, pixels given them. The costs are those of ten classes.

    Parameters: level1 0.84 M, decoder1 6.11 M, prior 23.40 M.
    FLOPs per image: a training step 3.25e+08, 7.67e+10, 8.98e+09; a sample 2.44e+10.
    Fit: 40,000 x 128 x 3.25e+08 + 60,000 x 64 x 7.67e+10 + 80,000 x 128 x 8.98e+09 = 3.88e+17 FLOP, 51.8 minutes of
    one A100 80GB at 40 % of 312 TFLOP/s (bfloat16). Estimate, arithmetic alone.
    1,281,167 samples: 3.12e+16 FLOP, 11.1 minutes of one A100 80GB at 15 % of 312 TFLOP/s (TF32 at 30 % of its 156).
    Estimate, arithmetic alone.

    Command: `caskit fit --gen ham:cifar-32 --data SET --out DIR`.
    Expected score: not fitted.
    """
    return FitConfig(
        preset="cifar-32",
        levels=(
            LevelConfig(
                stride=4,
                num_codes=256,
                abstraction=StageConfig(num_steps=40_000, batch_size=128, learning_rate=1e-3, warmup=0.05),
                decoding=StageConfig(
                    num_steps=60_000, batch_size=64, learning_rate=5e-4, warmup=0.05, ema_decay=0.9995
                ),
                decoder=PriorConfig(
                    hidden=128,
                    residual=128,
                    blocks=2,
                    layers=5,
                    rows_above=2,
                    columns=7,  # of three channels each, a pixel and the one on its left
                    condition_layers=4,
                    condition_hidden=128,
                    condition_residual=128,
                    dropout=0.1,
                ),
                upsamplings=2,
            ),
        ),
        prior=StageConfig(num_steps=80_000, batch_size=128, learning_rate=5e-4, warmup=0.05, ema_decay=0.9995),
        prior_network=PriorConfig(
            hidden=256, residual=512, blocks=4, layers=4, heads=8, head_size=32, out_layers=4, dropout=0.3
        ),
        mirrored=True,
        precision="bfloat16",
    )


def imagenet_128() -> FitConfig:
    """ImageNet, 128x128 colour, 1000 classes: 16x16 codes, 32x32 codes given them, pixels given those.

    Masked self-prediction at both levels, as in the row that the paper on CAS scored. How large the networks were is
    not known to us: docs/ham.md says what was chosen.

    Parameters: level1 4.60 M, decoder1 53.53 M, level2 25.45 M, decoder2 280.20 M, prior 459.89 M.
    FLOPs per image: a training step 4.36e+10, 9.40e+12, 5.77e+10, 1.82e+12, 8.69e+11; a sample 2.66e+12.
    Fit: 300,000 x 256 x 4.36e+10 + 300,000 x 256 x 9.40e+12 + 300,000 x 256 x 5.77e+10 + 500,000 x 512 x 1.82e+12 +
    800,000 x 1024 x 8.69e+11 = 1.91e+21 FLOP, 176.8 days of one A100 80GB at 40 % of 312 TFLOP/s (bfloat16). Estimate,
    arithmetic alone.
    1,281,167 samples: 3.41e+18 FLOP, 20.2 hours of one A100 80GB at 15 % of 312 TFLOP/s (TF32 at 30 % of its 156).
    Estimate, arithmetic alone.

    Command: `caskit fit --gen ham:imagenet-128 --data SET --out DIR`.
    Expected score: not fitted. The authors' own model has a CAS of 54.05 % top-1 and 77.33 % top-5 beside Real 68.82 %
    and 88.79 % (Ravuri & Vinyals 2019, table 1).
    """
    abstraction = StageConfig(num_steps=300_000, batch_size=256, learning_rate=3e-4, warmup=0.01)
    return FitConfig(
        preset="imagenet-128",
        levels=(
            LevelConfig(
                stride=4,
                auxiliary=MSP,
                channels=256,
                residual_blocks=4,
                residual_channels=128,
                abstraction=abstraction,
                decoding=StageConfig(
                    num_steps=300_000, batch_size=256, learning_rate=3e-4, warmup=0.01, ema_decay=0.9999
                ),
                decoder=PriorConfig(
                    hidden=256,
                    residual=256,
                    blocks=3,
                    layers=5,
                    rows_above=2,
                    columns=7,  # of three channels each, a pixel and the one on its left
                    condition_layers=8,
                    condition_hidden=256,
                    condition_residual=256,
                    dropout=0.0,
                ),
                upsamplings=2,
            ),
            LevelConfig(
                stride=2,
                auxiliary=MSP,
                channels=512,
                residual_blocks=8,
                residual_channels=256,
                embedding=64,
                abstraction=abstraction,
                decoding=StageConfig(
                    num_steps=500_000, batch_size=512, learning_rate=3e-4, warmup=0.01, ema_decay=0.9999
                ),
                decoder=PriorConfig(
                    hidden=512,
                    residual=1024,
                    blocks=4,
                    layers=5,
                    rows_above=2,
                    columns=5,
                    heads=8,
                    head_size=64,
                    condition_layers=8,
                    condition_hidden=512,
                    condition_residual=1024,
                    dropout=0.1,
                ),
                upsamplings=1,
            ),
        ),
        prior=StageConfig(num_steps=800_000, batch_size=1024, learning_rate=3e-4, warmup=0.01, ema_decay=0.9999),
        prior_network=PriorConfig(
            hidden=512,
            residual=2048,
            blocks=4,
            layers=5,
            rows_above=2,
            columns=5,
            heads=8,
            head_size=64,
            out_layers=20,
            dropout=0.1,
        ),
        precision="bfloat16",
        checkpointing=True,
    )


PRESETS: dict[str, Callable[[], FitConfig]] = {
    "fashion-mnist": fashion_mnist,
    "digits": digits,
    "cifar-32": cifar_32,
    "imagenet-128": imagenet_128,
}


def packaged(preset: str) -> Path | None:
    """Return the folder of the checkpoint that comes with the package, or None where there is none."""
    folder = CHECKPOINTS / preset
    return folder if preset in PRESETS and folder.is_dir() else None
