"""Files of a folder that somebody else made: opened only if they are plain, read only up to a bound, not believed."""

import errno
import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caskit.manifests.canonical import MAX_JSON_BYTES
from caskit.manifests.errors import InputError
from caskit.manifests.plan import check_format_version


def open_plain(path: Path) -> io.BufferedReader:
    """Open a plain file for reading. A link is refused, and so is a pipe or a device, which may be read for ever.

    Raises:
        InputError: it is something else than a plain file.
        OSError: it is not there, or may not be read.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe waits for somebody who writes.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket or a device without a driver
            raise InputError(f"{path}: is no plain file (a link or a device)") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path}: is no plain file (a folder, a pipe or a device)")
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path, *, max_bytes: int) -> bytes:
    """Return a plain file's bytes. Raises InputError for another kind of file, or a larger one."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise InputError(f"{path}: {size} bytes, at most {max_bytes} are read")
        return file.read(size)  # a larger number would be allocated at once


def sha256_plain(path: Path) -> str:
    """Return a plain file's SHA-256, 64 hex digits. Raises InputError for another kind of file."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_record(path: Path, *, what: str) -> dict[str, Any]:
    """Read a JSON object of a known format version.

    Raises:
        InputError: no plain file, too large, not JSON, a name twice in one object, no object or of another version.
    """
    data = read_plain(path, max_bytes=MAX_JSON_BYTES)
    try:
        record = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not {what} ({error})") from error
    if not isinstance(record, Mapping) or "format_version" not in record:
        raise InputError(f"{path}: not {what} (no object with a format_version)")
    check_format_version(record["format_version"], name=str(path))
    return dict(record)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members; two readers may not take two of them for the one that counts."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return made
