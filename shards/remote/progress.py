"""How a transfer is done and how far it is, and the threads that do it."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from caskit.manifests.errors import InputError, NotFinished
from caskit.shards.verify import VerifyProgress

DEFAULT_WORKERS = 8
MAX_WORKERS = 256
A = TypeVar("A")
B = TypeVar("B")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferProgress:
    """How far a transfer is, in bytes and in files."""

    bytes_done: int
    num_bytes: int
    files_done: int
    num_files: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a transfer came to, or with dry_run would come to.

    Attributes:
        source: location of the set that was copied; on the Hub, at the commit that was read.
        location: of the set that is now there.
        replica_id: its id.
        num_files, num_bytes: all of the set's.
        files_moved, bytes_moved: those that were not there already.
    """

    source: str
    location: str
    replica_id: str
    num_files: int
    num_bytes: int
    files_moved: int
    bytes_moved: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """How push, pull and pull_part do it; nothing here changes a byte of the result.

    Attributes:
        workers: requests or files in work at a time; each holds a few pieces of PIECE_BYTES in memory.
        dry_run: only find out what would be moved.
        verifying: told how far the check of the whole set is.
        progress: told after every file.
        stop: asked between files; True ends the call with NotFinished, and the same call goes on.
    """

    workers: int = DEFAULT_WORKERS
    dry_run: bool = False
    verifying: Callable[[VerifyProgress], None] = lambda _: None
    progress: Callable[[TransferProgress], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MAX_WORKERS:
            raise InputError(f"workers is {self.workers}, allowed: 1..{MAX_WORKERS}")


def in_threads(
    work: Callable[[A], B], items: Iterable[A], *, workers: int, stop: Callable[[], bool], what: str
) -> Iterator[tuple[A, B]]:
    """Yield (item, result) as they come, at most `workers` items being in work.

    The first error ends it: what is in work is finished, nothing more is begun, and the error is raised.

    Raises:
        NotFinished: `stop` said so; `what` says what stopped.
    """
    waiting = iter(items)
    running: dict[Future[B], A] = {}
    with ThreadPoolExecutor(workers) as pool:
        while True:
            while len(running) < workers and not stop():
                item = next(waiting, None)
                if item is None:
                    break
                running[pool.submit(work, item)] = item
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
    if stop() and next(waiting, None) is not None:
        raise NotFinished(f"{what}: stopped")
