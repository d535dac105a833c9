"""Freezing: when every shard is committed, the rows become one manifest and the set gets its identity."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.merkle import MerkleTree
from caskit.manifests.origin import ORIGIN_FILES, ORIGINS, Origin
from caskit.manifests.packing import Packing
from caskit.manifests.plan import FORMAT_VERSION
from caskit.manifests.replica import Replica
from caskit.manifests.roots import ShardRecord, content_root_of, packing_root, rows_root
from caskit.manifests.rows import ROW_SCHEMA, canonical_rows, check_rows, manifest_order
from caskit.manifests.view import View
from caskit.shards import row_checks
from caskit.shards.code_checks import CodesCheck, check_codes_listing, due_sidecars
from caskit.shards.commit import CommitInfo, committed_shards, read_commit, shard_path
from caskit.shards.fault import MAX_FAULTS, BrokenSet
from caskit.shards.gather import Gathering
from caskit.shards.naming import naming
from caskit.shards.records import (
    Described,
    Heads,
    Records,
    iterate_manifest,
    read_manifest,
    read_packing,
    read_replica,
    read_shard_table,
)
from caskit.shards.scan import BATCH_ROWS, NO_FORM, Roots, scanned
from caskit.shards.shard_rows import HeldRows, key_behind
from caskit.shards.store import AlreadyExists, Store
from caskit.shards.tables import class_groups, shard_table, table_bytes, write_parquet
from caskit.shards.view_checks import check_view

_log = logging.getLogger(__name__)


def freeze(store: Store, *, provenance: Mapping[str, Any], created: str) -> Replica:
    """Give a set whose shards are all committed its identity; a frozen set is checked again and left as it is.

    The tars are not read again (each was when it was committed), their sizes are compared, and the footers of sidecars
    of codes are read. Several processes may freeze the same set.

    Args:
        store: the set.
        provenance: JSON values for provenance.json (versions, code commit, licence, parents).
        created: the time, ISO 8601; it goes to provenance.json only.

    Raises:
        NotFinished: shards are missing; the message counts them and names the first.
        InputError: no set is there.
        IntegrityError: commits, tars and plan do not agree, naming shard and key where one is at fault.
    """
    origin = read_unfrozen_origin(store)
    if store.exists("replica.json"):
        return _check_frozen(store, origin)
    described = Described(origin=origin, packing=read_packing(store, origin))
    _check_committed(store, described)
    with naming(store.location), store.scratch() as folder:
        frozen = _gather(store, described, folder)
        _create_equal(store, "shards.parquet", table_bytes(shard_table(frozen.shards)), frozen.shards)
        _create_manifest(store, frozen.manifest, frozen.replica)
    told = {"environment_ids": sorted(frozen.environments), **provenance, "created": created}
    _create_provenance(store, told)
    try:
        store.create("replica.json", frozen.replica.to_bytes())
    except AlreadyExists:
        _agree(store, frozen.replica, read_replica(store))
    return frozen.replica


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Gathered:
    """What the commits of a set come to.

    Attributes:
        replica: its identity.
        shards: the tars.
        manifest: a scratch file, manifest.parquet.
        environments: the environment classes that samples were drawn in.
    """

    replica: Replica
    shards: tuple[ShardRecord, ...]
    manifest: Path
    environments: frozenset[str]


def read_unfrozen_origin(store: Store) -> Origin:
    """Read the first record of a set of our own that need not be frozen. Raises InputError if there is none."""
    present = [kind for kind, name in ORIGIN_FILES.items() if store.exists(name)]
    if len(present) != 1:
        found = " and ".join(ORIGIN_FILES[kind] for kind in present) or "no set"
        raise InputError(f"{store.location}: holds {found}, a set has one of {', '.join(ORIGIN_FILES.values())}")
    where = f"{store.location}/{ORIGIN_FILES[present[0]]}"
    value = parse_canonical(store.read(ORIGIN_FILES[present[0]]), name=where)
    return ORIGINS[present[0]].from_json(value, name=where)


def gather_commits(store: Store, origin: Origin, packing: Packing | None) -> tuple[pa.Table, tuple[ShardRecord, ...]]:
    """Read all commits of a set: rows in manifest order, and the tars. Raises NotFinished or IntegrityError."""
    tables, shards, described = [], [], Described(origin=origin, packing=packing)
    _check_committed(store, described)
    for rows, info in _commits(store, described):
        tables.append(rows)
        shards.append(_shard_of(info, rows.num_rows))
    return in_order(tables), tuple(shards)


def _shard_of(info: CommitInfo, num_samples: int) -> ShardRecord:
    return ShardRecord(
        shard=info.shard,
        name=info.tar_name,
        num_samples=num_samples,
        size_bytes=info.tar_size,
        sha256=info.tar_sha256,
    )


def _check_committed(store: Store, described: Described) -> None:
    """Raise NotFinished if a shard is not committed, IntegrityError if one is too many."""
    committed, due = committed_shards(store), range(described.num_shards)
    missing = [shard for shard in due if shard not in committed]
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise NotFinished(
            f"{store.location}: {len(due) - len(missing)} of {len(due)} shards are committed, missing: {shown}"
        )
    if len(committed) > len(due):
        raise IntegrityError(f"{store.location}: shard {max(committed)} is committed, the set has {len(due)} shards")


def _commits(store: Store, described: Described) -> Iterator[tuple[pa.Table, CommitInfo]]:
    """Read the commits of a set one by one. Raises IntegrityError for one of another set, or that is damaged."""
    origin_id = described.origin.origin_id
    for shard in range(described.num_shards):
        rows, info = read_commit(store, shard)
        if info.plan_id != origin_id:
            raise IntegrityError(f"{store.location}: {info.tar_name} is committed for {info.plan_id}, not {origin_id}")
        yield rows, info


def _gather(store: Store, described: Described, folder: Path) -> _Gathered:
    """Read and check all commits, in memory that does not grow with their rows, and write the manifest.

    Where rows are wrong, or of a view, all of them are read together: what names the wrong ones needs that.
    """
    path = folder / "manifest.parquet"
    gathering = None if isinstance(described.origin, View) else Gathering(described, folder)
    shards, environments = [], set()
    for rows, info in _commits(store, described):
        shards.append(_shard_of(info, rows.num_rows))
        environments.add(info.environment_id)
        if gathering is None or not gathering.add(rows):
            gathering = None
            _log.info("%s: is a view, or has rows that are wrong; all are read together", store.location)
            break
    roots = None if gathering is None else gathering.finish(path)
    if roots is None:
        return _gather_held(store, described, path)
    _check_beside(store, described, shards, lambda shard: key_behind(read_commit(store, shard)[0], 0))
    return _Gathered(
        replica=_replica_of(described, roots, shards),
        shards=tuple(shards),
        manifest=path,
        environments=frozenset(environments - {""}),
    )


def _gather_held(store: Store, described: Described, path: Path) -> _Gathered:
    """Do what `_gather` does with all rows in memory. Raises BrokenSet naming rows that are wrong."""
    tables, shards, environments = [], [], set()
    for rows, info in _commits(store, described):
        tables.append(rows)
        shards.append(_shard_of(info, rows.num_rows))
        environments.add(info.environment_id)
    manifest = in_order(tables)
    replica = _identify(store, described, manifest, tuple(shards))
    with path.open("wb") as file:
        write_manifest(manifest, file)
    return _Gathered(replica=replica, shards=tuple(shards), manifest=path, environments=frozenset(environments - {""}))


def in_order(tables: list[pa.Table]) -> pa.Table:
    """Return the rows of some tables in manifest order; the list is emptied.

    Column by column, and each column is let go when it has been put in order, so that they are not held twice.
    """
    rows = pa.concat_tables(tables)
    tables.clear()
    order, columns = manifest_order(rows), []
    for name in ROW_SCHEMA.names:
        columns.append(rows.column(name).take(order).combine_chunks())
        rows = rows.drop_columns([name])
    return pa.Table.from_arrays(columns, schema=ROW_SCHEMA)


def _identify(store: Store, described: Described, manifest: pa.Table, shards: tuple[ShardRecord, ...]) -> Replica:
    """Check rows and tars against the record of origin, and return the set's identity."""
    origin = described.origin
    if not isinstance(origin, View):  # whose ordinals have gaps
        check_rows(manifest, origin.classes, name=store.location)
    roots = Roots(
        num_samples=manifest.num_rows,
        content_root=content_root_of(manifest, len(origin.classes)),
        rows_root=rows_root(manifest),
    )
    replica = _replica_of(described, roots, shards)
    records = Records(
        store=store, replica=replica, origin=origin, manifest=manifest, shards=shards, packing=described.packing
    )
    check = check_view if isinstance(origin, View) else row_checks.check_rows
    faults = list(itertools.islice(check(records), MAX_FAULTS))
    if faults:
        raise BrokenSet(store.location, faults)
    rows = HeldRows(records)
    _check_beside(store, described, shards, lambda shard: key_behind(rows.of(shard), 0))
    return replica


def _replica_of(described: Described, roots: Roots, shards: Sequence[ShardRecord]) -> Replica:
    return Replica(
        kind=described.origin.KIND,
        origin_sha256=described.origin.origin_id,
        num_samples=roots.num_samples,
        num_classes=len(described.classes),
        num_shards=len(shards),
        class_list_sha256=described.classes.digest,
        content_root=roots.content_root,
        rows_root=roots.rows_root,
        packing_root=packing_root(shards),
    )


def _check_beside(
    store: Store, described: Described, shards: Sequence[ShardRecord], first_key: Callable[[int], str | None]
) -> None:
    """Check sizes of tars, and sidecars of codes as far as their footers show; the rows are known to be right."""
    _check_tars(store, shards)
    faults = [*itertools.islice(check_codes_listing(store, described, first_key), MAX_FAULTS)]
    codes, sidecars = CodesCheck(store), due_sidecars(described.origin, described.num_shards)
    for shard in shards if sidecars else ():
        faults += codes.check_footer(shard.shard, shard.num_samples)
    if faults:
        raise BrokenSet(store.location, faults[:MAX_FAULTS])


def _check_tars(store: Store, shards: Sequence[ShardRecord]) -> None:
    present = set(store.names("shards/"))
    extra = sorted(present - {shard_path(shard.shard) for shard in shards})
    if extra:
        raise IntegrityError(f"{store.location}: {extra[0]} is not part of the set")
    for shard in shards:
        path = shard_path(shard.shard)
        if path not in present:
            raise IntegrityError(f"{store.location}: {path} is committed but missing")
        if store.size(path) != shard.size_bytes:
            raise IntegrityError(
                f"{store.location}: {path} has {store.size(path)} bytes, committed: {shard.size_bytes}"
            )


def _check_frozen(store: Store, origin: Origin) -> Replica:
    """Compute the identity of a frozen set again, from its manifest, since a published set has no commits."""
    frozen, described = read_replica(store), Described(origin=origin, packing=read_packing(store, origin))
    shards = read_shard_table(store)
    if (frozen.kind, frozen.origin_sha256) == (origin.KIND, origin.origin_id) and not isinstance(origin, View):
        heads = Heads(store=store, replica=frozen, origin=origin, packing=described.packing, shards=shards)
        with scanned(heads) as rows:
            if rows is not None:
                _check_beside(store, described, shards, lambda shard: key_behind(rows.of(shard), 0))
                return frozen
    _agree(store, _identify(store, described, read_manifest(store), shards), frozen)
    return frozen


def _agree(store: Store, ours: Replica, theirs: Replica) -> None:
    if ours != theirs:
        names = [name for name in ours.__dataclass_fields__ if getattr(ours, name) != getattr(theirs, name)]
        raise IntegrityError(f"{store.location}/replica.json: differs from the set in {', '.join(names)}")


def _create_equal(store: Store, name: str, data: bytes, shards: tuple[ShardRecord, ...]) -> None:
    try:
        store.create(name, data)
    except AlreadyExists:
        if read_shard_table(store) != shards:
            raise IntegrityError(
                f"{store.location}/{name}: is there and says something else than the commits"
            ) from None


def create_manifest(store: Store, manifest: pa.Table, replica: Replica) -> None:
    """Write manifest.parquet, or find one there with the rows that replica.json says. Raises IntegrityError."""
    with store.scratch() as folder:
        path = folder / "manifest.parquet"
        with path.open("wb") as file:
            write_manifest(manifest, file)
        _create_manifest(store, path, replica)


def _create_manifest(store: Store, path: Path, replica: Replica) -> None:
    try:
        store.create_from("manifest.parquet", path)
    except AlreadyExists:
        if _stored_rows_root(store) != replica.rows_root:
            raise IntegrityError(
                f"{store.location}/manifest.parquet: is there and says something else than the commits"
            ) from None


def _stored_rows_root(store: Store) -> str:
    tree = MerkleTree()
    for table in iterate_manifest(store, max_rows=BATCH_ROWS):
        try:
            tree.extend(canonical_rows(table))
        except NO_FORM as error:
            where = f"{store.location}/manifest.parquet"
            raise IntegrityError(f"{where}: is there, and a row has no canonical form ({error})") from error
    return tree.root().hex()


def write_manifest(manifest: pa.Table, file: BinaryIO) -> None:
    """Write rows in manifest order as manifest.parquet has them."""
    write_parquet(manifest, file, group_starts=class_groups(manifest.column("label").to_numpy()))


def _create_provenance(store: Store, provenance: dict[str, Any]) -> None:
    """Write provenance.json, unless an interrupted freeze did."""
    try:
        store.create("provenance.json", canonical_json({"format_version": FORMAT_VERSION, **provenance}))
    except AlreadyExists:
        return
