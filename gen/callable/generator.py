"""A function as a loaded generator."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from caskit.gen.callable.importing import import_function
from caskit.gen.callable.source import MAX_MODULES, find_source
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.streams import Streams
from caskit.manifests.errors import InputError

if TYPE_CHECKING:
    import torch

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The code that a plan pins; `bind` fills it in.

    Attributes:
        source: dotted name of the function's module, and of every local one that it imports, to SHA-256 of its file.
        files: data files beside the module, path to SHA-256.
    """

    source: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, digests in (("source", self.source), ("files", self.files)):
            if not isinstance(digests, dict) or len(digests) > MAX_MODULES:
                raise InputError(f"callable: {name} must be an object of at most {MAX_MODULES} names to SHA-256")
            for key, value in digests.items():
                if not isinstance(key, str) or not isinstance(value, str) or _SHA256.fullmatch(value) is None:
                    raise InputError(
                        f"callable: {name} holds {str(key)[:80]!r}: {str(value)[:80]!r}, must be a SHA-256"
                    )
        for file in self.files:
            check_file_name(file)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Nothing: a function is not fitted."""


def check_file_name(name: str) -> None:
    """Raise InputError unless a data file's name is a relative path that stays beside the module."""
    path = Path(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or path.as_posix() != name:
        raise InputError(f"callable: file {name[:200]!r} must be a path relative to the module's folder, without ..")


class FunctionGenerator:
    """A function `(labels, streams) -> images [N, H, W, C] uint8`, or to a pair of them and finite [N] bool."""

    def __init__(self, function: Callable[..., Any], checkpoint: Checkpoint) -> None:
        record = checkpoint.record
        self.classes = checkpoint.classes
        self.height, self.width, self.channels = record["height"], record["width"], record["channels"]
        self._function = function

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Call the function. What it returns is looked at by whoever draws."""
        returned = self._function(labels, streams)
        if isinstance(returned, tuple) and len(returned) == 2:
            return cast(tuple[np.ndarray, np.ndarray], returned)
        return returned, np.ones(len(labels), dtype=np.bool_)


def load(checkpoint: Checkpoint, settings: Settings, device: "torch.device") -> FunctionGenerator:
    """Import the function that a bound record names. The function chooses its device itself."""
    source = find_source(checkpoint.record["preset"])
    return FunctionGenerator(import_function(source, settings.source), checkpoint)


def fit(data: Any, config: Any, out: Path, **options: Any) -> Path:
    """Raise InputError: nothing can be fitted."""
    raise InputError("family callable: a function is not fitted by caskit; a package of your own can have a fit")


def packaged(preset: str) -> Path | None:
    """Return None: there are no checkpoints."""
    return None
