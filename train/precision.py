"""The precision that a training computes in: weights, optimizer and sums stay float32."""

import contextlib

import torch

from caskit.manifests.errors import InputError

PRECISIONS = ("float32", "bfloat16")


def check_precision(precision: str, name: str = "precision") -> None:
    """Raise InputError unless the precision is one of PRECISIONS."""
    if precision not in PRECISIONS:
        raise InputError(f"{name} is {precision!r}, allowed: {', '.join(PRECISIONS)}")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return the block in which a forward pass computes in this precision.

    bfloat16 is torch's autocast: matrix products and convolutions in bfloat16, which has float32's range, so no loss is
    scaled; float32 is no block at all.
    """
    check_precision(precision)
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
