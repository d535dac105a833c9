"""Memory that a step frees and the next one needs again: kept by the process instead of given back in between.

On Linux, glibc maps every block of more than 32 MiB anew and gives back what is free at the end of its heap. So a step
on the CPU that frees its gradients and activations touches as much fresh memory in the next one, which the kernel first
fills with zeros, page by page: of a step of ResNet-50 with four images of 128 pixels an eighth of the processor time
(benchmarks/train_vs_timm.md). No bit of a result depends on where a tensor lies.
"""

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Names and numbers of <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_MIB = 2**20
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 64 * _MIB}  # -1: nothing is ever given back
# Where glibc's own rule arrives once a block of 32 MiB was freed; setting a threshold has switched that rule off.
_USUAL = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 64 * _MIB, _TOP_PAD: 128 * 1024, _MMAP_THRESHOLD: 32 * _MIB}


def _is_users(environment: Mapping[str, str]) -> bool:
    """Tell whether the user has set glibc's allocator up."""
    return "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") and name.endswith("_") for name in environment
    )


@contextmanager
def kept(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Keep freed memory inside the block and give it back after it.

    Does nothing where the C library is not glibc, or where the user's environment sets its allocator up
    (`MALLOC_TRIM_THRESHOLD_` and the like, `GLIBC_TUNABLES`).
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version") or _is_users(environment):
        yield
        return
    for name, value in _KEEPING.items():
        library.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in _USUAL.items():
            library.mallopt(name, value)
        library.malloc_trim(0)
