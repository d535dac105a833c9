"""State dicts of other projects: read without running code from them, and accounted for key by key."""

import argparse
import hashlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caskit.manifests.errors import InputError

SHOWN = 3  # keys of each kind that an error names
PARALLEL = "module."  # what torch's data-parallel wrappers put before every key
# What torch's readers and zipfile raise for damaged files, zipfile's unknown methods among the RuntimeErrors; no code
# of the file runs in any of them.
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a `.pt` file: a state dict, or a dict that holds one under `model`. No code from the file runs.

    Of the types that torch does not read by itself only argparse.Namespace is allowed, which training scripts save
    beside the weights and which is not looked at.

    Raises:
        InputError: no such file, not a file of tensors, or one that asks for other types.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    _refuse_compressed(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged file warns before it fails
            value = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path}: not a file of tensors that can be read without running its code ({reason})"
        ) from error
    if isinstance(value, Mapping) and isinstance(value.get("model"), Mapping):
        value = value["model"]
    if not isinstance(value, Mapping) or not value:
        raise InputError(
            f"{path}: holds a {type(value).__name__}, must be a state dict or a dict with one under 'model'"
        )
    wrong = [key for key, tensor in value.items() if not isinstance(key, str) or not isinstance(tensor, Tensor)]
    if wrong:
        raise InputError(f"{path}: {wrong[0]!r} is not a named tensor")
    for key, tensor in value.items():
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized or tensor.device.type != "cpu":
            raise InputError(f"{path}: {key} is not a plain tensor of real numbers")
    if all(key.startswith(PARALLEL) for key in value):
        value = {key.removeprefix(PARALLEL): tensor for key, tensor in value.items()}
    return dict(value)


def _refuse_compressed(path: Path) -> None:
    """Raise InputError for a zip archive whose members would unpack to more than the file holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
    except UNREADABLE:
        return  # no archive, or a damaged one, which torch is to refuse
    if compressed:
        raise InputError(f"{path}: has compressed members, torch writes none")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
