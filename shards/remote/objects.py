"""A set in an object store or on a web server, as a `Store`: obstore does the requests, patience.py the retries.

Create-only is the store's own `If-None-Match: *` (or its like at Google and Azure); a store that ignores it is found by
`probe_create_only`. Credentials are obstore's to find, in the environment or the machine's role (docs/storage.md); no
message or log line holds what a server answered, since that may repeat a request.
"""

import contextlib
import functools
import hashlib
import io
import logging
import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from caskit.manifests.errors import InputError
from caskit.shards.remote.location import WEB_SCHEMES, Location, parse_location
from caskit.shards.remote.patience import Patience, Transient, is_transient, reason_of, status_of
from caskit.shards.remote.reader import PIECE_BYTES, ObjectReader
from caskit.shards.remote.stated import ENDPOINTS, Statements
from caskit.shards.scratch import scratch_folder
from caskit.shards.store import REPLACEABLE, WORK, AlreadyExists, Unlisted, check_name

_SLOWEST_BYTES_PER_S = 2**18  # a large upload is one request, and its time limit follows from its size
_LARGEST_BYTES = 5 * 2**30  # of one upload: the limit of S3
_log = logging.getLogger(__name__)
T = TypeVar("T")


class ObjectStore:
    """Objects below a URL. May be pickled; then it is opened again, with the credentials of where that happens.

    Args:
        location: `s3://`, `gs://` or `az://`, or `http(s)://` to read.
        patience: how long is waited and how often is tried.

    Attributes:
        has_ranges: False once the server was seen to answer a range with something else.

    Raises:
        InputError: a URL that is not allowed, or settings in the environment that obstore refuses.
        ModuleNotFoundError: obstore is not installed.
    """

    def __init__(self, location: str | Location, *, patience: Patience | None = None) -> None:
        self._where = location if isinstance(location, Location) else parse_location(location)
        self.location = str(self._where)
        self.patience = patience or Patience()
        self.has_ranges = True
        self._begin()

    def _begin(self) -> None:
        """Connect, so that settings which make no store are refused before anything is done."""
        _ = self._client, self._bulk

    @functools.cached_property
    def _client(self) -> Any:
        return self._connect(self.patience.timeout_s)

    @functools.cached_property
    def _bulk(self) -> Any:
        """For requests that move a whole object."""
        return self._connect(self.patience.timeout_s + _LARGEST_BYTES / _SLOWEST_BYTES_PER_S)

    def _connect(self, timeout_s: float) -> Any:
        return connect(self._where, self.patience, timeout_s)

    def __repr__(self) -> str:
        return f"ObjectStore({self.location!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.location, self.patience)

    def create(self, name: str, data: bytes) -> None:
        """See Store."""
        self._create(name, data)

    def create_from(self, name: str, path: Path) -> None:
        """See Store. The file is mapped, so its pages are the system's to drop."""
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_BYTES:
                raise InputError(f"{path}: {size} bytes, one object has at most {_LARGEST_BYTES}; use smaller shards")
            if size == 0:
                self._create(name, b"")
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                self._create(name, mapped)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See Store."""
        if length is None:
            length = max(0, self.size(name) - start)
        pieces = []
        while length > 0:
            piece = self.read_piece(name, start, min(length, PIECE_BYTES))
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
            if not piece:
                break
        return b"".join(pieces)

    def read_piece(self, name: str, start: int, length: int) -> bytes:
        """Return bytes in one request; fewer, or none, where the object ends."""
        import obstore

        def get() -> bytes:
            if self.has_ranges:
                try:
                    return bytes(obstore.get_range(self._client, name, start=start, length=length))
                except Exception as error:
                    if status_of(error) == 416:  # it ends before
                        return b""
                    if "NotPartial" not in str(error):
                        raise
                _log.warning("%s: the server does not answer byte ranges, so whole objects are read", self.location)
                self.has_ranges = False
            found = bytearray()
            for chunk in self.chunks(name, start):
                found += chunk
                if len(found) >= length:
                    break
            return bytes(found[:length])

        return self.call("read", name, get)

    def chunks(self, name: str, start: int) -> Iterator[bytes]:
        """Yield an object's bytes from a place on, out of one request for all of it; errors are obstore's own."""
        import obstore

        at = 0
        for chunk in obstore.get(self._bulk, name).stream(min_chunk_size=2**20):
            at += len(chunk)
            if at > start:
                yield bytes(chunk)[max(0, start - at + len(chunk)) :]

    def size(self, name: str) -> int:
        """See Store."""
        return int(self._head(name)["size"])

    def md5(self, name: str) -> str | None:
        """Return the MD5 that the store says an object has, where its ETag is one (S3, uploads of one request)."""
        return _md5_of(str(self._head(name).get("e_tag") or ""))

    def stated_sha256(self, name: str) -> str | None:
        """Return the SHA-256 that the store states of an object, where it does; see stated.py."""
        check_name(name, self.location)
        return Statements(self._where, self.patience).sha256(name)

    def exists(self, name: str) -> bool:
        """See Store."""
        try:
            self._head(name)
        except FileNotFoundError:
            return False
        return True

    def names(self, prefix: str) -> list[str]:
        """See Store. A web server has no list; that nothing is published below `_work/` is known without."""
        import obstore

        if self._where.scheme in WEB_SCHEMES:
            if prefix.startswith(f"{WORK}/"):
                return []
            raise Unlisted(f"{self.location}: a web server does not list what it holds")
        folder = prefix.rpartition("/")[0]

        def listed() -> list[str]:
            pages = obstore.list(self._client, prefix=folder or None)
            return [str(entry["path"]) for page in pages for entry in page]

        return sorted(name for name in self.call("list", folder, listed) if name.startswith(prefix))

    def replace(self, name: str, data: bytes) -> None:
        """See Store."""
        import obstore

        assert name in REPLACEABLE, f"{name} may not be replaced"
        self.check_writable()
        due = hashlib.md5(data, usedforsecurity=False).hexdigest()

        def put() -> None:
            tag = str(obstore.put(self._client, name, data, use_multipart=False)["e_tag"] or "")
            if _md5_of(tag) not in (None, due) and not self._holds(name, data):
                raise Transient("it arrived with other bytes")

        self.call("write", name, put)

    def delete(self, name: str) -> None:
        """See Store."""
        import obstore

        self.check_writable()
        self._head(name)
        with contextlib.suppress(FileNotFoundError):  # an earlier attempt did it, and its answer was lost
            self.call("delete", name, lambda: obstore.delete(self._client, name))

    def local_path(self, name: str) -> Path | None:
        """See Store. Nothing is local."""
        check_name(name, self.location)
        return None

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """See Store. The folder is in the system's place for temporary files."""
        with scratch_folder(Path(tempfile.gettempdir()), "caskit-store-") as folder:
            yield folder

    def open(self, name: str) -> BinaryIO:
        """See Store. Reads PIECE_BYTES ahead; may be sought in."""
        return cast(BinaryIO, io.BufferedReader(ObjectReader(self, name, self.size(name)), PIECE_BYTES))

    def _create(self, name: str, data: bytes | mmap.mmap) -> None:
        """Create an object.

        If the answer to one attempt never came and the next one finds these very bytes there, the first had arrived.
        Where the store tells an MD5, an upload that changed on its way is taken back and sent again.
        """
        import obstore

        self.check_writable()
        uncertain, damaged = False, ""
        client = self._client if len(data) <= PIECE_BYTES else self._bulk
        due = hashlib.md5(data, usedforsecurity=False).hexdigest()

        def put() -> None:
            nonlocal uncertain, damaged
            if damaged:
                self._take_back(name, damaged)
                damaged = ""
            try:
                tag = str(obstore.put(client, name, data, mode="create", use_multipart=False)["e_tag"] or "")
            except obstore.exceptions.AlreadyExistsError as error:
                if not self.exists(name):  # S3: two creates at once, one of them has to come again
                    raise Transient(reason_of(error)) from None
                if uncertain and self._holds(name, data):
                    return
                raise AlreadyExists(name) from None
            except FileNotFoundError:
                raise InputError(f"{self.location}: no bucket or container of that name is there") from None
            except Exception as error:
                uncertain = uncertain or is_transient(error)
                raise
            # A store that encrypts has tags that only look like an MD5: reading decides.
            if _md5_of(tag) not in (None, due) and not self._holds(name, data):
                damaged = tag
                raise Transient("it arrived with other bytes")

        self.call("create", name, put)

    def _take_back(self, name: str, tag: str) -> None:
        """Delete what one upload of ours left; nothing that somebody else created since."""
        import obstore

        with contextlib.suppress(FileNotFoundError):
            if str(obstore.head(self._client, name)["e_tag"] or "") == tag:
                obstore.delete(self._client, name)

    def _holds(self, name: str, data: bytes | mmap.mmap) -> bool:
        if self.size(name) != len(data):
            return False
        with self.open(name) as file:
            found = hashlib.file_digest(cast(Any, file), "sha256").digest()
        return found == hashlib.sha256(data).digest()

    def _head(self, name: str) -> Any:
        import obstore

        return self.call("look up", name, lambda: obstore.head(self._client, name))

    def check_writable(self) -> None:
        """Raise InputError if nothing can be created there."""
        if not self._where.writable:
            raise InputError(f"{self.location}: can only be read; to write, use s3://, gs://, az:// or a folder")

    def call(self, what: str, name: str, work: Callable[[], T]) -> T:
        """Do one request, again while it fails in passing, and turn what obstore raises into caskit's errors."""
        if name or what != "list":
            check_name(name, self.location)

        def attempt() -> T:
            try:
                return work()
            except (AlreadyExists, InputError, Transient):
                raise
            except FileNotFoundError:
                raise FileNotFoundError(2, "No such file or directory", f"{self.location}/{name}") from None
            except Exception as error:
                raise self._translated(error, f"{self.location}/{name}") from None
            except BaseException as error:  # a Rust panic is none of Exception
                if type(error).__name__ != "PanicException":
                    raise
                raise InputError(f"{self.location}: the settings in the environment make no request") from None

        return self.patience.call(f"{self.location}/{name}: cannot {what}", attempt)

    def _translated(self, error: Exception, where: str) -> Exception:
        from obstore import exceptions

        if is_transient(error):
            return Transient(reason_of(error))
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return InputError(f"{where}: {reason_of(error)}: access denied; credentials come from docs/storage.md")
        if isinstance(error, exceptions.BaseError):
            return InputError(f"{where}: {reason_of(error)}")
        return error


def _md5_of(tag: str) -> str | None:
    """Return the MD5 that an ETag looks like; None if it is something else."""
    text = tag.strip('"').lower()
    return text if re.fullmatch("[0-9a-f]{32}", text) else None


def _reopen(kind: type[ObjectStore], location: str, patience: Patience) -> ObjectStore:
    return kind(location, patience=patience)


def connect(where: Location, patience: Patience, timeout_s: float, headers: Mapping[str, str] | None = None) -> Any:
    """Return obstore's client; its own retries are off, so that there is one place for them.

    Args:
        where: what names are below.
        patience: how long a connection may take.
        timeout_s: of one request.
        headers: sent with each request, and left out (`Authorization`) where an answer leads to another host or port.
    """
    from obstore import exceptions
    from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

    _check_environment(where)
    options: Any = {
        "timeout": timedelta(seconds=timeout_s),
        "connect_timeout": timedelta(seconds=patience.connect_s),
        "allow_http": _plain_http(where),
        "default_headers": dict(headers or {}),
    }
    shared: Any = {
        "client_options": options,
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=timeout_s)},
    }
    prefix = where.path or None
    try:
        if where.scheme == "s3":
            return S3Store(where.host, prefix=prefix, **checksum_options(), **shared)
        if where.scheme == "gs":
            return GCSStore(where.host, prefix=prefix, **shared)
        if where.scheme == "az":
            return AzureStore(where.host, prefix=prefix, **shared)
        return HTTPStore(str(where), **shared)
    except exceptions.BaseError as error:
        name = type(error).__name__
        raise InputError(f"{where}: the settings in the environment do not make a store ({name})") from None


def _check_environment(where: Location) -> None:
    """Raise InputError for settings that cannot be sent in a request: obstore would end the process over them."""
    if where.scheme in WEB_SCHEMES:
        return
    prefixes = {"s3": ("AWS_",), "gs": ("GOOGLE_",), "az": ("AZURE_",)}[where.scheme]
    for name, value in os.environ.items():
        if not name.startswith(prefixes):
            continue
        if not (value.isascii() and value.isprintable()) and "PEM" not in name:
            raise InputError(f"{where}: {name} in the environment is no line of plain characters that can be used")
        if "ENDPOINT" in name and value and re.fullmatch(r"https?://[A-Za-z0-9\[][^\s@]*", value) is None:
            raise InputError(
                f"{where}: {name} in the environment is no URL of the form http(s)://HOST that can be used"
            )


def checksum_options() -> dict[str, Any]:
    """Return how uploads to S3 carry a checksum, which the store checks on arrival, keeps and states (stated.py).

    Some servers of others refuse it: they get it where AWS_CHECKSUM_ALGORITHM says so, which obstore reads itself.
    """
    endpoint = any(os.environ.get(name) for name in ENDPOINTS)
    return {} if endpoint or "AWS_CHECKSUM_ALGORITHM" in os.environ else {"checksum_algorithm": "SHA256"}


def _plain_http(where: Location) -> bool:
    """Say whether requests may go unencrypted: only where the user's own URL or endpoint says http."""
    if where.scheme in WEB_SCHEMES:
        return where.scheme == "http"
    names = {
        "s3": ENDPOINTS,
        "gs": ("STORAGE_EMULATOR_HOST", "GOOGLE_BASE_URL"),
        "az": ("AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"),
    }[where.scheme]
    return any(os.environ.get(name, "").startswith("http://") for name in names)
