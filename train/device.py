"""Where to compute: `auto`, `cpu`, `cuda` or `cuda:i`."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from caskit.manifests.errors import InputError
from caskit.train.launch import Launch

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
# cuBLAS is deterministic only with a fixed workspace, chosen before the first CUDA call.
_CUBLAS_WORKSPACE = ":4096:8"


def pick_device(name: str, launch: Launch | None = None) -> torch.device:
    """Return the device a name stands for; `auto` is the first GPU if there is one, else the CPU.

    Of the processes that torchrun started on a machine, each gets a GPU of its own.

    Raises:
        InputError: the name is none of the four forms, or this machine has no such GPU or too few for its processes.
    """
    launch = launch or Launch()
    if _DEVICE.fullmatch(name) is None:
        raise InputError(f"device {name!r} is not known, use auto, cpu, cuda or cuda:<index>")
    num_gpus = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and num_gpus == 0):
        return torch.device("cpu")
    if launch.local_size > 1 and name not in ("auto", "cuda"):
        raise InputError(f"device {name!r} is one GPU for {launch.local_size} processes, use auto, cpu or cuda")
    if launch.local_size > num_gpus > 0:
        raise InputError(f"{launch.local_size} processes on this machine, torch sees {num_gpus} CUDA devices")
    device = torch.device(f"cuda:{launch.local_rank}" if name in ("auto", "cuda") else name)
    if device.index >= num_gpus:
        raise InputError(f"device {name!r} is not there: torch {torch.__version__} sees {num_gpus} CUDA devices")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS_WORKSPACE)
    return device


def core_is_free(device: torch.device, threads: int, *, processes: int = 1) -> bool:
    """Return whether something may go on beside a computation without taking a core from it.

    On a GPU's machine it may: the process that drives the GPU mostly waits for it.

    Args:
        device: where it computes.
        threads: of each process inside an operation on the CPU.
        processes: on this machine that compute alike.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return device.type != "cpu" or usable > threads * processes


@contextmanager
def num_threads(number: int) -> Iterator[None]:
    """Use so many threads inside an operation of torch on the CPU, and as many as before after the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
