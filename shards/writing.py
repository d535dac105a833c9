"""Writes tars of samples, and hashes while it writes: each image once and the tar once, no byte is read twice for it.

webdataset's TarWriter, which wrote these tars before, took 60 us a sample for its headers alone; the bytes are the
same (a test compares them). A tar is put together in memory in pieces of a megabyte, the headers of a piece as one
array (headers.py). While the caller makes the next piece, one thread takes the last one into the tar's digest, writes
it, reads it back and compares it. Three buffers are used over and over: fresh memory for every piece cost more than its
hashing.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.headers import BLOCKS_BEFORE, write_heads
from caskit.shards.naming import naming
from caskit.shards.tar import (
    BLOCK_BYTES,
    IMAGE_EXTENSIONS,
    MAX_MEMBER_BYTES,
    MAX_NAME_BYTES,
    MEMBER_NAME,
    padded,
    tar_size,
)

PIECE_BYTES = 2**20  # a piece ends with the sample that reaches it
HEAD_BYTES = BLOCKS_BEFORE * BLOCK_BYTES
_KEYS = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_-]*\n)+")  # what MEMBER_NAME allows before its dot, a line each
_LONGEST_EXTENSION = 1 + max(map(len, IMAGE_EXTENSIONS))


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
            column = rows.column(name)
            if column.equals(pa.chunked_array([pa.array(values, type=column.type)])):
                continue
            said = column.to_pylist()
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


def check_sample(key: str, label: int, nbytes: int, extension: str) -> None:
    """Raise InputError unless a tar can hold a sample of this key, label and image."""
    if extension not in IMAGE_EXTENSIONS:
        raise InputError(f"key {key}: extension is {extension!r}, allowed: {', '.join(IMAGE_EXTENSIONS)}")
    name = f"{key}.{extension}".encode()
    if MEMBER_NAME.fullmatch(name) is None or len(name) > MAX_NAME_BYTES:
        raise InputError(f"key {key!r} cannot be stored: letters, digits, _ and -, {MAX_NAME_BYTES} with extension")
    if not 0 <= label < 10**16 or not 0 < nbytes <= MAX_MEMBER_BYTES:
        raise InputError(f"key {key}: label {label} or image of {nbytes} bytes cannot be stored")


def check_samples(
    keys: Sequence[str], labels: Sequence[int], images: Sequence[bytes], extensions: Sequence[str]
) -> None:
    """Raise InputError where `check_sample` does for one of n samples, naming the first."""
    num = len(keys)
    assert num == len(labels) == len(images) == len(extensions), "n of each"
    lines = "\n".join((*keys, ""))
    if (
        num == 0
        or not _KEYS.fullmatch(lines)
        or lines.count("\n") != num
        or max(map(len, keys)) + _LONGEST_EXTENSION > MAX_NAME_BYTES
        or not set(extensions) <= set(IMAGE_EXTENSIONS)
        or not 0 <= min(labels) <= max(labels) < 10**16
        or not 0 < min(map(len, images)) <= max(map(len, images)) <= MAX_MEMBER_BYTES
    ):
        for key, label, image, extension in zip(keys, labels, images, extensions, strict=True):
            check_sample(key, label, len(image), extension)


class ShardWriter:
    """Writes samples to a local scratch file, which is a new one even if the name was taken.

    (An older file of that name may be linked into a set already, so it is never written through.)

    Attributes:
        path: of the file.
        num_samples: added so far.
        image_sha256, offsets, nbytes: of every image added, as in its row.
        written: what the whole tar is, once it is closed; None before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.image_sha256: list[bytes] = []
        self.offsets: list[int] = []
        self.nbytes: list[int] = []
        self.written: Written | None = None
        self._keys: list[str] = []
        self._labels: list[int] = []
        self._images: list[bytes] = []  # the last ones, that are in no piece yet, and their extensions
        self._extensions: list[str] = []
        self._offset = self._start = 0  # of the next sample; of the piece that is being put together
        self._piece, self._spare, self._there = (np.empty(0, dtype=np.uint8) for _ in range(3))
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
        check_sample(key, label, len(image), extension)
        offset = self._offset + HEAD_BYTES
        self._note([key], [label], [image], [extension], [offset], [len(image)], offset + padded(len(image)))
        return offset, len(image)

    def add_all(
        self, keys: Sequence[str], labels: Sequence[int], images: Sequence[bytes], extensions: Sequence[str]
    ) -> None:
        """Append samples, n of each argument, as `add` does one, but checked and noted together.

        Raises:
            InputError: one of them cannot be stored, naming its key; none was added.
            OSError, IntegrityError: see `add`.
        """
        check_samples(keys, labels, images, extensions)
        if not images:
            return
        nbytes = np.fromiter(map(len, images), dtype=np.int64, count=len(images))
        ends = self._offset + np.cumsum(HEAD_BYTES + padded(nbytes))
        offsets, sizes = (ends - padded(nbytes)).tolist(), nbytes.tolist()
        start = 0
        while start < len(images):
            stop = min(int(np.searchsorted(ends, self._start + PIECE_BYTES)) + 1, len(images))
            part = slice(start, stop)
            self._note(
                keys[part],
                labels[part],
                images[part],
                extensions[part],
                offsets[part],
                sizes[part],
                int(ends[stop - 1]),
            )
            start = stop

    def _note(
        self,
        keys: Sequence[str],
        labels: Sequence[int],
        images: Sequence[bytes],
        extensions: Sequence[str],
        offsets: Sequence[int],
        nbytes: Sequence[int],
        end: int,
    ) -> None:
        """Take in samples that end at the tar's byte `end`, and hand over the piece if they fill it."""
        sha256 = hashlib.sha256
        self.image_sha256 += [sha256(image).digest() for image in images]
        self._keys += keys
        self._labels += labels
        self.offsets += offsets
        self.nbytes += nbytes
        self._images += images
        self._extensions += extensions
        self._offset = end
        if end - self._start >= PIECE_BYTES:
            self._assemble(end)
            self._hand_over()

    def _assemble(self, end: int) -> None:
        """Make the piece the tar's bytes from its start to `end`, behind the samples that wait zeros."""
        if end - self._start > len(self._piece):
            self._piece = np.empty(max(end - self._start, PIECE_BYTES + PIECE_BYTES // 4), dtype=np.uint8)
        piece = self._piece[: end - self._start]
        piece[self._offset - self._start :] = 0
        images, num = self._images, len(self._images)
        if not num:
            return
        nbytes = np.array(self.nbytes[-num:], dtype=np.int64)
        starts = np.array(self.offsets[-num:], dtype=np.int64) - self._start
        blocks = piece.reshape(-1, BLOCK_BYTES)
        blocks[(starts + nbytes - 1) // BLOCK_BYTES] = 0  # an image's last block, where it ends inside
        heads = starts // BLOCK_BYTES - BLOCKS_BEFORE
        write_heads(blocks, heads, self._keys[-num:], self._labels[-num:], self._extensions, nbytes)
        view = piece.data
        for start, stop, image in zip(starts.tolist(), (starts + nbytes).tolist(), images, strict=True):
            view[start:stop] = image
        self._images, self._extensions = [], []

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

    def _write(self, piece: np.ndarray, start: int, end: int) -> None:
        """Hash and write the tar's bytes `start <= i < end`, which a piece begins with, and read them back.

        Hashing comes first: it is the longest, and beside a caller that holds Python's lock it is all that gets done.
        """
        num = end - start
        if num > len(self._there):
            self._there = np.empty(len(piece), dtype=np.uint8)
        data, there = piece[:num], self._there[:num]
        self._digest.update(data.data)
        with naming(self.path):
            done = 0
            while done < num:
                done += os.write(self._file.fileno(), data[done:].data)
            done = 0
            while done < num and (got := os.preadv(self._file.fileno(), [there[done:].data], start + done)):
                done += got
        if done < num or not np.array_equal(data.view(np.uint64), there.view(np.uint64)):
            raise IntegrityError(f"{self.path}: bytes from {start} on read back unlike they were written")

    def close(self) -> None:
        """Write the end of the tar and close the file."""
        if self._file.closed:
            return
        try:
            size = tar_size(self._offset)
            self._assemble(size)
            self._join()
            self._write(self._piece, self._start, size)
            self.written = Written(
                size_bytes=size,
                sha256=self._digest.hexdigest(),
                keys=self._keys,
                labels=self._labels,
                offsets=self.offsets,
                nbytes=self.nbytes,
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
