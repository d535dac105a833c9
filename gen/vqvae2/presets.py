"""The named fits of the family."""

from collections.abc import Callable
from pathlib import Path

from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.vqvae2.config import FitConfig, StageConfig

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def fashion_mnist() -> FitConfig:
    """Fashion-MNIST."""
    return FitConfig(
        preset="fashion-mnist",
        bottom_stride=2,
        channels=64,
        residual_channels=32,
        code_size=32,
        num_codes=256,
        autoencoder=StageConfig(num_steps=2344, batch_size=128, learning_rate=2e-3),
        top=StageConfig(num_steps=3750, batch_size=128, learning_rate=2e-3, ema_decay=0.999),
        bottom=StageConfig(num_steps=2350, batch_size=128, learning_rate=2e-3, ema_decay=0.999),
        top_prior=PriorConfig(hidden=128, residual=128, blocks=2, layers=4, heads=4, head_size=16, dropout=0.0),
        bottom_prior=PriorConfig(
            hidden=96,
            residual=96,
            blocks=2,
            layers=4,
            condition_layers=3,
            condition_hidden=96,
            condition_residual=96,
            dropout=0.0,
        ),
        storage="float16",
    )


PRESETS: dict[str, Callable[[], FitConfig]] = {"fashion-mnist": fashion_mnist}


def packaged(preset: str) -> Path | None:
    """Return the folder of the checkpoint that comes with the package, or None where there is none."""
    folder = CHECKPOINTS / preset
    return folder if preset in PRESETS and folder.is_dir() else None
