"""State dicts of other projects, accounted for key by key; `train.weights` reads their files."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from caskit.manifests.errors import InputError
from caskit.train.weights import file_digest, read_state_dict

__all__ = ["Ledger", "file_digest", "read_state_dict"]

SHOWN = 3  # keys of each kind that an error names


class Ledger:
    """A state dict from which tensors are taken by key and shape; at the end it says all that did not fit."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str) -> None:
        """Take the tensors and what to call them in an error, such as their file."""
        self._left, self._name = dict(tensors), name
        self._keys = frozenset(tensors)
        self._missing: list[str] = []
        self._wrong: list[str] = []

    def has(self, key: str) -> bool:
        """Tell whether the state dict has a key, taken or not."""
        return key in self._keys

    def take(self, key: str, *shape: int) -> Tensor:
        """Return a tensor in float32; zeros, and a note for the end, where it is not there or has another shape."""
        tensor = self._left.pop(key, None)
        if tensor is None:
            self._missing.append(key)
        elif tuple(tensor.shape) != shape:
            self._wrong.append(f"{key} {_text(tensor.shape)} instead of {_text(shape)}")
        elif not tensor.isfinite().all():
            self._wrong.append(f"{key} not finite")
        else:
            return tensor.float()
        return torch.zeros(shape)

    def note(self, problem: str) -> None:
        """Add a problem to report at the end."""
        self._wrong.append(problem)

    def close(self) -> None:
        """Raise InputError unless every key was taken and nothing was missing or of another shape."""
        kinds = {"missing": self._missing, "unknown": sorted(self._left), "not as expected": self._wrong}
        parts = [
            f"{len(keys)} {kind} ({', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''})"
            for kind, keys in kinds.items()
            if keys
        ]
        if parts:
            raise InputError(f"{self._name}: nothing was loaded, tensors: {'; '.join(parts)}")


def _text(shape: Any) -> str:
    return "x".join(map(str, shape)) or "scalar"
