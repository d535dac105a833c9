"""Which rows of an open set have shown their digest, so that later epochs read them at the cost of the reading."""

import os
import threading

import numpy as np


class CheckedRows:
    """Remembers of every row the version of its tar under which its bytes had the right digest.

    A tar's version changes with its size, times or inode, what a receipt goes by too (`receipt`). Thread-safe; a copy
    in another process begins anew.
    """

    def __init__(self, num: int) -> None:
        self._seen = np.zeros(num, dtype=np.uint32)
        self._versions: dict[int, tuple[tuple[int, ...], int]] = {}
        self._next = 1
        self._lock = threading.Lock()

    def version(self, shard: int, descriptor: int) -> int:
        """Return the number of the version that an open tar is of now."""
        status = os.fstat(descriptor)
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        with self._lock:
            known = self._versions.get(shard)
            if known is None or known[0] != stamp:
                known = self._versions[shard] = (stamp, self._next)
                self._next += 1
            return known[1]

    def unchecked(self, ids: np.ndarray, versions: np.ndarray) -> list[int]:
        """Return the places in `ids` [n] of the rows that have not shown their digest under these versions [n]."""
        places: list[int] = np.flatnonzero(self._seen[ids] != versions).tolist()
        return places

    def add(self, sample_id: int, version: int) -> None:
        """Note that a row's digest was right; the version is that from before its bytes were read."""
        self._seen[sample_id] = version

    def __reduce__(self) -> tuple[type["CheckedRows"], tuple[int]]:
        return CheckedRows, (len(self._seen),)
