"""Reading a large input file once, from front to back: its digest, what is listed on the way, and both kept for later.

ImageNet's training tar has 138 GB. One pass hashes it and finds every image in it; what was found stays in the cache
folder as long as the file is not touched, so a run that goes on does not begin with another pass.
"""

import dataclasses
import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from caskit.manifests.canonical import sha256_hex
from caskit.manifests.errors import InputError, NotFinished

Arrays = dict[str, np.ndarray]
_VERSION = 1  # raised when other things are listed
_PIECE_BYTES = 2**20
_DIGEST = "sha256"
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How large files are read.

    Attributes:
        cache_dir: where what was found is kept.
        told: called with a file's name, the bytes of it that are read and its size.
        stop: asked now and then; when it says so, NotFinished is raised.
    """

    cache_dir: Path
    told: Callable[[str, int, int], None] = lambda name, done, total: None
    stop: Callable[[], bool] = lambda: False

    def index(self, path: Path, list_items: Callable[["HashedFile", int], Arrays], what: str) -> tuple[str, Arrays]:
        """Return a file's SHA-256 and what a function lists of it while it is read.

        Args:
            path: the file.
            list_items: gets the file and its size; must not go back.
            what: names the function and all that decides its result but the file.

        Raises:
            InputError: the file changed while it was read, or what `list_items` raises.
            NotFinished: stopped on request.
        """
        stamp = _stamp(path)
        kept = self.cache_dir / "inputs" / f"{sha256_hex(f'{_VERSION} {what} {stamp} {path.absolute()}'.encode())}.npz"
        there = _read_kept(kept)
        if there is not None:
            return there.pop(_DIGEST).tobytes().hex(), there
        with path.open("rb") as plain:
            file = HashedFile(plain, path, self)
            found = list_items(file, file.size)
            digest = file.finish()
        if _stamp(path) != stamp:
            raise InputError(f"{path}: changed while it was read")
        _keep(kept, {**found, _DIGEST: np.frombuffer(bytes.fromhex(digest), dtype=np.uint8)})
        return digest, found

    def sha256(self, path: Path) -> str:
        """Return a file's SHA-256, 64 hex digits. Raises as `index` does."""
        return self.index(path, lambda file, size: {}, "digest")[0]


class HashedFile:
    """A file that is read once from front to back; what a `seek` passes over is read and hashed too."""

    def __init__(self, file: BinaryIO, path: Path, reading: Reading) -> None:
        self._file, self._path, self._reading = file, path, reading
        self._hash, self._at = hashlib.sha256(), 0
        self.size = os.fstat(file.fileno()).st_size

    def seek(self, offset: int, /) -> None:
        """Read on to a byte behind the last one read."""
        assert offset >= self._at, f"byte {offset} was passed, at {self._at}"
        while self._at < offset and self.read(min(offset - self._at, _PIECE_BYTES)):
            pass

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        data = self._file.read(size)
        before, self._at = self._at, self._at + len(data)
        self._hash.update(data)
        if before // _PIECE_BYTES != self._at // _PIECE_BYTES:
            if self._reading.stop():
                raise NotFinished(f"{self._path}: stopped while it was read, the same command starts that again")
            self._reading.told(self._path.name, self._at, self.size)
        return data

    def finish(self) -> str:
        """Read the rest and return the SHA-256 of all, 64 hex digits."""
        while self.read(_PIECE_BYTES):
            pass
        return self._hash.hexdigest()


def _stamp(path: Path) -> str:
    """Return what changes when a file is touched; a program cannot set the change time."""
    status = path.stat()
    return " ".join(str(n) for n in (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


def _read_kept(kept: Path) -> Arrays | None:
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files} if _DIGEST in arrays.files else None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None  # nothing was kept, or not whole: the file is read


def _keep(kept: Path, arrays: Arrays) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=kept.parent, prefix=".input-")
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, kept)
    except OSError as error:
        _log.info("%s: %s; the input will be read whole each time", kept, error)
