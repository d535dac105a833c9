"""The named fits of the family. `checkpoints/` holds what the commands in their docstrings gave."""

from collections.abc import Callable
from pathlib import Path

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.pixelcnn.config import FitConfig

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def fashion_mnist() -> FitConfig:
    """Fashion-MNIST, 28x28 grey, 60,000 images.

    Parameters: 0.41 M. FLOPs per image: a training step 6.08e+08; a sample 1.75e+08.

    Command: `caskit fit --gen pixelcnn:fashion-mnist --data runs/fashion-mnist/real/train --out runs/fit`.
    Hardware and time: one AVX-512 core, 34 minutes beside other work (109 images/s).
    Expected score: CAS of 60,000 samples, recipe fashion-mnist, three training seeds: 87.1 % beside Real 92.7 %, a gap
    of 5.7 points. Its own classifier by Bayes' rule: 89.6 %, at 2.79 bits per dimension.
    """
    return FitConfig(
        preset="fashion-mnist",
        network=PriorConfig(
            hidden=32,
            residual=32,
            blocks=2,
            layers=3,
            rows_above=2,
            columns=5,
            first_rows_above=3,
            first_columns=7,
            class_positions=True,
            embedding=16,
            dropout=0.0,
        ),
        stage=StageConfig(num_steps=7000, batch_size=32, learning_rate=3e-3, ema_decay=0.999, optimizer="muon"),
        storage="float16",
    )


def digits() -> FitConfig:
    """Scikit-learn's digits, 8x8 grey, 1,442 images.

    Command: `caskit fit --gen pixelcnn:digits --data runs/digits/real/train --out runs/fit`.
    """
    return FitConfig(
        preset="digits",
        network=PriorConfig(
            hidden=48,
            residual=48,
            blocks=2,
            layers=3,
            rows_above=2,
            columns=5,
            class_positions=True,
            embedding=16,
            dropout=0.2,
        ),
        stage=StageConfig(num_steps=1500, batch_size=32, learning_rate=3e-3, ema_decay=0.995, optimizer="muon"),
        storage="float16",
    )


PRESETS: dict[str, Callable[[], FitConfig]] = {"fashion-mnist": fashion_mnist, "digits": digits}


def packaged(preset: str) -> Path | None:
    """Return the folder of the checkpoint that comes with the package, or None where there is none."""
    folder = CHECKPOINTS / preset
    return folder if preset in PRESETS and folder.is_dir() else None
