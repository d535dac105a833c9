"""What the runs of a sampling stage recorded, summed up: `caskit telemetry`. Reads `_work/telemetry`, nothing else."""

import dataclasses
import datetime
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from caskit.gen.telemetry import TELEMETRY_FOLDER
from caskit.manifests.errors import InputError
from caskit.shards.store import Store

SLOW = 2.0  # a shard is a straggler if an image of it took so many times the median
NUM_SHOWN = 10
MAX_LINE_BYTES = 2**20
PHASES = ("sample", "reconstruct", "judge", "encode", "write", "wait", "commit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Straggler:
    """A shard whose images took more than SLOW times the median of all; `worker` is host and process."""

    shard: int
    worker: str
    seconds: float
    times_median: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """What all runs into one replica did.

    Attributes:
        num_runs, num_unended: runs that were begun, and those of them that were killed or are still at work.
        num_workers: the most that one run had at work.
        num_shards, num_images, num_redrawn: drawn by these runs.
        wall_s: seconds in which at least one run was at a shard.
        worker_s: seconds that workers were at shards, added up; `processor_s` what their processors computed in it.
        images_per_s: num_images / wall_s.
        busy: worker_s over the seconds that workers were there for, from a run's first shard to its last.
        shares: of worker_s, by phase. `encode` and `write` (hashing, tar) run beside `sample`; `judge` is a part of it.
        retried, failed: shards by the kind of their error.
        stragglers: the slowest ones first, at most NUM_SHOWN; `num_stragglers` counts them all.
        num_unreadable: lines that are no event of ours, such as one that a full disk cut.
    """

    num_runs: int
    num_unended: int
    num_workers: int
    num_shards: int
    num_images: int
    num_redrawn: int
    wall_s: float
    worker_s: float
    processor_s: float
    images_per_s: float
    busy: float
    shares: Mapping[str, float]
    retried: Mapping[str, int]
    failed: Mapping[str, int]
    num_stragglers: int
    stragglers: tuple[Straggler, ...]
    num_unreadable: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shard:
    """A shard that a run drew: it ended at `ended` (seconds since 1970) and took what `seconds` says."""

    number: int
    worker: str
    ended: float
    num_drawn: int
    num_redrawn: int
    seconds: Mapping[str, float]

    @property
    def began(self) -> float:
        """When it was taken."""
        return self.ended - self.seconds["total"]


@dataclasses.dataclass(kw_only=True)
class _Run:
    """One file of telemetry."""

    shards: list[_Shard] = dataclasses.field(default_factory=list)
    retried: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)
    ended: bool = False
    num_unreadable: int = 0

    @property
    def span(self) -> tuple[float, float]:
        """When its first shard was taken and its last one done."""
        return min(shard.began for shard in self.shards), max(shard.ended for shard in self.shards)

    @property
    def num_workers(self) -> int:
        """How many workers drew; of records without names, as many as were needed for what they did."""
        names = {shard.worker for shard in self.shards}
        begun, stopped = self.span
        needed = sum(shard.seconds["total"] for shard in self.shards) / max(stopped - begun, 1e-9)
        return max(len(names), 1) if names != {""} else max(round(needed), 1)


def summarise(store: Store) -> Workload:
    """Sum up what was recorded while a replica was sampled.

    Raises:
        InputError: nothing was recorded there, or the set lies in an object store.
    """
    folder = store.local_path(TELEMETRY_FOLDER)
    if folder is None:
        raise InputError(f"{store.location}: runs record what they do in local folders only")
    paths = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{store.location}: no run has recorded anything in {TELEMETRY_FOLDER}, sample into it first")
    runs = [_read_run(path) for path in paths]
    return _sum_up(runs)


def _sum_up(runs: list[_Run]) -> Workload:
    shards = [shard for run in runs for shard in run.shards]
    at_work = [run for run in runs if run.shards]
    worker_s = sum(shard.seconds["total"] for shard in shards)
    there_s = sum(run.num_workers * (run.span[1] - run.span[0]) for run in at_work)
    wall_s = _length(run.span for run in at_work)
    num_images = sum(shard.num_drawn for shard in shards)
    spent = {phase: sum(shard.seconds.get(phase, 0.0) for shard in shards) for phase in PHASES}
    stragglers = _stragglers(shards)
    return Workload(
        num_runs=len(runs),
        num_unended=sum(not run.ended for run in runs),
        num_workers=max((run.num_workers for run in at_work), default=0),
        num_shards=len(shards),
        num_images=num_images,
        num_redrawn=sum(shard.num_redrawn for shard in shards),
        wall_s=wall_s,
        worker_s=worker_s,
        processor_s=sum(shard.seconds.get("processor", 0.0) for shard in shards),
        images_per_s=num_images / wall_s if wall_s else 0.0,
        busy=min(worker_s / there_s, 1.0) if there_s else 0.0,
        shares={phase: seconds / worker_s for phase, seconds in spent.items() if seconds} if worker_s else {},
        retried=Counter(kind for run in runs for kind in run.retried),
        failed=Counter(kind for run in runs for kind in run.failed),
        num_stragglers=len(stragglers),
        stragglers=tuple(stragglers[:NUM_SHOWN]),
        num_unreadable=sum(run.num_unreadable for run in runs),
    )


def _stragglers(shards: list[_Shard]) -> list[Straggler]:
    """Return those that took long for their number of images, the slowest first."""
    if len(shards) < 3:  # of two, one always is slower
        return []
    typical = statistics.median(shard.seconds["total"] / shard.num_drawn for shard in shards)
    found = [
        Straggler(
            shard=shard.number,
            worker=shard.worker,
            seconds=shard.seconds["total"],
            times_median=shard.seconds["total"] / shard.num_drawn / max(typical, 1e-12),
        )
        for shard in shards
    ]
    slow = [straggler for straggler in found if straggler.times_median > SLOW]
    return sorted(slow, key=lambda straggler: (-straggler.times_median, straggler.shard))


def _length(spans: Iterable[tuple[float, float]]) -> float:
    """Return how much time some intervals cover together."""
    covered, reached = 0.0, float("-inf")
    for start, stop in sorted(spans):
        covered += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return covered


def _read_run(path: Path) -> _Run:
    run = _Run()
    for event in _events(path):
        try:
            kind = event["event"]
            if kind == "shard" and event["num_drawn"] > 0:
                run.shards.append(_shard(event))
            elif kind in ("retried", "failed"):
                noted = run.retried if kind == "retried" else run.failed
                noted.append(str(event["error"]).partition(":")[0])
            elif kind == "end":
                run.ended = True
        except (KeyError, TypeError, ValueError):
            run.num_unreadable += 1
    return run


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what the lines of a file say; a line that cannot be read is an event without a name."""
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = {}
            yield event if isinstance(event, dict) else {}


def _shard(event: Mapping[str, Any]) -> _Shard:
    seconds = {str(name): float(value) for name, value in event["seconds"].items()}
    if not all(0 <= value < 1e9 for value in seconds.values()):
        raise ValueError("seconds out of range")
    return _Shard(
        number=int(event["shard"]),
        worker=str(event.get("worker", "")),
        ended=datetime.datetime.fromisoformat(event["time"]).timestamp(),
        num_drawn=int(event["num_drawn"]),
        num_redrawn=int(event["num_redrawn"]),
        seconds={**seconds, "total": seconds["total"]},
    )
