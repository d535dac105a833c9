"""Files of other projects, by path or from the web, with a limit and a digest.

Messages show an address without its user, password and query, where secrets stand.
"""

import hashlib
import http.client
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from caskit.gen.foreign import file_digest
from caskit.manifests.errors import InputError, IntegrityError, RunFailed

MAX_BYTES = 4 << 30
_CONNECT_TIMEOUT_S = 30
_BLOCK_BYTES = 1 << 20
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HANDLERS = (  # what urllib opens by itself also reads files, data addresses and FTP
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.UnknownHandler,
)

Report = Callable[[int, int | None], None]  # bytes done, and of how many if that is known


@contextmanager
def local_file(
    source: str, *, sha256: str | None = None, max_bytes: int = MAX_BYTES, report: Report | None = None
) -> Iterator[tuple[Path, str]]:
    """Give a file and its SHA-256; what came from the web is gone afterwards.

    Args:
        source: a path or an http(s) address, which may end with `#sha256=HEX`.
        sha256: what its digest must be.
        max_bytes: of a download.
        report: hears how far a download is.

    Raises:
        InputError: no such file, an address of another kind, or one that the server does not know.
        IntegrityError: another digest.
        RunFailed: it could not be fetched, or is larger than allowed.
    """
    address = _ADDRESS.match(source)
    place, _, fragment = source.partition("#") if address else (source, "", "")
    expected = _expected_digest(sha256, fragment)
    if address is None:
        path = Path(source)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        yield path, _checked(file_digest(path), expected, source)
        return
    shown = shown_address(place)
    with tempfile.TemporaryDirectory(prefix="caskit-fetch-") as folder:
        path = Path(folder, "fetched")
        yield path, _checked(_fetch(place, path, shown, max_bytes, report), expected, shown)


def shown_address(address: str) -> str:
    """Return an address without user, password, query and fragment."""
    try:
        parts = urllib.parse.urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError("the address cannot be read, its host or port is not of the right form") from error
    return f"{parts.scheme}://{host or ''}{'' if port is None else f':{port}'}{parts.path}"


def _expected_digest(sha256: str | None, fragment: str) -> str | None:
    given = [] if sha256 is None else [sha256.lower()]
    if fragment:
        if not fragment.startswith("sha256="):
            raise InputError("the address ends with a # that is not followed by sha256=HEX")
        given.append(fragment.removeprefix("sha256=").lower())
    for digest in given:
        if _DIGEST.fullmatch(digest) is None:
            raise InputError(f"sha256 is {digest!r}, must be 64 hex digits")
    if len(set(given)) > 1:
        raise InputError("two different digests are given, in the address and beside it")
    return given[0] if given else None


def _checked(digest: str, expected: str | None, name: str) -> str:
    if expected not in (None, digest):
        raise IntegrityError(f"{name}: sha256 is {digest}, expected {expected}")
    return digest


def _fetch(address: str, path: Path, shown: str, max_bytes: int, report: Report | None) -> str:
    """Download to a path and return the digest."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise InputError(f"{shown}: only files and http(s) addresses can be read")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{shown}: the address holds a user or password, neither is used; fetch the file yourself")
    if re.search(r"[^\x21-\x7e]", address):
        raise InputError("the address has characters that must be percent-encoded")
    opener = urllib.request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    request = urllib.request.Request(address, headers={"User-Agent": "caskit"})
    try:
        with opener.open(request, timeout=_CONNECT_TIMEOUT_S) as answer, path.open("wb") as file:
            return _receive(answer, file, shown, max_bytes, report)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if 300 <= error.code < 400:
            raise RunFailed(f"{shown}: the server redirects to what is no http(s) address, or in a circle") from error
        kind, phrase = (InputError if error.code < 500 else RunFailed), http.client.responses.get(error.code, "")
        raise kind(f"{shown}: the server answers {error.code} {phrase}") from error
    except urllib.error.URLError as error:
        raise RunFailed(f"{shown}: cannot be fetched ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise RunFailed(f"{shown}: cannot be fetched ({type(error).__name__})") from error


def _receive(answer: Any, file: BinaryIO, shown: str, max_bytes: int, report: Report | None) -> str:
    length = answer.headers.get("Content-Length")
    total = int(length) if length is not None and re.fullmatch(r"[0-9]{1,18}", length) else None
    if total is not None and total > max_bytes:
        raise RunFailed(f"{shown}: has {total:,} bytes, at most {max_bytes:,} are fetched")
    digest, done = hashlib.sha256(), 0
    while block := answer.read(_BLOCK_BYTES):
        done += len(block)
        if done > max_bytes:
            raise RunFailed(f"{shown}: has more than {max_bytes:,} bytes, no more are fetched")
        digest.update(block)
        file.write(block)
        if report is not None:
            report(done, total)
    if total is not None and done != total:
        raise RunFailed(f"{shown}: the connection ended after {done:,} of {total:,} bytes")
    return digest.hexdigest()
