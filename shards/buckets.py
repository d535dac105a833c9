"""Values put aside by bucket until they are read back in another order: in memory while few, else in a file."""

import io
import os
import tempfile
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np

from caskit.shards.naming import naming

HELD_BYTES = 2**24


class Buckets:
    """Values of one type in numbered buckets. What is in memory is bounded, the rest is in the temporary folder.

    The file has no name, so nothing is left of it however this process ends. A context manager; OSError where the
    temporary folder is full.
    """

    def __init__(self, dtype: np.dtype, num: int) -> None:
        self._dtype, self._num = dtype, num
        self._values: list[np.ndarray] = []
        self._buckets: list[np.ndarray] = []
        self._held_bytes, self._end = 0, 0
        self._file: io.FileIO | None = None
        self._open = ExitStack()
        self._starts: list[np.ndarray] = []  # of every flush: where each bucket begins in the file, and the last ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def add(self, values: np.ndarray, buckets: np.ndarray) -> None:
        """Put values [n] into buckets [n], numbered from 0."""
        self._values.append(values)
        self._buckets.append(buckets.astype(np.int32))
        self._held_bytes += values.nbytes
        if self._held_bytes >= HELD_BYTES:
            self._flush()

    def _flush(self) -> None:
        buckets = np.concatenate(self._buckets)
        order = np.argsort(buckets, kind="stable")
        ends = np.searchsorted(buckets[order], np.arange(self._num + 1))
        if self._file is None:
            self._file = self._open.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        data = memoryview(np.concatenate(self._values)[order].tobytes())
        self._starts.append(self._end + ends * self._dtype.itemsize)
        while data:
            with naming(tempfile.gettempdir()):
                written = self._file.write(data)
            self._end += written
            data = data[written:]
        self._values, self._buckets, self._held_bytes = [], [], 0

    def count(self, bucket: int) -> int:
        """Return how many values were put into a bucket."""
        written = sum(int(starts[bucket + 1] - starts[bucket]) for starts in self._starts) // self._dtype.itemsize
        return written + sum(int((buckets == bucket).sum()) for buckets in self._buckets)

    def read(self, bucket: int) -> np.ndarray:
        """Return what was put into a bucket, [n] in the order of `add`."""
        parts = []
        for starts in self._starts:
            assert self._file is not None, "what was flushed is in the file"
            start, stop = int(starts[bucket]), int(starts[bucket + 1])
            data = os.pread(self._file.fileno(), stop - start, start)
            if len(data) != stop - start:
                raise OSError(f"{tempfile.gettempdir()}: a temporary file ends early")
            parts.append(np.frombuffer(data, dtype=self._dtype))
        parts += [values[buckets == bucket] for values, buckets in zip(self._values, self._buckets, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=self._dtype)
