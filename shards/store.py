"""Where a set lies: a few create-only operations that a folder offers here and an object store in remote/objects.py."""

import errno
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from caskit.manifests.errors import InputError, IntegrityError, RunFailed
from caskit.shards.naming import naming
from caskit.shards.scratch import scratch_folder

if TYPE_CHECKING:
    from caskit.shards.remote.objects import ObjectStore

WORK = "_work"
SCRATCH = f"{WORK}/tmp"
# The only names that may be written again: nothing here is part of an identity.
REPLACEABLE = ("README.md", "_info.json", "croissant.json", "SHA256SUMS", "index.bin")
COPY_BYTES = 2**20
PROBES = 3  # of a store, and of reading one of them back
_log = logging.getLogger(__name__)
_PART = re.compile(r"[A-Za-z0-9_.-]{1,255}")
# What file systems answer that have no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class AlreadyExists(Exception):
    """A name was to be created and is there already; `name` says which. What it holds was not touched."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Unlisted(InputError):
    """A web server does not say what it holds."""


class Store(Protocol):
    """Named objects that are created once and whole, or not at all.

    Names are relative paths with forward slashes. `location` is for messages.
    """

    location: str

    def create(self, name: str, data: bytes) -> None:
        """Create an object. Raises AlreadyExists; of two racing callers exactly one creates it."""

    def create_from(self, name: str, path: Path) -> None:
        """Create an object with the bytes of a local file, which must not change afterwards. Raises AlreadyExists."""

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Return bytes `start <= i < start + length`, fewer where the object ends. Raises FileNotFoundError."""

    def size(self, name: str) -> int:
        """Return an object's size in bytes. Raises FileNotFoundError."""

    def exists(self, name: str) -> bool:
        """Say whether an object is there."""

    def names(self, prefix: str) -> list[str]:
        """Return the names that begin with `prefix`, sorted."""

    def replace(self, name: str, data: bytes) -> None:
        """Write one of REPLACEABLE, whether it was there or not."""

    def delete(self, name: str) -> None:
        """Remove an object. Raises FileNotFoundError."""

    def local_path(self, name: str) -> Path | None:
        """Return where an object lies, or would lie, as a local file; None if the store is elsewhere."""

    def scratch(self) -> AbstractContextManager[Path]:
        """Make a local folder for files that `create_from` takes, and remove it at the end."""

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading in order. Raises FileNotFoundError."""


def names_there(store: Store, folder: str, due: Iterable[str]) -> set[str]:
    """Return the names below a folder; of a web server, which has no list, those of the due ones that are there."""
    try:
        return set(store.names(folder))
    except Unlisted:
        return {name for name in due if store.exists(name)}


class LocalStore:
    """A store in a folder of a POSIX file system with hard links.

    An object is written under a scratch name, synced, and linked to its own name: a name that exists is whole, and
    linking to a name that exists fails. Symbolic links inside the folder are refused, so no name leads out of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self.location = str(root)

    def __repr__(self) -> str:
        return f"LocalStore({self.location!r})"

    def create(self, name: str, data: bytes) -> None:
        """See Store."""
        final = self._path(name)
        if os.path.lexists(final):
            raise AlreadyExists(name)
        temporary = self._write_scratch(data, final)
        try:
            self._link(temporary, final, name)
        finally:
            os.unlink(temporary)

    def create_from(self, name: str, path: Path) -> None:
        """See Store. A file under this folder's `_work` is linked, any other is copied."""
        final = self._path(name)
        if os.path.lexists(final):
            raise AlreadyExists(name)
        path = Path(path).absolute()
        if not path.is_relative_to(self.root / WORK) or path.is_symlink():
            temporary = self._write_scratch(path, final)
            try:
                self._link(temporary, final, name)
            finally:
                os.unlink(temporary)
            return
        _sync(path)
        self._link(path, final, name)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See Store."""
        with self.open(name) as file:
            if start:
                file.seek(start)
            return file.read() if length is None else file.read(length)

    def size(self, name: str) -> int:
        """See Store."""
        return self._stat(name).st_size

    def exists(self, name: str) -> bool:
        """See Store. Raises IntegrityError for anything but a plain file."""
        try:
            self._stat(name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def names(self, prefix: str) -> list[str]:
        """See Store. Everything that is no folder is listed, whatever its name."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self.root
        return sorted(name for name in _walk(start, f"{folder}/" if folder else "") if name.startswith(prefix))

    def replace(self, name: str, data: bytes) -> None:
        """See Store."""
        assert name in REPLACEABLE, f"{name} may not be replaced"
        final = self._path(name)
        temporary = self._write_scratch(data, final)
        os.replace(temporary, final)
        _sync(final.parent)

    def mend(self, name: str, source: bytes | Path) -> None:
        """Put bytes, or a copy of a file, in the place of what is known to be bad or missing, in one step.

        Raises IntegrityError for a link, a folder or a device in its place.
        """
        if self.exists(name):  # which refuses what is no plain file
            _log.info("%s/%s: replaced", self.location, name)
        final = self._path(name)
        temporary = self._write_scratch(source, final)
        self._make_folder(final.parent)
        os.replace(temporary, final)
        _sync(final.parent)

    def delete(self, name: str) -> None:
        """See Store."""
        path = self._path(name)
        os.unlink(path)
        _sync(path.parent)

    def local_path(self, name: str) -> Path | None:
        """See Store. Raises IntegrityError for a link or a device."""
        path = self._path(name)
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return path
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise IntegrityError(f"{self.location}: {name} is no plain file (a link or a device)")
        return path

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See Store. The folder is on the set's own file system."""
        self._make_folder(self.root / SCRATCH)
        with scratch_folder(self.root / SCRATCH) as folder:
            yield folder

    def open(self, name: str) -> BinaryIO:
        """See Store. Raises IntegrityError for anything but a plain file."""
        self._stat(name)
        return self._path(name).open("rb")

    def _path(self, name: str) -> Path:
        parts = check_name(name, self.location)
        path = self.root
        for part in parts[:-1]:
            path /= part
            if path.is_symlink():
                raise IntegrityError(f"{self.location}: {name}: {part} is a symbolic link, sets hold plain folders")
        return path / parts[-1]

    def _stat(self, name: str) -> os.stat_result:
        status = os.lstat(self._path(name))
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityError(f"{self.location}: {name} is no plain file (a link, a folder or a device)")
        return status

    def _write_scratch(self, source: bytes | Path, final: Path) -> Path:
        """Write bytes or a copy of a file under a scratch name and sync them; on failure nothing is left."""
        folder = self.root / SCRATCH
        self._make_folder(folder)
        path = folder / f"{final.name}.{os.getpid()}.{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with naming(final):
                if isinstance(source, Path):
                    with source.open("rb", buffering=0) as file:
                        while piece := file.read(COPY_BYTES):
                            _write_all(descriptor, piece)
                else:
                    _write_all(descriptor, source)
                os.fsync(descriptor)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)
        return path

    def _link(self, source: Path, final: Path, name: str) -> None:
        self._make_folder(final.parent)
        try:
            os.link(source, final)
        except FileExistsError:
            # A server may have made the link and lost its answer: NFS then answers the repeated call like this.
            if not os.path.samestat(os.lstat(source), os.lstat(final)):
                raise AlreadyExists(name) from None
        _sync(final.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        _sync(folder.parent)


def check_name(name: str, location: str) -> list[str]:
    """Return a name's parts. Raises InputError unless it is a relative path of plain letters; `location` is named."""
    parts = name.split("/")
    if not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
        raise InputError(f"{location}: {name!r} is no name inside a set, use relative paths of plain letters")
    return parts


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(folder: Path, prefix: str) -> list[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            found += _walk(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            found.append(prefix + entry.name)
    return found


def probe_create_only(store: Store) -> None:
    """Try on a scratch name that a second create is refused and leaves the first bytes alone.

    Only what says that the store overwrites refuses it for that: a create that succeeds twice, or the second bytes read
    back. Bytes that are neither the first nor the second changed on their way; they are read again, and once more under
    another name, since it may have been the upload.

    Raises:
        InputError: the store overwrites, or has no hard links; a set written there would not be safe.
        RunFailed: what is read there is never what was written.
        OSError: the store cannot be written at all (read-only, full).
    """
    if not any(_keeps_first(store) for _ in range(PROBES)):
        raise RunFailed(
            f"{store.location}: {PROBES} small objects were written there and read back with other bytes, each "
            f"{PROBES} times; bytes change on the way, so nothing is written"
        )


def _keeps_first(store: Store) -> bool:
    """Create an object twice; False if neither of them can be read back, however often."""
    name = f"{SCRATCH}/probe-{secrets.token_hex(8)}"
    first, second = secrets.token_bytes(32), secrets.token_bytes(32)
    try:
        store.create(name, first)
    except OSError as error:
        if error.filename2 is not None and error.errno in _NO_LINKS:  # only a link has two names
            reason = f"no hard links there ({error.strerror}), use another file system"
            raise InputError(f"{store.location}: {reason}") from error
        raise
    try:
        store.create(name, second)
        overwrote = True
    except AlreadyExists:
        overwrote = False
    found = b""
    for _ in range(PROBES):
        if overwrote or found in (first, second):
            break
        found = store.read(name)
    store.delete(name)
    if overwrote or found == second:
        raise InputError(f"{store.location}: a second create overwrites the first there, use another store")
    return found == first


def open_store(location: str) -> Store:
    """Return the store at a path or a URL. Raises InputError for a URL that is not allowed, naming what is."""
    if not location:
        raise InputError("the location of a set is empty, use a folder's path or a URL")
    return _open_remote(location) if "://" in location else LocalStore(Path(location))


def open_target(location: str) -> Store:
    """Return the store at a path or a URL where a set is to be made. Raises InputError where that cannot be."""
    if "://" not in location:
        return open_store(location)
    store = _open_remote(location)
    store.check_writable()
    return store


def _open_remote(location: str) -> "ObjectStore":
    from caskit.shards.remote.hub_store import HubStore  # they stand on this module
    from caskit.shards.remote.location import HUB_SCHEME, parse_location
    from caskit.shards.remote.objects import ObjectStore

    where = parse_location(location)
    return HubStore(where) if where.scheme == HUB_SCHEME else ObjectStore(where)
