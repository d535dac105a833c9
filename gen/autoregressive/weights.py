"""The weights of a module among the tensors of a checkpoint, and back."""

import hashlib
from collections.abc import Mapping, Set
from pathlib import Path

import torch
from torch import Tensor, nn

from caskit.manifests.errors import InputError


def stored(module: nn.Module, prefix: str, storage: str, *, without: Set[str] = frozenset()) -> dict[str, Tensor]:
    """Return a module's tensors by prefixed name, in the type of `storage`; `without` names what is not kept."""
    kind = getattr(torch, storage)
    return {prefix + name: tensor.detach().to(kind) for name, tensor in _kept(module, without).items()}


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, path: Path, *, without: Set[str] = frozenset()
) -> None:
    """Fill a module, in float32, with the tensors of its prefix, and put it into evaluation.

    Args:
        module: with weights of any value.
        tensors: of the whole checkpoint.
        prefix: of the module's.
        path: of the checkpoint, for errors.
        without: as for `stored`; the module keeps its own.

    Raises:
        InputError: names or shapes are not the module's.
    """
    weights = {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
    expected = _kept(module, without)
    wrong = sorted(set(weights) ^ set(expected))
    wrong += sorted(name for name in set(weights) & set(expected) if weights[name].shape != expected[name].shape)
    if wrong:
        raise InputError(f"{path}: tensors do not go with the config, first {prefix}{wrong[0]}")
    module.load_state_dict({**module.state_dict(), **weights})
    module.eval()


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return one SHA-256 over named tensors, by which a stage knows the one before it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _kept(module: nn.Module, without: Set[str]) -> dict[str, Tensor]:
    return {name: value for name, value in module.state_dict().items() if name.rpartition(".")[2] not in without}
