"""What a run tells while it works: progress to a callback, and one JSON line per event under `_work/telemetry`."""

import dataclasses
import datetime
import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from caskit.gen.schedule import ShardFailure
from caskit.gen.worker import ShardResult

TELEMETRY_FOLDER = "_work/telemetry"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        shards_done, num_shards: of this run's part of the replica, those that were there before included.
        images_done, num_images: the same in images.
        images_per_s: drawn and committed by this run, since its first shard was taken; 0 before it is finished.
        eta_s: seconds left, None before the first shard of this run.
        num_retried, num_failed: shards.
    """

    shards_done: int
    num_shards: int
    images_done: int
    num_images: int
    images_per_s: float
    eta_s: float | None
    num_retried: int
    num_failed: int


class Telemetry:
    """Counts what happens to shards, reports it, and writes it down; it never changes what is made.

    Args:
        folder: where the JSONL file goes; None for stores that are no local folder.
        shard_sizes: samples of every shard of this part.
        done: the part's shards that were committed before.
        callback: gets a Progress after every event.
    """

    def __init__(
        self,
        folder: Path | None,
        shard_sizes: Mapping[int, int],
        done: set[int],
        callback: Callable[[Progress], None] | None,
    ) -> None:
        self._sizes, self._done, self._callback = shard_sizes, set(done), callback
        self._began: float | None = None  # when the first shard of this run was taken; workers took time to start
        self._num_drawn = self._num_retried = self._num_failed = 0
        self._file: TextIO | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
            self._file = (folder / f"{stamp}-{os.getpid()}-{secrets.token_hex(4)}.jsonl").open("x", encoding="utf-8")

    def begin(self, **facts: Any) -> None:
        """Note how the run was started and report the first progress."""
        host = {"host": platform.node(), "pid": os.getpid()}
        self._write("begin", {**host, "num_shards": len(self._sizes), "num_done": len(self._done), **facts})
        self._report()

    def finished(self, result: ShardResult) -> None:
        """See Listener."""
        self._done.add(result.shard)
        if self._began is None and result.num_drawn:
            self._began = time.monotonic() - result.seconds["total"]
        self._num_drawn += result.num_drawn
        self._write("shard", dataclasses.asdict(result))
        self._report()

    def retried(self, failure: ShardFailure) -> None:
        """See Listener."""
        self._num_retried += 1
        self._write("retried", _described(failure))
        self._report()

    def failed(self, failure: ShardFailure) -> None:
        """See Listener."""
        self._num_failed += 1
        self._write("failed", _described(failure))
        self._report()

    def end(self, error: BaseException | None) -> None:
        """Note how the run ended and close the file."""
        ended = "done" if error is None else f"{type(error).__name__}: {error}"
        self._write("end", {"ended": ended, "num_drawn": self._num_drawn})
        if self._file is not None:
            self._file.close()
            self._file = None

    def progress(self) -> Progress:
        """Return where the run stands."""
        num_images = sum(self._sizes.values())
        images_done = sum(self._sizes[shard] for shard in self._done)
        rate = 0.0 if self._began is None else self._num_drawn / max(time.monotonic() - self._began, 1e-9)
        return Progress(
            shards_done=len(self._done),
            num_shards=len(self._sizes),
            images_done=images_done,
            num_images=num_images,
            images_per_s=rate,
            eta_s=(num_images - images_done) / rate if rate else None,
            num_retried=self._num_retried,
            num_failed=self._num_failed,
        )

    def _report(self) -> None:
        if self._callback is not None:
            self._callback(self.progress())

    def _write(self, event: str, facts: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        try:
            self._file.write(json.dumps({"time": now, "event": event, **facts}) + "\n")
            self._file.flush()
        except OSError:  # a full disk fails the shards and is reported there
            self._file = None


def _described(failure: ShardFailure) -> dict[str, Any]:
    kind = type(failure.error).__name__
    return {"shard": failure.shard, "error": f"{kind}: {failure.error}", "traceback": failure.traceback}
