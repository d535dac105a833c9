"""From a closed tar to a committed shard; every row is digested once, `commit_shard` would check that once more."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from caskit.shards.commit import (
    Made,
    Outcome,
    check_rows_written,
    commit_checked,
    commit_shard,
    describe_shard,
)
from caskit.shards.store import Store
from caskit.shards.writing import Written


def commit_written(
    store: Store,
    tar: Path,
    rows: pa.Table,
    written: Written,
    *,
    shard: int,
    plan_id: str,
    environment_id: str = "",
    codes: Path | None = None,
    discard_orphans: bool = False,
) -> Outcome:
    """Describe and commit a shard whose tar was just written.

    Args:
        store: the set.
        tar: the tar, a scratch file; one that is not what its writer left is read again.
        rows: its rows in sample_id order.
        written: what its writer hashed and read back.
        shard: its number.
        plan_id: digest of plan.json or of the record that stands for it.
        environment_id: empty for a real or imported set.
        codes: the sidecar, see `commit_shard`, as for what follows, what is returned and what is raised.
        discard_orphans: see there.
    """
    info = describe_shard(tar, rows, shard=shard, plan_id=plan_id, environment_id=environment_id, written=written)
    if not written.is_still(tar):
        return commit_shard(store, tar, rows, info, codes=codes, discard_orphans=discard_orphans)
    check_rows_written(written, rows, shard)
    made = Made(tar=tar, codes=codes, rows=rows, info=info)
    return commit_checked(store, made, discard_orphans=discard_orphans)


class Behind:
    """A thread that commits one shard while its owner writes the next, whose hashing then waits for no disk.

    At most one shard is behind, so the bound on memory and on work that a failure loses is two shards.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._pending: tuple[Future[None], Callable[[], None]] | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last shard. Raises what `join` raises, unless an error is on its way already."""
        try:
            if kind is None:
                self.join()
        finally:
            self._thread.shutdown()

    def submit(self, commit: Callable[[], None], done: Callable[[], None]) -> None:
        """Commit a shard in the thread; there is none behind.

        Args:
            commit: what the thread calls.
            done: called by `join`, in the owner's thread, after `commit` returned.
        """
        assert self._pending is None, "join comes before the next shard"
        self._pending = self._thread.submit(commit), done

    def join(self) -> None:
        """Wait until no shard is behind. Raises what committing it raised."""
        if self._pending is not None:
            (future, done), self._pending = self._pending, None
            future.result()
            done()
