"""What of a frozen set leaves the folder it was made in: named files with their digests, nothing else, in two parts.

`_work/` and `quarantine/` are never among them, nor is anything else that merely lies in the folder.
"""

import dataclasses

from caskit.manifests import index
from caskit.manifests.canonical import sha256_hex
from caskit.manifests.errors import IntegrityError
from caskit.manifests.origin import ORIGIN_FILES
from caskit.manifests.packing import Packing
from caskit.manifests.rows import iterate_rows
from caskit.manifests.view import View
from caskit.shards.code_checks import due_sidecars
from caskit.shards.commit import shard_path
from caskit.shards.digest import sha256_stored
from caskit.shards.records import Records
from caskit.shards.signatures import envelope_names
from caskit.shards.store import REPLACEABLE

OPTIONAL = (Packing.FILE, "environment.json", "skipped.parquet", "provenance.json")
LAST = "replica.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of a set: its name, size in bytes and SHA-256 (hex); `data` of one that lies in no store yet."""

    name: str
    size_bytes: int
    sha256: str
    data: bytes | None = None


def tar_files(records: Records) -> list[PublishedFile]:
    """Return the tars, as shards.parquet says; packing_root covers it."""
    return [PublishedFile(name=shard_path(s.shard), size_bytes=s.size_bytes, sha256=s.sha256) for s in records.shards]


def record_names(records: Records) -> list[str]:
    """Return the names of the records in the order in which they are written; the last one completes the set."""
    present = [name for name in OPTIONAL if records.store.exists(name)]
    return [ORIGIN_FILES[records.replica.kind], *present, "manifest.parquet", "shards.parquet", LAST]


def published_files(records: Records) -> list[PublishedFile]:
    """Return every file of a local set that is published, in the order in which they are.

    Raises:
        IntegrityError: a file has gone.
    """
    store = records.store
    before = [*due_sidecars(records.origin, records.num_shards), *record_names(records)[:-1]]
    after = [name for name in REPLACEABLE if name != index.FILE and store.exists(name)] + envelope_names(store)
    try:
        described = {
            name: PublishedFile(name=name, size_bytes=store.size(name), sha256=sha256_stored(store, name))
            for name in (*before, *after, LAST)
        }
    except FileNotFoundError as error:
        raise IntegrityError(f"{store.location}: {error.filename} is missing") from None
    made = [] if isinstance(records.origin, View) else [_index_file(records)]
    return [*tar_files(records), *(described[name] for name in (*before, *after)), *made, described[LAST]]


def _index_file(records: Records) -> PublishedFile:
    data = index.make_index(iterate_rows(records.manifest), records.origin.histogram)
    return PublishedFile(name=index.FILE, size_bytes=len(data), sha256=sha256_hex(data), data=data)
