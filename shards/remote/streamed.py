"""A published set that is read while it is fetched: whole tars in a folder of this machine that stays within a bound.

For sets that are larger than the disk, and for trainings that are to begin before all of a set is here. The records
come first and are checked against each other; a tar gets its name when all of it has the digest that they state, and
each row's digest is computed when it is first read, as it is of any set. So what a `kill -9` leaves behind is whole
tars, which the next process goes on with, and a scratch folder, which it removes.
"""

import collections
import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from caskit.manifests.errors import InputError, RunFailed
from caskit.manifests.sets import SetReference
from caskit.shards.cache import cache_folder
from caskit.shards.commit import shard_path
from caskit.shards.dataset import FrozenSet
from caskit.shards.descriptors import Descriptor, OpenFiles
from caskit.shards.records import Records
from caskit.shards.remote.attempts import again
from caskit.shards.remote.location import is_url
from caskit.shards.remote.mirror import CACHE, hold, make_room
from caskit.shards.remote.published import tar_files
from caskit.shards.remote.pull import fetch, read_checked
from caskit.shards.store import LocalStore

_FOLDER = "stream"
_LOCK = ".stream-lock"
_WINDOWS = 2  # announced ones whose tars make no room for other announced ones: the current and the next


class ShardCache:
    """The tars of a set that are on this machine; the others come when they are opened, or before, if announced.

    One tar is fetched at a time by all processes that share the folder, so what lies in it never exceeds the bound. A
    tar that was removed while a process has it open takes its place on the disk until that process opens another one.
    """

    def __init__(self, records: Records, folder: Path, limit_bytes: int) -> None:
        """Use a folder, with what is in it.

        Args:
            records: of the set, checked; their store is where tars come from.
            folder: on this machine.
            limit_bytes: what the tars in it may take together.

        Raises:
            InputError: a tar is larger than that.
        """
        self._records, self._target, self.limit_bytes = records, LocalStore(folder), limit_bytes
        self._due = {file.name: file for file in tar_files(records)}
        self.largest_bytes = max(file.size_bytes for file in self._due.values())
        if self.largest_bytes > limit_bytes:
            raise InputError(
                f"{records.store.location}: a shard has {self.largest_bytes} bytes, --stream allows {limit_bytes}; "
                "allow more"
            )
        self._begin()

    def _begin(self) -> None:
        self._announced: collections.deque[tuple[str, ...]] = collections.deque(maxlen=_WINDOWS)
        self._lock = threading.Condition()
        self._asked = 0  # threads that wait for a tar now, whom the one that fetches ahead lets pass
        self._ahead: threading.Thread | None = None
        self._process = os.getpid()

    def open(self, name: str) -> Descriptor:
        """Open a tar, fetched first if it is not here.

        Raises:
            FileNotFoundError: the set has no such tar.
            IntegrityError, RunFailed: it did not arrive whole.
        """
        if name not in self._due:
            raise FileNotFoundError(name)
        self._after_fork()
        with contextlib.suppress(FileNotFoundError):
            return self._opened(name)
        with self._lock:
            self._asked += 1
        try:
            with self._alone():
                self._fetch(name, keep=frozenset())
                return self._opened(name)
        finally:
            with self._lock:
                self._asked -= 1
                self._lock.notify_all()

    def expect(self, names: Sequence[str]) -> None:
        """Announce tars in the order in which they are needed: a thread fetches those that are not here.

        It removes none of the last two announcements for them, and waits with what does not fit beside those.
        """
        self._after_fork()
        with self._lock:
            self._announced.append(tuple(names))
            if self._ahead is None or not self._ahead.is_alive():
                self._ahead = threading.Thread(target=self._fetch_ahead, name="shards", daemon=True)
                self._ahead.start()

    def held(self) -> dict[str, int]:
        """Return the tars that are here: sizes in bytes by name."""
        return {name: self._due[name].size_bytes for name in self._target.names("shards/") if name in self._due}

    def _after_fork(self) -> None:
        if self._process != os.getpid():  # the thread and whoever held the lock stayed behind
            self._begin()

    def _opened(self, name: str) -> Descriptor:
        path = self._target.local_path(name)
        assert path is not None, "it is a folder"
        file = Descriptor(path)
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)  # the one used longest ago makes room first
        return file

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only one on this machine that changes the folder."""
        self._target.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._target.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _fetch(self, name: str, *, keep: frozenset[str]) -> bool:
        """Have a tar here; False if it only fits in place of those to keep. The folder is this thread's alone."""
        if self._target.exists(name):
            return True
        if not self._make_room(self._due[name].size_bytes, keep):
            return False
        fetch(self._records.store, self._target, self._due[name])
        return True

    def _make_room(self, size: int, keep: frozenset[str]) -> bool:
        held = self.held()
        announced = {name for names in self._announced for name in names}
        # Those that nobody announced first, then the longest unused.
        order = sorted(held, key=lambda name: (name in announced, (self._target.root / name).stat().st_mtime_ns))
        removed, total = [], sum(held.values())
        for name in order:
            if total + size <= self.limit_bytes:
                break
            if name not in keep:
                removed.append(name)
                total -= held[name]
        if total + size > self.limit_bytes:
            return False
        for name in removed:
            self._target.delete(name)
        return True

    def _fetch_ahead(self) -> None:
        """Fetch what is announced, until all of it is here or no more fits."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._asked == 0)
                announced = list(dict.fromkeys(name for names in self._announced for name in names))
                missing = [name for name in announced if not self._target.exists(name)]
                if not missing:
                    self._ahead = None
                    return
            try:
                with self._alone():
                    fits = self._fetch(missing[0], keep=frozenset(announced))
            except (OSError, RunFailed, InputError):
                fits = False  # whoever opens this tar tries again, and is told
            if not fits:
                with self._lock:
                    self._ahead = None
                return

    def __reduce__(self) -> tuple[type["ShardCache"], tuple[Records, Path, int]]:
        return ShardCache, (self._records, self._target.root, self.limit_bytes)


class StreamedSet(FrozenSet):
    """A frozen set whose tars come as they are needed, see `ShardCache`; else what a `FrozenSet` is."""

    def __init__(self, records: Records, cache: ShardCache) -> None:
        super().__init__(records)
        self.cache = cache
        self._files = OpenFiles(self.store, cache)

    def expect(self, ids: np.ndarray) -> None:
        """Have the tars of some samples fetched soon, [n] int64."""
        shards = self._places["shard"][ids]
        used, first = np.unique(shards, return_index=True)
        self.cache.expect([shard_path(shard) for shard in used[np.argsort(first)].tolist()])

    def check_order(self, block: int, window: int) -> None:
        """Raise InputError unless samples are shuffled by blocks, and the windows read and announced at once fit.

        Two that are announced may hold samples of three, see `Order.windows` of training.
        """
        if block == 0:
            raise InputError(
                f"{self.store.location}: an order of all samples needs every shard at once; with --stream it goes by "
                "blocks: --set shuffle_block=N --set shuffle_window=N, which is another recipe"
            )
        per_shard = self.shard_ends[0]  # all but the last hold as many
        aligned = block % per_shard == 0 or per_shard % block == 0
        each = -(-block // per_shard) + (not aligned)  # a block that begins inside a shard may end in the next
        needed = min((_WINDOWS + 1) * window * each, self.num_shards) * self.cache.largest_bytes
        if needed > self.cache.limit_bytes:
            raise InputError(
                f"{self.store.location}: windows of {window} blocks of {block} samples need {needed} bytes of shards "
                f"at once, --stream allows {self.cache.limit_bytes}; allow more, or a smaller shuffle_window"
            )


def open_streamed(reference: str, limit_bytes: int) -> StreamedSet:
    """Open a published set whose tars come as they are needed.

    Args:
        reference: `URL[@sha256:prefix]`.
        limit_bytes: of the set that may lie on this machine, within the cache's own bound (`mirror`).

    Raises:
        InputError: no frozen set there, another than the reference asks for, or one that does not fit.
        IntegrityError: its records contradict each other.
    """
    asked = SetReference.parse(reference)
    if not is_url(asked.location):
        raise InputError(f"{asked.location}: is on this machine already; leave --stream out")
    records = again(lambda: read_checked(asked), asked.location)
    total = sum(shard.size_bytes for shard in records.shards)
    folder = cache_folder(CACHE) / records.replica.replica_id
    hold(folder)
    make_room(folder, min(total, limit_bytes))
    return StreamedSet(records, ShardCache(records, folder / _FOLDER, limit_bytes))
