"""Where to compute: `auto`, `cpu`, `cuda` or `cuda:i`."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from caskit.manifests.errors import InputError

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
# cuBLAS is deterministic only with a fixed workspace, chosen before the first CUDA call.
_CUBLAS_WORKSPACE = ":4096:8"


def pick_device(name: str) -> torch.device:
    """Return the device a name stands for; `auto` is the first GPU if there is one, else the CPU.

    Raises:
        InputError: the name is none of the four forms, or this machine has no such GPU.
    """
    if _DEVICE.fullmatch(name) is None:
        raise InputError(f"device {name!r} is not known, use auto, cpu, cuda or cuda:<index>")
    num_gpus = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and num_gpus == 0):
        return torch.device("cpu")
    device = torch.device("cuda:0" if name in ("auto", "cuda") else name)
    if device.index >= num_gpus:
        raise InputError(f"device {name!r} is not there: torch {torch.__version__} sees {num_gpus} CUDA devices")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS_WORKSPACE)
    return device


@contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Use so many threads inside an operation of torch on the CPU, and as many as before after the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
