"""Tars of a set that are open: `pread` has no position, so threads and forks share a descriptor."""

import collections
import os
import threading

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

    def __del__(self) -> None:
        number = getattr(self, "number", None)
        if number is not None:
            os.close(number)


class OpenFiles:
    """The tars read last."""

    def __init__(self, store: Store) -> None:
        self._store = store
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
            if file is None:
                path = self._store.local_path(name)
                if path is None:
                    return None
                file = self._files[name] = Descriptor(path)
                if len(self._files) > MAX_OPEN_FILES:
                    self._files.popitem(last=False)
            else:
                self._files.move_to_end(name)
            return file

    def __reduce__(self) -> tuple[type["OpenFiles"], tuple[Store]]:
        return OpenFiles, (self._store,)  # descriptors and locks stay behind
