"""Writes tars of samples, and hashes while it writes: each image once and the tar once, no byte is read twice for it.

webdataset's TarWriter, which wrote these tars before, took 60 us a sample for its headers alone; the bytes are the
same (a test compares them). A tar is put together in memory in pieces of a megabyte. While the caller makes the
next piece, one thread writes the last one, reads it back, compares it and takes it into the tar's digest. Three buffers
are used over and over: fresh memory for every piece cost more than its hashing.
"""

import contextlib
import dataclasses
import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.tar import (
    BLOCK_BYTES,
    IMAGE_EXTENSIONS,
    LABEL_EXTENSION,
    MAX_MEMBER_BYTES,
    MAX_NAME_BYTES,
    MEMBER_NAME,
    canonical_header,
    padded,
    tar_size,
)

PIECE_BYTES = 2**20  # a piece ends with the sample that reaches it
_ZEROS = bytes(BLOCK_BYTES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What a ShardWriter has written: the tar's size and SHA-256 (hex), and every sample in order.

    Attributes:
        size_bytes, sha256: of the whole tar.
        keys, labels, offsets, nbytes, image_sha256: of its samples, as in its rows.
        status: device, inode, size and time of change of the file when it was closed.
    """

    size_bytes: int
    sha256: str
    keys: list[str]
    labels: list[int]
    offsets: list[int]
    nbytes: list[int]
    image_sha256: list[bytes]
    status: tuple[int, ...]

    def is_still(self, path: Path) -> bool:
        """Say whether the file at a path is the one that was written, and was not touched since."""
        return status_of(path) == self.status

    def first_difference(self, rows: pa.Table) -> int | None:
        """Return the first place where rows (in sample_id order) do not say what was written; None if they do."""
        columns: dict[str, list[Any]] = {
            "key": self.keys,
            "label": self.labels,
            "tar_offset": self.offsets,
            "nbytes": self.nbytes,
            "image_sha256": self.image_sha256,
            "index_in_shard": list(range(len(self.keys))),
        }
        found = None
        for name, values in columns.items():
            said = rows.column(name).to_pylist()
            if said != values:
                pairs = enumerate(zip(said, values, strict=False))
                short = min(len(said), len(values))
                place = next((place for place, (one, other) in pairs if one != other), short)
                found = place if found is None else min(found, place)
        return found


def status_of(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written to or replaced."""
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class ShardWriter:
    """Writes samples to a local scratch file, which is a new one even if the name was taken.

    (An older file of that name may be linked into a set already, so it is never written through.)

    Attributes:
        path: of the file.
        num_samples: added so far.
        image_sha256: of every image added, 32 bytes each.
        written: what the whole tar is, once it is closed; None before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.image_sha256: list[bytes] = []
        self.written: Written | None = None
        self._keys: list[str] = []
        self._labels: list[int] = []
        self._offsets: list[int] = []
        self._nbytes: list[int] = []
        self._offset = self._start = 0  # of the next sample; of the piece that is being put together
        self._piece, self._spare, self._there = (bytearray(2 * PIECE_BYTES) for _ in range(3))
        self._digest = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        path.unlink(missing_ok=True)
        self._file = path.open("x+b", buffering=0)

    @property
    def num_samples(self) -> int:
        """Samples added so far."""
        return len(self._keys)

    def add(self, key: str, label: int, image: bytes, extension: str) -> tuple[int, int]:
        """Append one sample; its digest is then the last of `image_sha256`.

        Returns:
            offset of the image's first byte in the tar, and its number of bytes: a row's tar_offset and nbytes.

        Raises:
            InputError: the key, the label or the extension cannot be stored.
            OSError: the disk is full, or the like.
            IntegrityError: what was written earlier reads back as something else.
        """
        if extension not in IMAGE_EXTENSIONS:
            raise InputError(f"key {key}: extension is {extension!r}, allowed: {', '.join(IMAGE_EXTENSIONS)}")
        name, nbytes = f"{key}.{extension}".encode(), len(image)
        if MEMBER_NAME.fullmatch(name) is None or len(name) > MAX_NAME_BYTES:
            raise InputError(f"key {key!r} cannot be stored: letters, digits, _ and -, {MAX_NAME_BYTES} with extension")
        if not 0 <= label < 10**16 or not 0 < nbytes <= MAX_MEMBER_BYTES:
            raise InputError(f"key {key}: label {label} or image of {nbytes} bytes cannot be stored")
        digits = b"%d" % label
        offset = self._offset + 3 * BLOCK_BYTES
        end = offset + padded(nbytes)
        place = self._reserve(end)
        piece = memoryview(self._piece)
        piece[place : place + 3 * BLOCK_BYTES] = b"".join(
            (
                canonical_header(f"{key}.{LABEL_EXTENSION}".encode(), len(digits)),
                digits.ljust(BLOCK_BYTES, b"\0"),
                canonical_header(name, nbytes),
            )
        )
        place += 3 * BLOCK_BYTES
        piece[place : place + nbytes] = image
        piece[place + nbytes : end - self._start] = _ZEROS[: -nbytes % BLOCK_BYTES]
        self.image_sha256.append(hashlib.sha256(image).digest())
        self._keys.append(key)
        self._labels.append(label)
        self._offsets.append(offset)
        self._nbytes.append(nbytes)
        self._offset = end
        if self._offset - self._start >= PIECE_BYTES:
            self._hand_over()
        return offset, nbytes

    def _reserve(self, end: int) -> int:
        """Make the piece large enough for the tar's bytes up to `end`; returns where in it the next one goes."""
        if end - self._start > len(self._piece):
            self._piece.extend(bytes(end - self._start - len(self._piece)))
        return self._offset - self._start

    def _hand_over(self) -> None:
        """Give the piece to the thread, when that is done with the one before."""
        self._join()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing = self._thread.submit(self._write, self._piece, self._start, self._offset)
        self._piece, self._spare, self._start = self._spare, self._piece, self._offset

    def _join(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, piece: bytearray, start: int, end: int) -> None:
        """Write the tar's bytes `start <= i < end`, which a piece begins with, and read them back."""
        num = end - start
        if num > len(self._there):
            self._there = bytearray(num)
        with memoryview(piece)[:num] as data, memoryview(self._there)[:num] as there:
            try:
                done = 0
                while done < num:
                    done += os.write(self._file.fileno(), data[done:])
                done = 0
                while done < num and (got := os.preadv(self._file.fileno(), [there[done:]], start + done)):
                    done += got
            except OSError as error:
                error.filename = str(self.path)
                raise
            self._digest.update(data)
            if done < num or not np.array_equal(np.frombuffer(data, np.uint64), np.frombuffer(there, np.uint64)):
                raise IntegrityError(f"{self.path}: bytes from {start} on read back unlike they were written")

    def close(self) -> None:
        """Write the end of the tar and close the file."""
        if self._file.closed:
            return
        try:
            self._join()
            size = tar_size(self._offset)
            place = self._reserve(size)
            self._piece[place : size - self._start] = bytes(size - self._offset)
            self._write(self._piece, self._start, size)
            self.written = Written(
                size_bytes=size,
                sha256=self._digest.hexdigest(),
                keys=self._keys,
                labels=self._labels,
                offsets=self._offsets,
                nbytes=self._nbytes,
                image_sha256=self.image_sha256,
                status=status_of(self.path),
            )
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file without the end of a tar, so that nobody takes it for a whole one."""
        if self._thread is not None:
            self._thread.shutdown()
        with contextlib.suppress(OSError):  # of bytes that were still to go to a full disk
            self._file.close()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()
