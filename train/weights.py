"""Files of tensors that others wrote, read without running code from them."""

import argparse
import hashlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from caskit.manifests.errors import InputError

PARALLEL = "module."  # what torch's data-parallel wrappers put before every key
# What torch's readers and zipfile raise for damaged files, zipfile's unknown methods among the RuntimeErrors; no code
# of the file runs in any of them.
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a `.safetensors` file, or from what `read_state_dict` reads.

    Raises:
        InputError: no such file, or not a file of tensors.
    """
    if path.suffix != ".safetensors":
        return read_state_dict(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    if not tensors:
        raise InputError(f"{path}: holds no tensors")
    return tensors


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
