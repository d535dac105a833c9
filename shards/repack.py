"""The same samples in shards of another size, written by the same commits as any set: resumable, same content_root."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from caskit.manifests.codes import CodeLevel
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.origin import Origin
from caskit.manifests.packing import Packing
from caskit.manifests.plan import MAX_SAMPLES_PER_SHARD
from caskit.manifests.replica import Replica
from caskit.manifests.rows import iterate_rows
from caskit.manifests.view import View
from caskit.shards.card import write_card
from caskit.shards.code_checks import due_sidecars
from caskit.shards.codes import CodedSample, CodesWriter, array_of, open_codes
from caskit.shards.commit import committed_shards, shard_name
from caskit.shards.dataset import FrozenSet
from caskit.shards.finishing import commit_written
from caskit.shards.freeze import freeze
from caskit.shards.packing import placed
from caskit.shards.records import read_origin, read_packing, read_provenance
from caskit.shards.sources.imagefolder import stored_extension
from caskit.shards.store import AlreadyExists, Store, open_target, probe_create_only
from caskit.shards.writing import ShardWriter

# Of a set besides its identity, what is as true of the repacked one.
CARRIED = ("environment.json", "skipped.parquet")


def repack(
    source: FrozenSet,
    out: str,
    *,
    samples_per_shard: int,
    created: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> Replica:
    """Write a set's samples into shards of another size.

    The order of the samples stays, and so do their keys, bytes, streams and codes. Shards of the size that the plan
    says give the set that was packed so at first back, byte by byte; with any other size there is a packing.json.

    Args:
        source: an open set, whole.
        out: where to; what an interrupted call left there is gone on with.
        samples_per_shard: of the new shards.
        created: the time, ISO 8601, for provenance.json.
        progress: called with shards done and their number.
        stop: asked between shards.

    Raises:
        InputError: another set is there, or the source cannot be packed so.
        IntegrityError: an image is not the one that its row says.
        NotFinished: stopped on request; the same call goes on.
    """
    origin = read_origin(source.store, source.replica)
    if isinstance(origin, View):
        raise InputError(f"{source.store.location}: is a {source.replica.kind} set, repack the set it was taken from")
    if not 1 <= samples_per_shard <= MAX_SAMPLES_PER_SHARD:
        raise InputError(f"samples per shard: {samples_per_shard}, allowed: 1..{MAX_SAMPLES_PER_SHARD}")
    before = read_packing(source.store, origin)
    parent = source.replica.replica_id if before is None else before.parent
    home = samples_per_shard == origin.samples_per_shard
    store = open_target(out)
    probe_create_only(store)
    _claim(store, origin, None if home else Packing(parent=parent, samples_per_shard=samples_per_shard))
    table = placed(source.table, samples_per_shard)
    num_shards = -(-table.num_rows // samples_per_shard)
    done = committed_shards(store)
    for shard in range(num_shards):
        if stop():
            raise NotFinished(f"{out}: stopped with {len(done)} of {num_shards} shards committed")
        if shard not in done:
            _write_shard(source, origin, store, shard, table.slice(shard * samples_per_shard, samples_per_shard))
        done.add(shard)
        progress(len(done), num_shards)
    for name in CARRIED:
        if source.store.exists(name) and not store.exists(name):
            store.create(name, source.store.read(name))
    told = read_provenance(source.store)
    told = {name: value for name, value in told.items() if name not in ("format_version", "created")}
    replica = freeze(store, provenance={**told, "repacked_from": source.replica.replica_id}, created=created)
    assert replica.content_root == source.replica.content_root, "rows moved, their content did not"
    if home and replica.replica_id != parent:
        raise IntegrityError(f"{out}: is {replica.replica_id}, packing.json of the source says {parent}")
    write_card(store)
    return replica


def _claim(store: Store, origin: Origin, packing: Packing | None) -> None:
    """Write the first files of the set, or see that those of an earlier call are there."""
    due = {origin.FILE: origin.to_bytes()}
    if packing is not None:
        due = {Packing.FILE: packing.to_bytes(), **due}
    elif store.exists(Packing.FILE):
        raise InputError(f"{store.location}: holds a set in shards of another size; choose another folder")
    for name, data in due.items():
        try:
            store.create(name, data)
        except AlreadyExists:
            if store.read(name) != data:
                raise InputError(f"{store.location}: holds another set, its {name} differs") from None


def _write_shard(source: FrozenSet, origin: Origin, store: Store, shard: int, rows: pa.Table) -> None:
    with store.scratch() as folder:
        path, sidecar = folder / shard_name(shard), None
        with ShardWriter(path) as writer:
            for row in iterate_rows(rows.select(["key", "label", "sample_id", "tar_offset"])):
                image = source.read(row["sample_id"])
                extension = stored_extension(image)
                assert extension is not None, f"key {row['key']} passed a check of its format"
                offset, _ = writer.add(row["key"], row["label"], image, extension)
                assert offset == row["tar_offset"], f"key {row['key']} lies where its row says"
        if due_sidecars(origin, 1):
            sidecar = _write_codes(source, rows, folder / f"codes-{shard:06d}.parquet")
        assert writer.written is not None, "the tar is closed"
        commit_written(store, path, rows, writer.written, shard=shard, plan_id=origin.origin_id, codes=sidecar)


def _write_codes(source: FrozenSet, rows: pa.Table, path: Path) -> Path:
    """Write the codes of some consecutive samples."""
    writer: CodesWriter | None = None
    for levels, sample in _codes_of(source, rows.column("sample_id")[0].as_py(), rows.num_rows):
        writer = writer or CodesWriter(path, levels)
        writer.add(sample.key, {level.name: array_of(level, m) for level, m in zip(levels, sample.maps, strict=True)})
    assert writer is not None, "a shard has samples"
    writer.close()
    return path


def _codes_of(source: FrozenSet, start: int, num: int) -> Iterator[tuple[tuple[CodeLevel, ...], CodedSample]]:
    """Yield levels and codes of samples `start <= sample_id < start + num`."""
    table = source.table.slice(start, num).select(["shard", "index_in_shard"])
    shards, places = table.column("shard").to_numpy(), table.column("index_in_shard").to_numpy()
    for shard in range(int(shards[0]), int(shards[-1]) + 1):
        wanted = set(places[shards == shard].tolist())
        with open_codes(source.store, shard, max_rows=MAX_SAMPLES_PER_SHARD) as codes:
            for place, sample in enumerate(codes):
                if place in wanted:
                    yield codes.levels, sample
