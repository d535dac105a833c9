"""Memory that is kept between steps."""

import resource
import sys
from pathlib import Path

import pytest
import torch

from caskit.train.memory import kept

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
NUM = 2**24  # float32, 64 MiB: more than glibc ever takes from its heap by itself
BYTES = 4 * NUM


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def freed() -> int:
    """Touch a large block and free it; return how much of it the process still has."""
    before = resident()
    torch.ones(NUM).sum()
    return resident() - before


def fresh() -> int:
    """Touch a large block and free it; return how many bytes of it the kernel had to find."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(NUM).sum()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()


def test_freed_memory_is_kept_inside_the_block_and_given_back_after_it() -> None:
    assert freed() < BYTES / 2
    before = resident()
    with kept(environment={}):
        assert freed() > BYTES / 2
        # It is the same memory again, if not at once: what else was taken meanwhile may have left too small a gap.
        assert min(fresh() for _ in range(5)) < BYTES / 2
    assert resident() - before < BYTES / 2


def test_a_user_who_has_set_the_allocator_up_is_left_alone() -> None:
    for environment in ({"MALLOC_MMAP_MAX_": "9"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=9"}):
        with kept(environment=environment):
            assert freed() < BYTES / 2


def test_the_block_ends_after_an_error_too() -> None:
    held = 0

    def fail() -> None:
        nonlocal held
        with kept(environment={}):
            held = freed()
            raise KeyError

    before = resident()
    with pytest.raises(KeyError):
        fail()
    assert held > BYTES / 2
    assert resident() - before < BYTES / 2
