"""Hands shards to a pool of workers: who gets which, what happens to one that fails, when to stop.

A shard that fails is tried once more on another worker, or on a fresh one where there is no other; then it is listed
and the rest goes on. The commit log is the state: nothing here has to be remembered from one run to the next.
"""

import dataclasses
import errno
from collections.abc import Callable, Sequence
from typing import Protocol

from caskit.gen.worker import ShardResult
from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed

MAX_FAILED_SHARDS = 5  # so many distinct ones are no accident: the run stops
MAX_FAILED_STARTS = 3
WAIT_S = 0.2  # how long a request to stop may go unnoticed
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardFailure:
    """What went wrong with a shard on one worker; `shard` is None if the worker did not even start."""

    shard: int | None
    error: Exception
    traceback: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something a pool reports about a slot: a result, a failure, or None when its worker became ready."""

    slot: int
    outcome: ShardResult | ShardFailure | None


class Pool(Protocol):
    """Workers in numbered slots, each working on at most one shard."""

    num_slots: int

    def start(self, slot: int) -> None:
        """Start the slot's worker, in place of the one before if there was one; it reports when it is ready."""

    def submit(self, slot: int, shard: int) -> None:
        """Give a ready worker a shard."""

    def wait(self, timeout_s: float) -> list[Event]:
        """Return what happened, after at most `timeout_s` if nothing does."""

    def close(self) -> None:
        """End all workers."""


class Listener(Protocol):
    """Is told what happens to shards."""

    def finished(self, result: ShardResult) -> None:
        """A shard is committed."""

    def retried(self, failure: ShardFailure) -> None:
        """A shard failed and will be tried again."""

    def failed(self, failure: ShardFailure) -> None:
        """A shard failed for good."""


def is_fatal(error: Exception) -> bool:
    """Tell whether every other shard would meet the same error: wrong input, a full or read-only disk."""
    if isinstance(error, IntegrityError):  # damage on one disk or in one memory is no fault of the input
        return False
    return isinstance(error, InputError) or (isinstance(error, OSError) and error.errno in _DISK)


class Schedule:
    """One run of some shards over a pool."""

    def __init__(self, pool: Pool, shards: Sequence[int], *, fail_fast: bool, listener: Listener) -> None:
        self._pool, self._listener, self._fail_fast = pool, listener, fail_fast
        self._num_shards = len(shards)
        self._queue: list[tuple[int, int | None]] = [
            (shard, None) for shard in reversed(shards)
        ]  # (shard, not on slot)
        self._idle: set[int] = set()
        self._in_flight: dict[int, int] = {}  # slot to shard
        self._tried: set[int] = set()  # shards that failed once
        self._failed: dict[int, ShardFailure] = {}
        self._failed_starts = 0
        self._fatal: Exception | None = None
        self._num_done = 0

    def run(self, stop: Callable[[], bool]) -> None:
        """Work until all shards are done, failed, or no more may be taken; shards in flight are always finished.

        Raises:
            InputError, OSError: what would fail every shard.
            RunFailed: shards failed twice; the message lists them.
            NotFinished: `stop` said so first.
        """
        for slot in range(self._pool.num_slots):
            self._pool.start(slot)
        stopping = False
        while True:
            stopping = stopping or self._gave_up() or stop()
            if not stopping:
                self._assign()
            if not self._in_flight and (stopping or not self._queue):
                break
            for event in self._pool.wait(WAIT_S):
                self._handle(event, stopping or stop())
        self._conclude()

    def _gave_up(self) -> bool:
        limit = 1 if self._fail_fast else MAX_FAILED_SHARDS
        return self._fatal is not None or len(self._failed) >= limit

    def _assign(self) -> None:
        for slot in sorted(self._idle):
            alone = len(self._idle) + len(self._in_flight) == 1
            for place in range(len(self._queue) - 1, -1, -1):
                shard, avoided = self._queue[place]
                if avoided != slot or alone:
                    del self._queue[place]
                    self._idle.discard(slot)
                    self._in_flight[slot] = shard
                    self._pool.submit(slot, shard)
                    break

    def _handle(self, event: Event, stopping: bool) -> None:
        self._in_flight.pop(event.slot, None)
        if not isinstance(event.outcome, ShardFailure):
            self._idle.add(event.slot)
            if event.outcome is not None:
                self._num_done += 1
                self._listener.finished(event.outcome)
            return
        failure = event.outcome
        if is_fatal(failure.error):
            self._fatal = self._fatal or failure.error
        elif failure.shard is None:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                self._fatal = RunFailed(f"workers do not start: {failure.error}")
        elif failure.shard in self._tried:
            self._failed[failure.shard] = failure
            self._listener.failed(failure)
        else:
            self._tried.add(failure.shard)
            self._queue.append((failure.shard, event.slot))
            self._listener.retried(failure)
        if not stopping and not self._gave_up():
            self._pool.start(event.slot)

    def _conclude(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        if self._failed:
            shown = "; ".join(
                f"shard {shard}: {type(failure.error).__name__}: {_one_line(failure.error)}"
                for shard, failure in sorted(self._failed.items())
            )
            left = f", {len(self._queue)} not tried" if self._queue else ""
            raise RunFailed(
                f"{len(self._failed)} of {self._num_shards} shards failed twice ({shown}); "
                f"{self._num_done} committed{left}; the same command tries the rest again"
            )
        if self._queue:
            raise NotFinished(
                f"stopped on request with {len(self._queue)} of {self._num_shards} shards left; "
                "the same command goes on from here"
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
