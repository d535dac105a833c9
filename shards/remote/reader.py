"""An object as a file that is read in order or sought in: by byte ranges, or out of one answer where there are none."""

import io
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

PIECE_BYTES = 8 * 2**20  # of one read; what a worker holds in memory
T = TypeVar("T")


class Readable(Protocol):
    """What of an ObjectStore a reader needs; see there."""

    has_ranges: bool

    def read_piece(self, name: str, start: int, length: int) -> bytes:
        """Return bytes in one request."""

    def chunks(self, name: str, start: int) -> Iterator[bytes]:
        """Yield the bytes from a place on, out of one request."""

    def call(self, what: str, name: str, work: Callable[[], T]) -> T:
        """Do a request, again while it fails in passing."""


class ObjectReader(io.RawIOBase):
    """An object as a file.

    Args:
        store: where it lies.
        name: its name there.
        size: in bytes.
    """

    def __init__(self, store: Readable, name: str, size: int) -> None:
        self._store, self._name, self._size, self._at = store, name, size, 0
        self._chunks: Iterator[bytes] | None = None  # of an answer that goes on where the last read ended
        self._left = b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        at = offset + {0: 0, 1: self._at, 2: self._size}[whence]
        if at != self._at:
            self._chunks, self._left = None, b""
        self._at = at
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read at most PIECE_BYTES."""
        length = min(len(buffer), self._size - self._at, PIECE_BYTES)
        data = b"" if length <= 0 else self._read(length)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, length: int) -> bytes:
        if self._store.has_ranges:
            data = self._store.read_piece(self._name, self._at, length)
            if self._store.has_ranges:
                return data
            # The first look at this server: the whole object came for one piece. From here on it comes once.
        return self._store.call("read", self._name, lambda: self._next(length))

    def _next(self, length: int) -> bytes:
        """Take bytes out of the answer that is open, or of a new one after an error."""
        try:
            self._chunks = self._store.chunks(self._name, self._at) if self._chunks is None else self._chunks
            found = self._left
            while len(found) < length and (chunk := next(self._chunks, b"")):
                found += chunk
        except BaseException:
            self._chunks, self._left = None, b""
            raise
        self._left = found[length:]
        return found[:length]
