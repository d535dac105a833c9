"""The parent of a repacked set, computed from the repacked one: what packing.json says has not to be believed."""

import hashlib
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from caskit.manifests.replica import Replica
from caskit.manifests.roots import ShardRecord, packing_root, rows_root
from caskit.manifests.rows import iterate_rows
from caskit.shards.commit import shard_name, shard_path
from caskit.shards.fault import Fault
from caskit.shards.records import Records
from caskit.shards.sources.imagefolder import stored_extension
from caskit.shards.store import Store
from caskit.shards.tar import LABEL_EXTENSION, canonical_header, layout, padded, tar_size


def placed(table: pa.Table, samples_per_shard: int) -> pa.Table:
    """Return rows with the places that shards of a size give their samples; all else stays.

    Args:
        table: rows of a whole set in the order of sample_id.
        samples_per_shard: at least 1.
    """
    sample_ids, nbytes = np.arange(table.num_rows), table.column("nbytes").to_numpy()
    offsets = [layout(nbytes[start : start + samples_per_shard])[0] for start in sample_ids[::samples_per_shard]]
    places = {
        "shard": sample_ids // samples_per_shard,
        "index_in_shard": sample_ids % samples_per_shard,
        "tar_offset": np.concatenate(offsets),
    }
    for name, values in places.items():
        column = table.schema.get_field_index(name)
        table = table.set_column(column, table.schema.field(column), pa.array(values, pa.int64()))
    return table


def parent_of(records: Records, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Replica:
    """Compute the replica.json of the same samples in shards of the size that the record of origin says.

    Args:
        records: of a set that passed a full check.
        progress: called with shards done and their number.
    """
    size = records.origin.samples_per_shard
    table = records.manifest.sort_by("sample_id")
    shards = []
    for shard in range(records.origin.num_shards):
        rows = table.slice(shard * size, size)
        digest, num_bytes = hashlib.sha256(), 0
        for block in tar_blocks(records.store, rows):
            digest.update(block)
            num_bytes += len(block)
        shards.append(
            ShardRecord(
                shard=shard,
                name=shard_name(shard),
                num_samples=rows.num_rows,
                size_bytes=num_bytes,
                sha256=digest.hexdigest(),
            )
        )
        progress(shard + 1, records.origin.num_shards)
    home = placed(table, size).sort_by([("label", "ascending"), ("ordinal", "ascending")])
    fields = {name: getattr(records.replica, name) for name in records.replica.__dataclass_fields__}
    changed = {"num_shards": len(shards), "rows_root": rows_root(home), "packing_root": packing_root(shards)}
    return Replica(**{**fields, **changed})


def tar_blocks(store: Store, rows: pa.Table) -> Iterator[bytes]:
    """Yield the bytes of the one tar that holds some samples, which are read where their rows say."""
    end = 0
    columns = ["key", "label", "shard", "tar_offset", "nbytes"]
    for row in iterate_rows(rows.select(columns)):
        image = store.read(shard_path(row["shard"]), row["tar_offset"], row["nbytes"])
        for extension, data in ((LABEL_EXTENSION, b"%d" % row["label"]), (stored_extension(image), image)):
            block = canonical_header(f"{row['key']}.{extension}".encode(), len(data))
            block += data.ljust(padded(len(data)), b"\0")
            end += len(block)
            yield block
    yield bytes(tar_size(end) - end)


def check_parent(records: Records, *, progress: Callable[[int, int], None]) -> list[Fault]:
    """Compare what packing.json says with the parent that the samples give; they are known to be whole."""
    if records.packing is None:
        return []
    parent = parent_of(records, progress=progress).replica_id
    if parent == records.packing.parent:
        return []
    message = f"parent is {records.packing.parent}, these samples packed as {records.origin.FILE} says are {parent}"
    return [Fault(file=records.packing.FILE, message=message)]


def largest_shard(nbytes: np.ndarray, max_bytes: int) -> int:
    """Return how many samples a shard may hold for no tar to be larger than `max_bytes`; 0 if one alone is.

    Args:
        nbytes: of every image, [N] int64 by sample_id.
        max_bytes: of a tar.
    """

    def fits(size: int) -> bool:
        return all(layout(nbytes[start : start + size])[1] <= max_bytes for start in range(0, len(nbytes), size))

    # One sample more may move a shard's border past a large one, so sizes are tried downwards from the mean's.
    mean = layout(nbytes)[1] / len(nbytes)
    first = min(len(nbytes), int(2 * max_bytes / mean) + 1)
    step = max(1, first // 4096)
    return next((size for size in itertools.chain(range(first, 1, -step), (1,)) if fits(size)), 0)
