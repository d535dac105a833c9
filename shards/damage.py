"""What is bad of a frozen set in a folder, and its records as they are due: from the folder, or from its mender.

The identity decides: replica.json by its replica_id, the records by the roots in it, every tar by its digest in
shards.parquet, codes by their rows.
"""

import dataclasses
import errno
import functools
import io
import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa

from caskit.manifests import index
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.origin import ORIGIN_FILES, Origin
from caskit.manifests.packing import Packing
from caskit.manifests.replica import Replica
from caskit.manifests.roots import ShardRecord, content_root_of, packing_root, rows_root
from caskit.manifests.rows import iterate_rows
from caskit.manifests.sets import SetReference
from caskit.manifests.view import View
from caskit.shards.code_checks import due_sidecars
from caskit.shards.codes import CodesFile, check_codes
from caskit.shards.commit import shard_path
from caskit.shards.digest import sha256_stored
from caskit.shards.fault import BrokenSet
from caskit.shards.freeze import gather_commits, read_unfrozen_origin, write_manifest
from caskit.shards.records import (
    Described,
    Records,
    read_manifest,
    read_origin,
    read_packing,
    read_records,
    read_replica,
    read_shard_table,
)
from caskit.shards.row_checks import check_rows
from caskit.shards.scan import shards_fit
from caskit.shards.shard_rows import HeldRows
from caskit.shards.store import LocalStore, Store
from caskit.shards.tables import shard_table, table_bytes
from caskit.shards.verify import check_roots
from caskit.shards.view_checks import check_view

LAST, SHARDS, MANIFEST = "replica.json", "shards.parquet", "manifest.parquet"
_NO_FORM = (ValueError, OverflowError, struct.error)  # of rows whose values no root can be taken over
T = TypeVar("T")


class Source(Protocol):
    """Where what is bad comes from again. Nothing that it gives is believed; `location` is for messages."""

    location: str

    def record(self, read: Callable[[Store], T], name: str) -> T:
        """Return what `read` reads of a record there. Raises InputError if the source has no records."""

    def tar(self, records: Records, shard: int, folder: Path) -> Path:
        """Write the tar of a shard into a folder."""

    def codes(self, records: Records, shard: int, folder: Path) -> Path:
        """Write the codes of a shard into a folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Damage:
    """What is bad of a set.

    Attributes:
        records: as they are due, `store` being the folder.
        writes: what bad records have to hold, by name; replica.json, if it is there, is the last one.
        tars, sidecars: shards whose tar, or codes, are bad.
        reasons: what is wrong with each bad file, by name.
        num_good: files of the set that are as they must be.
    """

    records: Records
    writes: dict[str, bytes]
    tars: tuple[int, ...]
    sidecars: tuple[int, ...]
    reasons: dict[str, str]
    num_good: int


def find_damage(
    target: LocalStore, asked: SetReference, source: Source, *, looked: Callable[[int, int], None] = lambda *_: None
) -> Damage:
    """Look at every file of a set.

    Args:
        target: the folder.
        asked: names the folder and, where replica.json is lost, the set that is due.
        source: of records that are bad here.
        looked: called with tars looked at and their number.

    Raises:
        InputError: no set there, another one, or none of this identity at the source.
        IntegrityError: the source's records are not the set's, or a file is a link or a device.
    """
    replica, reasons = _identity(target, asked, source)
    writes: dict[str, bytes] = {}
    records = _records(target, replica, source, writes, reasons)
    if LAST in reasons:
        writes[LAST] = replica.to_bytes()
    tars = []
    for tar in records.shards:
        if reason := _tar_damage(target, tar):
            tars.append(tar.shard)
            reasons[shard_path(tar.shard)] = reason
        looked(tar.shard + 1, len(records.shards))
    names, sidecars = due_sidecars(records.origin, records.num_shards), []
    for (name, shard), rows in zip(names.items(), HeldRows(records) if names else (), strict=True):
        if reason := _codes_damage(target, name, rows):
            sidecars.append(shard)
            reasons[name] = reason
    num_files = 4 + (records.packing is not None) + len(records.shards) + len(names) + target.exists(index.FILE)
    return Damage(
        records=records,
        writes=writes,
        tars=tuple(tars),
        sidecars=tuple(sidecars),
        reasons=reasons,
        num_good=num_files - len(reasons),
    )


def check_sidecar(path: Path, name: str, rows: pa.Table) -> None:
    """Hold a file of codes to its rows. Raises IntegrityError."""
    with path.open("rb") as file:
        check_codes(CodesFile(file, path.stat().st_size, name=name, max_rows=rows.num_rows), rows, name=name)


def _identity(target: LocalStore, asked: SetReference, source: Source) -> tuple[Replica, dict[str, str]]:
    """Return the replica that is due, and why the one that is there is not it."""
    there: Replica | None = None
    try:
        there = read_replica(target)
        asked.check(there.replica_id)
        return there, {}
    except InputError as error:
        reason = "another replica_id" if there is not None else "missing or damaged"
        if asked.prefix is None:
            raise InputError(
                f"{error}; if a set lies there whose {LAST} is lost, say which it is due to be: "
                f"{target.location}@sha256:ID"
            ) from None
    if there is not None and _agrees_with_itself(target):
        raise InputError(f"{target.location}: holds the set {there.replica_id}, and its records agree; it stays")
    replica = source.record(read_replica, LAST)
    if not replica.replica_id.startswith(asked.prefix):
        raise InputError(f"{source.location}: holds the set {replica.replica_id}, due is sha256:{asked.prefix}")
    for name in ORIGIN_FILES.values():
        if target.exists(name) and _is_of_another(target, name, replica):
            raise InputError(
                f"{target.location}: holds {name} of another set than {replica.replica_id}, so it stays; if that file "
                "is damaged as well, delete it"
            )
    return replica, {LAST: reason}


def _is_of_another(target: LocalStore, name: str, replica: Replica) -> bool:
    """Say whether a record of origin is whole and another set's."""
    try:
        there = read_unfrozen_origin(target)
    except InputError:
        return False
    return there.FILE == name and there.origin_id != replica.origin_sha256


def _agrees_with_itself(target: LocalStore) -> bool:
    try:
        return not check_roots(read_records(target.location))
    except (InputError, *_NO_FORM):
        return False


def _records(
    target: LocalStore, replica: Replica, source: Source, writes: dict[str, bytes], reasons: dict[str, str]
) -> Records:
    """Return the records that are due; what bad ones have to hold is added to `writes`."""

    def have(
        name: str, read: Callable[[Store], T], encode: Callable[[T], bytes], own: Callable[[], T | None] = lambda: None
    ) -> T:
        try:
            return read(target)
        except IntegrityError as error:
            text = str(error).removeprefix(f"{target.location}/").removeprefix(f"{target.location}: ")
            reasons[name] = text.removeprefix(f"{name}: ") if target.exists(name) else "missing"
        found = own()
        found = source.record(read, name) if found is None else found
        writes[name] = encode(found)
        return found

    origin = have(ORIGIN_FILES[replica.kind], lambda store: read_origin(store, replica), lambda o: o.to_bytes())
    packing = have(Packing.FILE, lambda store: _packing(store, replica, origin), _packing_bytes)
    committed = functools.cache(lambda: _committed(target, replica, origin, packing))
    size = Described(origin=origin, packing=packing).samples_per_shard
    shards = have(
        SHARDS,
        lambda store: _shards(store, replica, size),
        lambda found: table_bytes(shard_table(found)),
        lambda: (committed() or (None, None))[1],
    )
    manifest = have(
        MANIFEST, lambda store: _manifest(store, replica, origin), _manifest_bytes, lambda: (committed() or (None,))[0]
    )
    records = Records(store=target, replica=replica, origin=origin, manifest=manifest, shards=shards, packing=packing)
    faults = list(itertools.islice((check_view if isinstance(origin, View) else check_rows)(records), 1))
    if faults:  # the roots hold, so this is how the set was made
        raise BrokenSet(target.location, faults)
    if not isinstance(origin, View) and target.exists(index.FILE):
        due = index.make_index(iterate_rows(manifest), origin.histogram)
        if target.size(index.FILE) != len(due) or target.read(index.FILE) != due:
            writes[index.FILE], reasons[index.FILE] = due, "is not that of the rows"
    return records


def _packing(store: Store, replica: Replica, origin: Origin) -> Packing | None:
    packing = read_packing(store, origin)
    size = origin.samples_per_shard if packing is None else packing.samples_per_shard
    if -(-origin.num // size) != replica.num_shards:
        raise IntegrityError(f"{store.location}/{Packing.FILE}: does not give {replica.num_shards} shards")
    return packing


def _packing_bytes(packing: Packing | None) -> bytes:
    if packing is None:
        raise InputError(f"{Packing.FILE}: is there, and the set has none; delete it")
    return packing.to_bytes()


def _shards(store: Store, replica: Replica, samples_per_shard: int) -> tuple[ShardRecord, ...]:
    """Read the table of shards; the root covers neither their numbers and samples nor how a digest is spelled."""
    shards = read_shard_table(store)
    left = (replica.num_samples - shard * samples_per_shard for shard in range(len(shards)))
    samples_fit = [shard.num_samples for shard in shards] == [min(samples_per_shard, num) for num in left]
    if not shards_fit(shards) or not samples_fit or len(shards) != replica.num_shards:
        raise IntegrityError(f"{store.location}/{SHARDS}: has a row that is not the one that is due")
    if packing_root(shards) != replica.packing_root:
        raise IntegrityError(f"{store.location}/{SHARDS}: has other tars than {LAST} says")
    return shards


def _manifest(store: Store, replica: Replica, origin: Origin) -> pa.Table:
    table = read_manifest(store)
    try:
        roots = rows_root(table), content_root_of(table, len(origin.classes))
    except _NO_FORM as error:
        raise IntegrityError(f"{store.location}/{MANIFEST}: a row has no canonical form ({error})") from error
    if roots != (replica.rows_root, replica.content_root):
        raise IntegrityError(f"{store.location}/{MANIFEST}: has other rows than {LAST} says")
    return table


def _manifest_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    write_manifest(table, buffer)
    return buffer.getvalue()


def _committed(
    target: LocalStore, replica: Replica, origin: Origin, packing: Packing | None
) -> tuple[pa.Table, tuple[ShardRecord, ...]] | None:
    """Return rows and tars as the folder's own commits say, if they are all there and give the roots."""
    try:
        manifest, shards = gather_commits(target, origin, packing)
    except (InputError, NotFinished):
        return None
    roots = rows_root(manifest), content_root_of(manifest, len(origin.classes)), packing_root(shards)
    due = replica.rows_root, replica.content_root, replica.packing_root
    return (manifest, shards) if roots == due else None


def _tar_damage(target: LocalStore, shard: ShardRecord) -> str:
    """Say what is wrong with a tar; nothing if it is whole. Raises IntegrityError for a link or a device."""
    name = shard_path(shard.shard)
    try:
        size = target.size(name)
        if size != shard.size_bytes:
            return f"{size} bytes, {shard.size_bytes} are due"
        return "" if sha256_stored(target, name) == shard.sha256 else "other bytes"
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return "the disk cannot read it"


def _codes_damage(target: LocalStore, name: str, rows: pa.Table) -> str:
    path = target.local_path(name)
    assert path is not None, "a folder's files are local"
    try:
        check_sidecar(path, name, rows)
    except FileNotFoundError:
        return "missing"
    except IntegrityError as error:
        return str(error).removeprefix(f"{name}: ")
    return ""
