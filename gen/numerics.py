"""Puts a plan's numerics into force in this process, and takes them back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from caskit.manifests.plan import Numerics

# cuBLAS is deterministic only with a fixed workspace, chosen before the first CUDA call.
_CUBLAS_WORKSPACE = ":4096:8"


@contextmanager
def numerics_applied(numerics: Numerics) -> Iterator[None]:
    """Set threads, determinism and matrix precision of torch as the plan says, and restore them afterwards.

    The number of threads belongs to the calling thread (OpenMP), so the same thread has to sample.
    """
    import torch  # on use: a driver that hands shards out needs no torch

    threads = torch.get_num_threads()
    deterministic = torch.get_deterministic_debug_mode()
    matmul_tf32, cudnn_tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    if numerics.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _CUBLAS_WORKSPACE)
    try:
        torch.set_num_threads(numerics.threads)
        # The same switch as use_deterministic_algorithms, which imports the compiler for it: seconds per process.
        torch.set_deterministic_debug_mode("error" if numerics.deterministic else "default")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = numerics.tf32
        torch.backends.cudnn.benchmark = False
        with torch.inference_mode(), _autocast(numerics):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul_tf32, cudnn_tf32
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _autocast(numerics: Numerics) -> Iterator[None]:
    import torch

    enabled = numerics.precision == "bfloat16"
    with torch.autocast(numerics.device, dtype=torch.bfloat16, enabled=enabled):
        yield
