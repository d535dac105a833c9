"""The named fits of the family."""

from collections.abc import Callable
from pathlib import Path

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.ham.config import FitConfig, LevelConfig

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def fashion_mnist() -> FitConfig:
    """Fashion-MNIST, 28x28 grey, 60,000 images: 7x7 codes of 256, pixels given them.

    Command: `caskit fit --gen ham:fashion-mnist --data runs/fashion-mnist/real/train --out runs/fit`.
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


PRESETS: dict[str, Callable[[], FitConfig]] = {"fashion-mnist": fashion_mnist}


def packaged(preset: str) -> Path | None:
    """Return the folder of the checkpoint that comes with the package, or None where there is none."""
    folder = CHECKPOINTS / preset
    return folder if preset in PRESETS and folder.is_dir() else None
