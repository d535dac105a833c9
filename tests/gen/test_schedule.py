import errno
from collections.abc import Callable

import pytest

from caskit.gen.schedule import MAX_FAILED_SHARDS, Event, Schedule, ShardFailure
from caskit.gen.worker import ShardResult
from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed


class FakePool:
    """Workers whose answers a function gives: an exception fails the shard, anything else commits it."""

    def __init__(self, num_slots: int, answer: Callable[[int, int], Exception | None], dead_starts: int = 0) -> None:
        self.num_slots, self._answer, self._dead_starts = num_slots, answer, dead_starts
        self.starts = [0] * num_slots
        self.calls: list[tuple[int, int]] = []  # (slot, shard)
        self._events: list[Event] = []
        self._in_flight: dict[int, int] = {}
        self.most_in_flight = 0

    def start(self, slot: int) -> None:
        assert slot not in self._in_flight
        self.starts[slot] += 1
        outcome = None
        if self._dead_starts:
            self._dead_starts -= 1
            outcome = ShardFailure(shard=None, error=RunFailed("no start"), traceback="")
        self._events.append(Event(slot=slot, outcome=outcome))

    def submit(self, slot: int, shard: int) -> None:
        assert slot not in self._in_flight
        self._in_flight[slot] = shard
        self.calls.append((slot, shard))
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))

    def wait(self, timeout_s: float) -> list[Event]:
        if not self._events and self._in_flight:
            slot = next(iter(self._in_flight))
            shard = self._in_flight.pop(slot)
            error = self._answer(slot, shard)
            result = ShardResult(shard=shard, outcome="committed", num_drawn=1, num_redrawn=0, seconds={})
            outcome = result if error is None else ShardFailure(shard=shard, error=error, traceback="")
            return [Event(slot=slot, outcome=outcome)]
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        pass


class Notes:
    def __init__(self) -> None:
        self.done: list[int] = []
        self.again: list[int | None] = []
        self.lost: list[int | None] = []

    def finished(self, result: ShardResult) -> None:
        self.done.append(result.shard)

    def retried(self, failure: ShardFailure) -> None:
        self.again.append(failure.shard)

    def failed(self, failure: ShardFailure) -> None:
        self.lost.append(failure.shard)


def go(pool: FakePool, num_shards: int, *, fail_fast: bool = False, stop: Callable[[], bool] = lambda: False) -> Notes:
    notes = Notes()
    pool.notes = notes  # type: ignore[attr-defined]
    Schedule(pool, range(num_shards), fail_fast=fail_fast, listener=notes).run(stop)
    return notes


@pytest.mark.parametrize("num_slots", [1, 2, 3, 7])
def test_every_shard_once_and_no_more_in_flight_than_slots(num_slots: int) -> None:
    pool = FakePool(num_slots, lambda slot, shard: None)
    notes = go(pool, 20)
    assert sorted(notes.done) == list(range(20))
    assert [shard for _, shard in pool.calls][:num_slots] == list(range(num_slots))
    assert pool.most_in_flight == num_slots


@pytest.mark.parametrize("num_slots", [1, 2, 3])
def test_a_failing_shard_is_retried_once_elsewhere(num_slots: int) -> None:
    failed: set[int] = set()

    def once(slot: int, shard: int) -> Exception | None:
        if shard in (3, 4) and shard not in failed:
            failed.add(shard)
            return ValueError("bad luck")
        return None

    pool = FakePool(num_slots, once)
    notes = go(pool, 9)
    assert sorted(notes.done) == list(range(9)) and sorted(notes.again) == [3, 4] and notes.lost == []
    for shard in (3, 4):
        slots = [slot for slot, tried in pool.calls if tried == shard]
        assert len(slots) == 2
        assert num_slots == 1 or slots[0] != slots[1]
    assert sum(pool.starts) == num_slots + 2  # a worker that failed is replaced


def test_the_rest_finishes_and_the_failed_are_listed() -> None:
    pool = FakePool(2, lambda slot, shard: ArithmeticError(f"no {shard}") if shard in (2, 5) else None)
    with pytest.raises(
        RunFailed, match="2 of 10 shards failed twice .shard 2: ArithmeticError: no 2; shard 5:.*8 comm"
    ):
        go(pool, 10)
    assert sorted(pool.notes.done) == [0, 1, 3, 4, 6, 7, 8, 9]  # type: ignore[attr-defined]
    assert sorted(pool.notes.lost) == [2, 5]  # type: ignore[attr-defined]


def test_fail_fast_stops_at_the_first() -> None:
    pool = FakePool(1, lambda slot, shard: ValueError("no") if shard == 2 else None)
    with pytest.raises(RunFailed, match="1 of 10 shards failed twice .*2 committed, 7 not tried"):
        go(pool, 10, fail_fast=True)


def test_many_distinct_failures_stop_the_run() -> None:
    pool = FakePool(1, lambda slot, shard: ValueError("no"))
    with pytest.raises(RunFailed, match=f"{MAX_FAILED_SHARDS} of 100 shards failed twice"):
        go(pool, 100)
    assert len(pool.calls) == 2 * MAX_FAILED_SHARDS


@pytest.mark.parametrize(
    "error",
    [
        InputError("wrong"),
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EFBIG, "a limit of the process's files"),
        PermissionError(errno.EACCES, "no"),
    ],
)
def test_what_would_fail_every_shard_ends_the_run(error: Exception) -> None:
    pool = FakePool(3, lambda slot, shard: error if shard == 1 else None)
    with pytest.raises(type(error)):
        go(pool, 50)
    assert len(pool.calls) <= 5


def test_damage_is_retried() -> None:
    pool = FakePool(1, lambda slot, shard: IntegrityError("bit") if len(pool.calls) == 1 else None)
    assert sorted(go(pool, 3).done) == [0, 1, 2]


def test_a_request_to_stop_finishes_what_is_in_flight() -> None:
    pool = FakePool(2, lambda slot, shard: None)
    with pytest.raises(NotFinished, match="with 15 of 20 shards left; the same command goes on"):
        go(pool, 20, stop=lambda: len(pool.calls) >= 5)
    assert len(pool.notes.done) == len(pool.calls) == 5  # type: ignore[attr-defined]


def test_a_stop_after_the_last_shard_was_taken_changes_nothing() -> None:
    pool = FakePool(2, lambda slot, shard: None)
    assert sorted(go(pool, 4, stop=lambda: len(pool.calls) == 4).done) == [0, 1, 2, 3]


def test_a_shard_that_fails_while_stopping_is_left() -> None:
    pool = FakePool(1, lambda slot, shard: ValueError("killed too") if shard == 2 else None)
    with pytest.raises(NotFinished, match="with 3 of 5 shards left"):
        go(pool, 5, stop=lambda: len(pool.calls) == 3)


def test_workers_that_start_late_or_never() -> None:
    assert sorted(go(FakePool(2, lambda slot, shard: None, dead_starts=2), 5).done) == [0, 1, 2, 3, 4]
    with pytest.raises(RunFailed, match="workers do not start: no start"):
        go(FakePool(2, lambda slot, shard: None, dead_starts=9), 5)
