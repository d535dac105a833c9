"""Where the work runs: in this process, on Ray, or split over processes that share nothing but the store."""

import dataclasses
import os
import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from caskit.gen.errand import run_errand
from caskit.gen.ray_pool import RayPool
from caskit.gen.schedule import Event, Listener, Schedule, ShardFailure
from caskit.gen.worker import ShardWorker
from caskit.manifests.errors import InputError

EXECUTORS = ("ray", "inline")
_PART = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One of `count` parts of a replica: every shard whose number is `index - 1` modulo `count`."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"part is {self.index}/{self.count}, the first number must be between 1 and the second")

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read `3/8`."""
        match = _PART.fullmatch(text)
        if match is None:
            raise InputError(f"part is {text!r}, must be like 3/8: the third of eight parts")
        return cls(index=int(match[1]), count=int(match[2]))

    def shards(self, num_shards: int) -> range:
        """Return the part's shard numbers."""
        return range(self.index - 1, num_shards, self.count)


WHOLE = Part()


class InlinePool:
    """One worker, in the calling process."""

    num_slots = 1

    def __init__(self, worker: ShardWorker[Any]) -> None:
        self._worker = worker
        self._events: list[Event] = []
        self._shard: int | None = None

    def start(self, slot: int) -> None:
        """See Pool."""
        self._worker.unload()
        self._events.append(Event(slot=slot, outcome=None))

    def submit(self, slot: int, shard: int) -> None:
        """See Pool."""
        self._shard = shard

    def wait(self, timeout_s: float) -> list[Event]:
        """Work on the shard that was submitted, however long it takes."""
        events, self._events = self._events, []
        if self._shard is not None:
            shard, self._shard = self._shard, None
            try:
                events.append(Event(slot=0, outcome=self._worker(shard)))
            except Exception as error:  # reported, retried and listed by the schedule
                failure = ShardFailure(shard=shard, error=error, traceback=traceback.format_exc())
                events.append(Event(slot=0, outcome=failure))
        return events

    def close(self) -> None:
        """See Pool."""
        self._worker.unload()


def default_workers(worker: ShardWorker[Any]) -> int:
    """Return how many workers this machine has room for: one per GPU, or per `threads` CPUs it may use."""
    if worker.plan.numerics.device == "cuda":
        return max(1, run_errand(count_gpus))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads: int = worker.plan.numerics.threads
    return max(1, usable // threads)


def count_gpus() -> int:
    """Return how many CUDA devices torch sees on this machine."""
    import torch

    return torch.cuda.device_count()


def run_inline(
    worker: ShardWorker[Any], shards: Sequence[int], *, stop: Callable[[], bool], fail_fast: bool, listener: Listener
) -> None:
    """Make shards in this process. Raises what `Schedule.run` raises."""
    pool = InlinePool(worker)
    try:
        Schedule(pool, shards, fail_fast=fail_fast, listener=listener).run(stop)
    finally:
        pool.close()


def run_ray(
    worker: ShardWorker[Any],
    shards: Sequence[int],
    *,
    num_workers: int,
    address: str | None,
    stop: Callable[[], bool],
    fail_fast: bool,
    listener: Listener,
) -> None:
    """Make shards on Ray actors, started here or on the cluster at `address`. Raises what `Schedule.run` raises."""
    pool = RayPool(worker, num_slots=min(num_workers, len(shards)), address=address)
    try:
        Schedule(pool, shards, fail_fast=fail_fast, listener=listener).run(stop)
    finally:
        pool.close()
