"""Freezing: when every shard is committed, the rows become one manifest and the set gets its identity."""

import itertools
from collections.abc import Mapping
from typing import Any, BinaryIO

import pyarrow as pa

from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.origin import ORIGIN_FILES, ORIGINS, Origin
from caskit.manifests.packing import Packing
from caskit.manifests.plan import FORMAT_VERSION
from caskit.manifests.replica import Replica
from caskit.manifests.roots import ShardRecord, content_root_of, packing_root, rows_root
from caskit.manifests.rows import ROW_SCHEMA, check_rows, manifest_order
from caskit.manifests.view import View
from caskit.shards import row_checks
from caskit.shards.code_checks import CodesCheck, check_codes_listing, due_sidecars
from caskit.shards.commit import CommitInfo, committed_shards, read_commit, shard_path
from caskit.shards.fault import MAX_FAULTS, BrokenSet
from caskit.shards.records import Records, read_manifest, read_packing, read_replica, read_shard_table
from caskit.shards.shard_rows import HeldRows, key_behind
from caskit.shards.store import AlreadyExists, Store
from caskit.shards.tables import class_groups, shard_table, table_bytes, write_parquet
from caskit.shards.view_checks import check_view


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
    packing = read_packing(store, origin)
    manifest, infos = _gather(store, origin, packing)
    shards = _shards_of(infos)
    replica = _identify(store, origin, manifest, shards, packing)
    _create_equal(store, "shards.parquet", table_bytes(shard_table(shards)), shards)
    create_manifest(store, manifest, replica)
    environments = sorted({info.environment_id for info, _ in infos} - {""})
    told = {"environment_ids": environments, **provenance, "created": created}
    _create_provenance(store, told)
    try:
        store.create("replica.json", replica.to_bytes())
    except AlreadyExists:
        _agree(store, replica, read_replica(store))
    return replica


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
    manifest, infos = _gather(store, origin, packing)
    return manifest, _shards_of(infos)


def _shards_of(infos: list[tuple[CommitInfo, int]]) -> tuple[ShardRecord, ...]:
    return tuple(
        ShardRecord(shard=i.shard, name=i.tar_name, num_samples=n, size_bytes=i.tar_size, sha256=i.tar_sha256)
        for i, n in infos
    )


def _gather(store: Store, origin: Origin, packing: Packing | None) -> tuple[pa.Table, list[tuple[CommitInfo, int]]]:
    """Read all commits: rows in manifest order, and each commit's info with its number of rows."""
    size = origin.samples_per_shard if packing is None else packing.samples_per_shard
    committed, due = committed_shards(store), range(-(-origin.num // size))
    missing = [shard for shard in due if shard not in committed]
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise NotFinished(
            f"{store.location}: {len(due) - len(missing)} of {len(due)} shards are committed, missing: {shown}"
        )
    if len(committed) > len(due):
        raise IntegrityError(f"{store.location}: shard {max(committed)} is committed, the set has {len(due)} shards")
    origin_id = origin.origin_id
    tables, infos = [], []
    for shard in due:
        rows, info = read_commit(store, shard)
        if info.plan_id != origin_id:
            raise IntegrityError(f"{store.location}: {info.tar_name} is committed for {info.plan_id}, not {origin_id}")
        tables.append(rows)
        infos.append((info, rows.num_rows))
    return in_order(tables), infos


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


def _identify(
    store: Store, origin: Origin, manifest: pa.Table, shards: tuple[ShardRecord, ...], packing: Packing | None
) -> Replica:
    """Check rows and tars against the record of origin, and return the set's identity."""
    if not isinstance(origin, View):  # whose ordinals have gaps
        check_rows(manifest, origin.classes, name=store.location)
    replica = Replica(
        kind=origin.KIND,
        origin_sha256=origin.origin_id,
        num_samples=manifest.num_rows,
        num_classes=len(origin.classes),
        num_shards=len(shards),
        class_list_sha256=origin.classes.digest,
        content_root=content_root_of(manifest, len(origin.classes)),
        rows_root=rows_root(manifest),
        packing_root=packing_root(shards),
    )
    records = Records(store=store, replica=replica, origin=origin, manifest=manifest, shards=shards, packing=packing)
    check = check_view if isinstance(origin, View) else row_checks.check_rows
    faults = list(itertools.islice(check(records), MAX_FAULTS))
    if faults:
        raise BrokenSet(store.location, faults)
    _check_tars(store, shards)
    rows = HeldRows(records)
    faults = [*itertools.islice(check_codes_listing(records, lambda shard: key_behind(rows.of(shard), 0)), MAX_FAULTS)]
    codes, sidecars = CodesCheck(store), due_sidecars(origin, records.num_shards)
    for shard, places in enumerate(row_checks.rows_by_shard(records) if sidecars else ()):
        faults += codes.check_footer(shard, len(places))
    if faults:
        raise BrokenSet(store.location, faults[:MAX_FAULTS])
    return replica


def _check_tars(store: Store, shards: tuple[ShardRecord, ...]) -> None:
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
    frozen = read_replica(store)
    replica = _identify(store, origin, read_manifest(store), read_shard_table(store), read_packing(store, origin))
    _agree(store, replica, frozen)
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
    try:
        with store.scratch() as folder:
            path = folder / "manifest.parquet"
            with path.open("wb") as file:
                write_manifest(manifest, file)
            store.create_from("manifest.parquet", path)
    except AlreadyExists:
        if rows_root(read_manifest(store)) != replica.rows_root:
            raise IntegrityError(
                f"{store.location}/manifest.parquet: is there and says something else than the commits"
            ) from None


def write_manifest(manifest: pa.Table, file: BinaryIO) -> None:
    """Write rows in manifest order as manifest.parquet has them."""
    write_parquet(manifest, file, group_starts=class_groups(manifest.column("label").to_numpy()))


def _create_provenance(store: Store, provenance: dict[str, Any]) -> None:
    """Write provenance.json, unless an interrupted freeze did."""
    try:
        store.create("provenance.json", canonical_json({"format_version": FORMAT_VERSION, **provenance}))
    except AlreadyExists:
        return
