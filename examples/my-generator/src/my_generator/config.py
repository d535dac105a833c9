"""What a fit of the family and a sampler of it can be told: frozen dataclasses of JSON values."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from caskit.manifests.errors import InputError

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Everything that decides a fitted generator besides the data.

    Attributes:
        preset: the name the checkpoint is sampled under.
        num_directions: of each class, along which pixels vary together.
    """

    preset: str
    num_directions: int = 12

    def __post_init__(self) -> None:
        if type(self.num_directions) is not int or not 1 <= self.num_directions <= 1024:
            raise InputError(f"num_directions is {self.num_directions!r}, allowed: whole numbers 1..1024")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a fitted generator is sampled.

    Attributes:
        temperature: scale of what is drawn; 1 samples the distribution as fitted.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        number = isinstance(self.temperature, (int, float)) and not isinstance(self.temperature, bool)
        if not number or not 0 <= self.temperature <= 10:
            raise InputError(f"temperature is {self.temperature!r}, allowed: numbers 0..10")


def digits() -> FitConfig:
    """Scikit-learn's digits, 8x8 grey, 1,442 images.

    Command: `caskit fit --gen my_generator:digits --data runs/digits/real/train --out runs/digits/my-fit --allow-code`.
    Hardware and time: one core, a second.
    """
    return FitConfig(preset="digits")


PRESETS: dict[str, Callable[[], FitConfig]] = {"digits": digits}


def packaged(preset: str) -> Path | None:
    """Return the folder of the checkpoint that comes with the package, or None where there is none."""
    folder = CHECKPOINTS / preset
    return folder if preset in PRESETS and folder.is_dir() else None
