"""Sets read from a URL: pulled once into a bounded cache on this machine, checked there, and opened like any folder.

Shards come whole, several at a time. A set that is in use is held by a lock; of the others the ones used longest ago
make room for a new one.
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from caskit.manifests.errors import InputError
from caskit.manifests.sets import SetReference
from caskit.shards.cache import cache_folder
from caskit.shards.records import read_replica, read_shard_table
from caskit.shards.remote.attempts import again
from caskit.shards.remote.location import is_url
from caskit.shards.remote.progress import TransferConfig, TransferProgress
from caskit.shards.remote.pull import pull
from caskit.shards.store import open_store
from caskit.shards.verify import VerifyProgress

CACHE = "sets"
LIMIT_NAME = "CASKIT_CACHE_BYTES"
DEFAULT_LIMIT_BYTES = 200 * 10**9
_LOCK = ".lock"
_log = logging.getLogger(__name__)
_held: dict[str, int] = {}  # descriptors of the locks of the sets that this process uses, by folder


def fetched(reference: SetReference, progress: Callable[[VerifyProgress], None] = lambda _: None) -> SetReference:
    """Return a reference to a folder with the set, which is the given one unless it is a URL's.

    Args:
        reference: of a set anywhere.
        progress: told how far fetching it and the check are, in shards.

    Raises:
        InputError: no set there, or one larger than the cache may be.
        RunFailed, IntegrityError: it did not arrive whole; see pull.
    """
    if not is_url(reference.location):
        return reference
    store = open_store(reference.location)
    replica = again(lambda: read_replica(store), store.location)
    reference.check(replica.replica_id)
    folder = cache_folder(CACHE) / replica.replica_id
    hold(folder)
    if not (folder / "replica.json").exists():
        size = sum(shard.size_bytes for shard in again(lambda: read_shard_table(store), store.location))
        make_room(folder, size)

        def fetching(at: TransferProgress) -> None:
            progress(VerifyProgress(stage="fetch", done=at.files_done, total=at.num_files))

        pull(
            f"{store.location}@sha256:{replica.replica_id}",  # on the Hub, of the commit that was looked at
            folder / "set",
            TransferConfig(verifying=progress, progress=fetching),
        )
        (folder / "replica.json").write_bytes(replica.to_bytes())  # the set is here, whole
    os.utime(folder)
    return SetReference(location=str(folder / "set"), prefix=replica.replica_id)


def limit_bytes() -> int:
    """Return how large the cache may be: CASKIT_CACHE_BYTES of the environment, or 200 GB."""
    text = os.environ.get(LIMIT_NAME, "")
    if text and re.fullmatch("[0-9]{1,18}", text) is None:
        raise InputError(f"{LIMIT_NAME} is {text!r}, must be a number of bytes")
    return int(text) if text else DEFAULT_LIMIT_BYTES


def make_room(folder: Path, size: int) -> None:
    """Remove sets that nobody uses, the one used longest ago first, until one of `size` bytes fits.

    Raises:
        InputError: it does not fit, naming the limit.
    """
    limit, root = limit_bytes(), folder.parent
    others = sorted((path for path in root.iterdir() if path != folder), key=lambda path: path.stat().st_mtime)
    used = {path: _folder_bytes(path) for path in others}
    for path in others:
        if sum(used.values()) + size <= limit:
            break
        with _unused(path) as free:
            if free:
                _log.info("%s: removed from the cache to make room", path)
                shutil.rmtree(path, ignore_errors=True)
                used[path] = 0
    if sum(used.values()) + size > limit:
        raise InputError(
            f"the set takes {size} bytes, the cache {root} may hold {limit} with what is in use; raise {LIMIT_NAME}, "
            "or `caskit pull` the set, or a part of it, into a folder"
        )


def hold(folder: Path) -> None:
    """Keep others from removing a set for as long as this process lives."""
    if str(folder) in _held:
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _held[str(folder)] = descriptor


@contextlib.contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    """Say whether no process holds a set, and hold it alone meanwhile."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield False  # none of ours
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _folder_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
