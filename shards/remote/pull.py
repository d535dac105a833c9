"""Fetching a published set into a folder: records first, since they say what every tar must be, replica.json last."""

import contextlib
import functools
import hashlib
import logging
import re
from pathlib import Path

from caskit.manifests.canonical import MAX_JSON_BYTES, parse_canonical, sha256_hex
from caskit.manifests.errors import InputError, IntegrityError, RunFailed
from caskit.manifests.sets import SetReference
from caskit.manifests.view import View
from caskit.shards.card import write_card
from caskit.shards.code_checks import due_sidecars
from caskit.shards.digest import sha256_stored
from caskit.shards.fault import BrokenSet
from caskit.shards.freeze import create_manifest, read_unfrozen_origin
from caskit.shards.records import Records, read_records, read_replica
from caskit.shards.remote.attempts import ATTEMPTS, again
from caskit.shards.remote.progress import Transfer, TransferConfig, TransferProgress, in_threads
from caskit.shards.remote.published import LAST, OPTIONAL, PublishedFile, tar_files
from caskit.shards.remote.reader import PIECE_BYTES
from caskit.shards.signatures import MAX_ENVELOPE_BYTES, SIGNATURES, envelope_names
from caskit.shards.store import AlreadyExists, LocalStore, Store
from caskit.shards.tables import shard_table, table_bytes
from caskit.shards.verify import check_roots, verify

_MAX_OPTIONAL_BYTES = 2**28
_ENVELOPE = re.compile(re.escape(SIGNATURES) + r"/[0-9a-f]{64}\.json")
_log = logging.getLogger(__name__)


def pull(
    reference: str,
    out: Path,
    config: TransferConfig | None = None,
) -> Transfer:
    """Copy a whole published set into a folder; the same call again goes on. At the end it is checked in full.

    Args:
        reference: the set, `URL[@sha256:prefix]`, or a folder's path. Without a prefix it is whatever is there.
        out: the folder, new or with a part of this set in it.
        config: how; see TransferConfig.

    Raises:
        InputError: no frozen set there, another than the reference asks for, or the folder holds something else.
        IntegrityError: the set's records contradict each other, however often they are read.
        RunFailed: a file did not arrive whole.
        NotFinished: the config's `stop` said so.
    """
    config = config or TransferConfig()
    asked = SetReference.parse(reference)
    target = LocalStore(out)
    records = again(lambda: read_checked(asked), asked.location)
    replica_id = records.replica.replica_id
    files = [*tar_files(records), *_sidecar_files(records)]
    total = sum(file.size_bytes for file in files)
    if _is_complete(target, records):
        due: list[PublishedFile] = []
    else:
        due = [file for file in files if not _is_there(target, file, read=not config.dry_run)]
    moved = Transfer(
        source=records.store.location,
        location=target.location,
        replica_id=replica_id,
        num_files=len(files),
        num_bytes=total,
        files_moved=len(due),
        bytes_moved=sum(file.size_bytes for file in due),
    )
    if config.dry_run:
        return moved
    if not target.exists(LAST):
        _create_origin(target, records)
        counts = [len(files) - len(due), total - moved.bytes_moved]
        get = functools.partial(fetch, records.store, target)
        for file, _ in in_threads(get, due, workers=config.workers, stop=config.stop, what=f"pull to {out}"):
            counts[0], counts[1] = counts[0] + 1, counts[1] + file.size_bytes
            at = TransferProgress(bytes_done=counts[1], num_bytes=total, files_done=counts[0], num_files=len(files))
            config.progress(at)
        _write_records(target, records)
    _fetch_signatures(records.store, target)
    verify(f"{out}@sha256:{replica_id}", "full", progress=config.verifying)
    if not isinstance(records.origin, View):
        write_card(target)
    return moved


def read_checked(reference: SetReference) -> Records:
    """Read a set's records and compare them with replica.json. Raises IntegrityError if they disagree."""
    records = read_records(reference)
    faults = check_roots(records)
    if faults:
        raise BrokenSet(records.store.location, faults)
    return records


def fetch(source: Store, target: LocalStore, file: PublishedFile) -> None:
    """Have one file arrive whole, piece by piece through a scratch file.

    Raises:
        RunFailed: it did not, each time it was read.
    """
    with target.scratch() as folder:
        for attempt in range(ATTEMPTS):
            path = folder / f"{attempt}"
            try:
                arrived = _copy(source, file, path)
            except FileNotFoundError:
                raise IntegrityError(f"{source.location}/{file.name}: is missing from the set") from None
            if arrived:
                with contextlib.suppress(AlreadyExists):  # another pull was first, and the check at the end reads it
                    target.create_from(file.name, path)
                return
            _log.warning("%s/%s: arrived with other bytes; read again", source.location, file.name)
    raise RunFailed(f"{source.location}/{file.name}: has other bytes than its digest says, read {ATTEMPTS} times")


def _copy(source: Store, file: PublishedFile, path: Path) -> bool:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as out, source.open(file.name) as opened:
        while size <= file.size_bytes and (piece := opened.read(PIECE_BYTES)):
            digest.update(piece)
            out.write(piece)
            size += len(piece)
    return size == file.size_bytes and digest.hexdigest() == file.sha256


def _is_complete(target: LocalStore, records: Records) -> bool:
    """Say whether the folder holds the set already. Raises InputError if it holds another one."""
    if target.exists(LAST):
        there = read_replica(target).replica_id
        if there != records.replica.replica_id:
            raise InputError(f"{target.location}: holds the set {there}, not {records.replica.replica_id}")
        return True
    if target.exists(records.origin.FILE):
        there = read_unfrozen_origin(target).origin_id
        if there != records.origin.origin_id:
            raise InputError(f"{target.location}: holds a part of another set ({there}); use another folder")
    elif target.names(""):
        found = [name for name in target.names("") if not name.startswith("_work/")]
        if found:
            raise InputError(f"{target.location}: holds {found[0]} and no part of this set; use an empty folder")
    return False


def _is_there(target: LocalStore, file: PublishedFile, *, read: bool) -> bool:
    if not target.exists(file.name):
        return False
    size = target.size(file.name)
    if size != file.size_bytes or (read and sha256_stored(target, file.name) != file.sha256):
        raise InputError(f"{target.location}/{file.name}: is there with other bytes than the set has; delete it")
    return True


def _sidecar_files(records: Records) -> list[PublishedFile]:
    """Return the sidecars of codes.

    No record has a digest of their bytes, rows have one of the codes: so they are held to what SHA256SUMS says, and the
    check at the end holds every code to its row.
    """
    names = list(due_sidecars(records.origin, records.num_shards))
    if not names:
        return []
    sums = again(lambda: _read_sums(records.store), records.store.location)
    missing = [name for name in names if name not in sums]
    if missing:
        raise InputError(f"{records.store.location}/SHA256SUMS: has no line for {missing[0]}; write the card again")
    sizes = {name: records.store.size(name) for name in names}
    return [PublishedFile(name=name, size_bytes=sizes[name], sha256=sums[name]) for name in names]


def _read_sums(store: Store) -> dict[str, str]:
    """Read SHA256SUMS; empty where there is none."""
    where = f"{store.location}/SHA256SUMS"
    try:
        if store.size("SHA256SUMS") > MAX_JSON_BYTES:
            raise IntegrityError(f"{where}: more than {MAX_JSON_BYTES} bytes")
        lines = store.read("SHA256SUMS").decode("ascii").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise IntegrityError(f"{where}: is not text") from None
    sums = {}
    for line in lines:
        digest, separator, name = line.partition("  ")
        if separator != "  " or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise IntegrityError(f"{where}: line {line[:80]!a} is not a digest and a name")
        sums[name] = digest
    return sums


def _create_origin(target: LocalStore, records: Records) -> None:
    """Write the first record of the set: from then on the folder says whose it is."""
    data = records.origin.to_bytes()
    assert sha256_hex(data) == records.replica.origin_sha256, "the record was compared with replica.json"
    with contextlib.suppress(AlreadyExists):
        target.create(records.origin.FILE, data)


def _write_records(target: LocalStore, records: Records) -> None:
    """Write the other records, replica.json last.

    The tables are written from the rows that were compared with the roots, not from the bytes that came: what they
    cost to parse was paid once, and no foreign Parquet file stays behind but the list of what an ingest skipped.
    """
    source = records.store
    for name in OPTIONAL:
        if not target.exists(name) and source.exists(name):
            target.create(name, again(functools.partial(_read_record, source, name), source.location))
    create_manifest(target, records.manifest, records.replica)
    with contextlib.suppress(AlreadyExists):
        target.create("shards.parquet", table_bytes(shard_table(records.shards)))
    target.create(LAST, records.replica.to_bytes())


def _read_record(source: Store, name: str) -> bytes:
    """Read one record that no root covers, held to SHA256SUMS where there is one."""
    size = source.size(name)
    if size > _MAX_OPTIONAL_BYTES:
        raise IntegrityError(f"{source.location}/{name}: {size} bytes, at most {_MAX_OPTIONAL_BYTES} are read")
    data = source.read(name)
    stated = _read_sums(source).get(name)
    if stated is not None and sha256_hex(data) != stated:
        raise IntegrityError(f"{source.location}/{name}: has other bytes than SHA256SUMS says")
    if name.endswith(".json"):
        try:
            parse_canonical(data, name=f"{source.location}/{name}")
        except InputError as error:
            raise IntegrityError(str(error)) from error
    return data


def _fetch_signatures(source: Store, target: LocalStore) -> None:
    """Fetch the signatures that the store lists; they are checked by whoever names a key."""
    try:
        names = envelope_names(source)
    except InputError as error:
        if isinstance(error, IntegrityError):
            raise
        _log.warning("no signatures are fetched: %s", error)
        return
    for name in names:
        if _ENVELOPE.fullmatch(name) is not None and not target.exists(name):
            if source.size(name) > MAX_ENVELOPE_BYTES:
                raise IntegrityError(f"{source.location}/{name}: more than {MAX_ENVELOPE_BYTES} bytes")
            target.create(name, source.read(name))
