"""Memory that is kept between steps, measured in a process of its own: other tests leave much that is free."""

import json
import os
import resource
import subprocess
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


def measure() -> dict[str, int]:
    """Return how many bytes stay in the process outside of blocks, inside and after them."""
    found = {"without": freed()}
    for name, environment in (("mmap_max", "MALLOC_MMAP_MAX_"), ("tunables", "GLIBC_TUNABLES")):
        with kept(environment={environment: "glibc.malloc.mmap_max=9"}):
            found[name] = freed()
    before = resident()
    with kept(environment={}):
        found["inside"] = freed()
        # It is the same memory again, if not at once: what else was taken meanwhile may have left too small a gap.
        found["fresh"] = min(fresh() for _ in range(5))
    found["after"] = resident() - before
    before = resident()
    try:
        with kept(environment={}):
            found["inside before an error"] = freed()
            raise KeyError
    except KeyError:
        found["after an error"] = resident() - before
    return found


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True, env=environment)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_freed_memory_is_kept_inside_the_block_and_given_back_after_it(measured: dict[str, int]) -> None:
    assert measured["without"] < BYTES / 2
    assert measured["inside"] > BYTES / 2
    assert measured["fresh"] < BYTES / 2
    assert measured["after"] < BYTES / 2


def test_a_user_who_has_set_the_allocator_up_is_left_alone(measured: dict[str, int]) -> None:
    assert measured["mmap_max"] < BYTES / 2
    assert measured["tunables"] < BYTES / 2


def test_the_block_ends_after_an_error_too(measured: dict[str, int]) -> None:
    assert measured["inside before an error"] > BYTES / 2
    assert measured["after an error"] < BYTES / 2


if __name__ == "__main__":
    print(json.dumps(measure()))
