"""What a generator family is, and the table of families.

A family is a module. It is imported when it is used, by its path, which is also what a worker process gets: nothing is
pickled but names and settings.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

FAMILIES: dict[str, str] = {"cvae": "caskit.gen.cvae"}


class Generator(Protocol):
    """A loaded class-conditional image model on one device."""

    @property
    def classes(self) -> ClassList:
        """The labels it can draw."""

    @property
    def height(self) -> int:
        """Of every image, in pixels."""

    @property
    def width(self) -> int:
        """Of every image, in pixels."""

    @property
    def channels(self) -> int:
        """1 or 3."""

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Draw one image per label from its stream and from nothing else random.

        Quantising to uint8 is the family's own business. Matrix products belong to torch, whose threads the plan
        fixes; numpy's BLAS takes its threads from the host, and they can change the last bits.

        Args:
            labels: [N] int64.
            streams: N streams.

        Returns:
            images [N, H, W, C] uint8, and finite [N] bool: False where the model's output was not finite, so that the
            sample has to be drawn again.
        """


class Family(Protocol):
    """A module `caskit.gen.<name>`; `Settings` and `FitConfig` are frozen dataclasses of JSON values."""

    NAME: str
    SAMPLER_VERSION: int
    Settings: type[Any]
    FitConfig: type[Any]
    PRESETS: Mapping[str, Callable[[], Any]]

    def load(self, checkpoint: Checkpoint, settings: Any, device: torch.device) -> Generator:
        """Load a fitted model for sampling."""

    def fit(
        self,
        data: Any,
        config: Any,
        out: Path,
        *,
        device: torch.device,
        progress: Callable[[Any], None] | None,
        stop: Callable[[], bool],
    ) -> Path:
        """Fit the model to a frozen set and return the checkpoint folder."""

    def packaged(self, preset: str) -> Path | None:
        """Return the folder of the checkpoint that ships with caskit for a preset, if there is one."""


def family_path(name: str) -> str:
    """Return the module path of a family. Raises InputError with the names there are."""
    if name not in FAMILIES:
        raise InputError(f"generator family {name!r} is not known, use one of {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def load_family(module: str) -> Family:
    """Import a family by its module path."""
    return cast(Family, importlib.import_module(module))


def make_settings(family: Family, values: Mapping[str, Any]) -> Any:
    """Build a family's sampler settings, defaults filled in. Raises InputError for a field it does not have."""
    allowed = [field.name for field in dataclasses.fields(family.Settings)]
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        known = ", ".join(allowed) or "it has none"
        raise InputError(f"sampler setting {unknown[0]!r} is not known to family {family.NAME}; its settings: {known}")
    return family.Settings(**values)
