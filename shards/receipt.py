"""Receipts: this machine has checked these very files in full, so opening them again need not.

A receipt holds the size, times and inode of every file that the check read; a file that was touched since makes it
void. It lies in the cache folder, not in the set, and is no proof for anybody else. Each sample's digest is checked
again when a process first reads it.
"""

import json
import logging
import os
import tempfile
from pathlib import Path

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError
from caskit.manifests.origin import ORIGIN_FILES
from caskit.manifests.packing import Packing
from caskit.manifests.replica import Replica
from caskit.shards.cache import cache_folder
from caskit.shards.codes import CODES
from caskit.shards.store import Store

RECEIPT_VERSION = 2  # raised whenever `verify --level full` learns to notice more
_log = logging.getLogger(__name__)

Stamps = dict[str, list[str]]


def stamps_before_check(store: Store, kind: str) -> Stamps | None:
    """Return the stamps to take before a set's records are read, or None where no receipt can follow.

    That is also so if a file is missing or of a wrong name, or the kind is unknown: the check says which.
    """
    try:
        return take_stamps(store, kind)
    except (KeyError, FileNotFoundError, InputError):
        return None


def take_stamps(store: Store, kind: str) -> Stamps | None:
    """Return what the file system says about each file of the set's identity; None where files are not local.

    Numbers are text, nanoseconds do not fit into JSON's exact integers. The change time is among them because, unlike
    the modification time, a program cannot set it.
    """
    stamps = {}
    records = ["replica.json", ORIGIN_FILES[kind], "manifest.parquet", "shards.parquet"]
    records += [Packing.FILE] if store.exists(Packing.FILE) else []
    for name in [*records, *store.names("shards/"), *store.names(f"{CODES}/")]:
        path = store.local_path(name)
        if path is None:
            return None
        status = os.lstat(path)
        stamps[name] = [str(n) for n in (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)]
    return stamps


def has_receipt(store: Store, replica: Replica, stamps: Stamps | None) -> bool:
    """Say whether the set with this identity was checked in full while its files were the same."""
    if stamps is None:
        return False
    try:
        there = json.loads(_path(store, replica).read_bytes())
    except (OSError, ValueError):
        return False  # no receipt, or not a whole one: then the set is checked
    return bool(there == _content(replica, stamps))


def write_receipt(store: Store, replica: Replica, stamps: Stamps | None) -> None:
    """Leave a receipt for stamps taken before the check began. Where the cache cannot be written there is none."""
    if stamps is None or take_stamps(store, replica.kind) != stamps:
        return
    path = _path(store, replica)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".receipt-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(canonical_json(_content(replica, stamps)))
        os.replace(temporary, path)
    except OSError as error:
        _log.info("no receipt for %s: %s; it will be checked in full each time", store.location, error)


def _content(replica: Replica, stamps: Stamps) -> dict[str, object]:
    return {"receipt_version": RECEIPT_VERSION, "replica_id": replica.replica_id, "files": stamps}


def _path(store: Store, replica: Replica) -> Path:
    location = Path(store.location).absolute()
    name = sha256_hex(f"{replica.replica_id} {location}".encode("utf-8", "surrogateescape"))
    return cache_folder("receipts") / f"{name}.json"
