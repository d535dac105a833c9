"""Tars of a set that are open: `pread` has no position, so threads and forks share a descriptor."""

import collections
import os
import threading
from collections.abc import Callable
from typing import Protocol

from caskit.shards.store import Store

MAX_OPEN_FILES = 256  # a shuffled batch is of many tars


class Descriptor:
    """A file descriptor that is closed when nobody uses it any more, so a reader in another thread never loses it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def expect(self, start: int, end: int) -> None:
        """Tell the system that bytes `start <= i < end` are read soon, where it takes such advice."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.number, start, end - start, os.POSIX_FADV_WILLNEED)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Bound above, as this module may be gone before the last descriptor when a process ends.
        number = getattr(self, "number", None)
        if number is not None:
            close(number)


class Opener(Protocol):
    """What opens tars that are not in a store on this machine, perhaps after it fetched them."""

    def open(self, name: str) -> Descriptor:
        """Open a tar."""


class OpenFiles:
    """The tars read last: those of a store's folder, or what an opener opens."""

    def __init__(self, store: Store, opener: Opener | None = None) -> None:
        self._store, self._opener = store, opener
        self._files: collections.OrderedDict[str, Descriptor] = collections.OrderedDict()
        self._lock = threading.Lock()

    def read(self, name: str, offset: int, nbytes: int) -> bytes:
        """Return some bytes of a tar."""
        file = self.open(name)
        return self._store.read(name, offset, nbytes) if file is None else os.pread(file.number, nbytes, offset)

    def open(self, name: str) -> Descriptor | None:
        """Return the open tar, None where it does not lie on this machine."""
        with self._lock:
            file = self._files.get(name)
            if file is not None:
                self._files.move_to_end(name)
                return file
        if self._opener is None:
            path = self._store.local_path(name)
            file = None if path is None else Descriptor(path)
        else:
            file = self._opener.open(name)  # outside the lock: others read on while it is fetched
        if file is None:
            return None
        with self._lock:
            if self._opener is not None:
                self._drop_removed()
            file = self._files.setdefault(name, file)
            if len(self._files) > MAX_OPEN_FILES:
                self._files.popitem(last=False)
            return file

    def _drop_removed(self) -> None:
        """Close tars that made room for others: an open file keeps its place on the disk."""
        for name in [name for name, file in self._files.items() if os.fstat(file.number).st_nlink == 0]:
            del self._files[name]

    def __reduce__(self) -> tuple[type["OpenFiles"], tuple[Store, Opener | None]]:
        return OpenFiles, (self._store, self._opener)  # descriptors and locks stay behind
