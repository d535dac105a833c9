"""Fetching a part of a published set: its rows, the proof that they are the set's, and their images out of the tars.

The part is a set of kind `view`, written by the same commits as any other, so a pull that was killed goes on.
"""

import dataclasses
import datetime
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.membership import prove_membership
from caskit.manifests.replica import Replica
from caskit.manifests.rows import ROW_SCHEMA
from caskit.manifests.sets import SetReference
from caskit.manifests.view import CLASSES, KEYS, View, Whole, chosen_ordinals, ordinals_of_keys
from caskit.shards.commit import commit_shard, committed_shards, describe_shard, shard_name, shard_path
from caskit.shards.freeze import freeze, read_unfrozen_origin
from caskit.shards.records import read_origin, read_replica
from caskit.shards.remote.attempts import again
from caskit.shards.remote.progress import Transfer, TransferConfig, TransferProgress, in_threads
from caskit.shards.remote.ranges import WASTE, Range, merge_ranges
from caskit.shards.remote.rows import chosen_rows, open_rows
from caskit.shards.sources.imagefolder import stored_extension
from caskit.shards.store import AlreadyExists, LocalStore, Store, open_store
from caskit.shards.verify import verify
from caskit.shards.writing import ShardWriter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Which samples of a set: `first-shards:K`; or `classes` or `keys`, with their names (labels or ids, or keys)."""

    select: str
    names: tuple[str, ...] = ()

    def resolved(self, origin: Whole) -> tuple[str, Mapping[int, Sequence[int]]]:
        """Return `select` as view.json has it, and the ordinals by label.

        Raises:
            InputError: the set has no such samples, or the part none.
        """
        select = self.select
        if select == KEYS:
            chosen = ordinals_of_keys(origin, self.names)
        else:
            if select == CLASSES:
                labels = sorted({_label_of(origin, name) for name in self.names})
                select = f"{CLASSES}:{','.join(map(str, labels))}"
            chosen = chosen_ordinals(origin, select)
        if not chosen:
            raise InputError(f"{select}: these are no samples at all")
        return select, chosen


def _label_of(origin: Whole, name: str) -> int:
    """Return the label that a number or a class id names; a number is a label. Raises InputError."""
    ids = origin.classes.ids
    if name.isdecimal() and name.isascii() and int(name) < len(ids):
        return int(name)
    if name in ids:
        return ids.index(name)
    raise InputError(f"class {name!a}: allowed are labels 0..{len(ids) - 1} and ids such as {ids[0]}")


def pull_part(
    reference: str,
    out: Path,
    part: Part,
    config: TransferConfig | None = None,
    *,
    waste: float = WASTE,
) -> Transfer:
    """Fetch some samples of a published set as a view of it; the same call again goes on.

    Args:
        reference: the whole set, `URL_OR_PATH[@sha256:prefix]`.
        out: the view's folder.
        part: which samples.
        config: how; files are the shards of the view, bytes those of images. See TransferConfig.
        waste: bytes beside the images that may come with them, as a share, so that requests are fewer.

    Raises:
        InputError: no such set or samples, or the folder holds something else.
        IntegrityError: what came is not the set's, however often it was read.
        NotFinished: the config's `stop` said so.
    """
    config = config or TransferConfig()
    if not 0 <= waste <= 1000:
        raise InputError(f"waste is {waste}, allowed: 0..1000")
    asked = SetReference.parse(reference)
    source, target = open_store(asked.location), LocalStore(out)
    replica = again(functools.partial(_read_parent, source, asked), asked.location)
    origin = again(lambda: read_origin(source, replica), asked.location)
    if isinstance(origin, View):
        raise InputError(f"{source.location}: is a view; take the part from the set that it is of")
    select, chosen = part.resolved(origin)
    row_source, _ = open_rows(source, replica, origin)
    parents = chosen_rows(row_source, chosen)
    _check_parents(source, parents, origin)
    view = View(
        parent=replica,
        origin=origin,
        select=select,
        histogram=tuple(len(chosen.get(label, ())) for label in range(len(origin.classes))),
        proof=tuple(prove_membership(origin.histogram, chosen, row_source.sample_hash, row_source.class_roots)),
    )
    size = view.samples_per_shard
    shards = [parents[start : start + size] for start in range(0, len(parents), size)]
    sizes = [sum(row["nbytes"] for row in rows) for rows in shards]
    done = _begin(target, view, create=not config.dry_run)
    moved = Transfer(
        source=source.location,
        location=target.location,
        replica_id=replica.replica_id,
        num_files=len(shards),
        num_bytes=sum(sizes),
        files_moved=len(shards) - len(done),
        bytes_moved=sum(n for shard, n in enumerate(sizes) if shard not in done),
    )
    if config.dry_run:
        return moved
    counts = [len(done), moved.num_bytes - moved.bytes_moved]
    for shard, rows in enumerate(shards):
        if shard in done:
            continue
        if config.stop():
            raise NotFinished(f"pull to {out}: stopped")
        _fetch_shard(source, target, view, shard, rows, waste=waste, workers=config.workers)
        counts[0], counts[1] = counts[0] + 1, counts[1] + sizes[shard]
        config.progress(
            TransferProgress(bytes_done=counts[1], num_bytes=sum(sizes), files_done=counts[0], num_files=len(shards))
        )
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    made = freeze(target, provenance={"parents": [replica.replica_id]}, created=created)
    verify(f"{out}@sha256:{made.replica_id}", "full", progress=config.verifying)
    return dataclasses.replace(moved, replica_id=made.replica_id)


def _read_parent(source: Store, asked: SetReference) -> Replica:
    replica = read_replica(source)
    asked.check(replica.replica_id)
    return replica


def _check_parents(source: Store, parents: list[dict[str, Any]], origin: Whole) -> None:
    """Check what no hash covers and the requests stand on: rows that lie can at most ask for other bytes of the set."""
    for row in parents:
        if row["shard"] >= origin.num_shards or not 0 < row["nbytes"] <= 2**28:
            raise IntegrityError(f"{source.location}: key {row['key']}: is said to be where no image can be")
    sample_ids = [row["sample_id"] for row in parents]
    if len(set(sample_ids)) != len(sample_ids):
        raise IntegrityError(f"{source.location}: two rows have one sample_id")


def _begin(target: LocalStore, view: View, *, create: bool) -> set[int]:
    """Make the folder this view's; returns the shards that it has. Raises InputError if it is another set's."""
    try:
        if create:
            target.create(View.FILE, view.to_bytes())
            return set()
        if not target.exists(View.FILE):
            return set()
    except AlreadyExists:
        pass
    there = read_unfrozen_origin(target)
    if there.origin_id != view.origin_id:
        raise InputError(f"{target.location}: holds another set or another part; use another folder")
    if target.exists("replica.json"):
        return set(range(view.num_shards))
    return committed_shards(target)


def _fetch_shard(
    source: Store,
    target: LocalStore,
    view: View,
    shard: int,
    parents: list[dict[str, Any]],
    *,
    waste: float,
    workers: int,
) -> None:
    """Fetch the images of one shard of the view, write its tar and commit it."""
    images = _fetch_images(source, parents, waste=waste, workers=workers)
    first = shard * view.samples_per_shard
    rows = []
    with target.scratch() as folder:
        path = folder / shard_name(shard)
        with ShardWriter(path) as writer:
            for index, (parent, image) in enumerate(zip(parents, images, strict=True)):
                extension = stored_extension(image)
                if extension is None:
                    raise IntegrityError(f"{source.location}: key {parent['key']}: is not a PNG, JPEG or WebP image")
                offset, nbytes = writer.add(parent["key"], parent["label"], image, extension)
                place = {"sample_id": first + index, "shard": shard, "index_in_shard": index}
                rows.append({**parent, **place, "tar_offset": offset, "nbytes": nbytes, "codes_sha256": None})
        table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
        info = describe_shard(
            path, table, shard=shard, plan_id=view.origin_id, environment_id="", written=writer.written
        )
        commit_shard(target, path, table, info, written=writer.written)


def _fetch_images(source: Store, parents: list[dict[str, Any]], *, waste: float, workers: int) -> list[bytes]:
    """Return the images of some rows, each held to its SHA-256."""
    images: list[bytes] = [b""] * len(parents)
    by_tar: dict[int, list[int]] = {}
    for place, row in enumerate(parents):
        by_tar.setdefault(row["shard"], []).append(place)
    requests: list[tuple[str, Range]] = []
    for shard, places in by_tar.items():
        offsets, lengths = ([parents[place][name] for place in places] for name in ("tar_offset", "nbytes"))
        for found in merge_ranges(offsets, lengths, waste=waste):
            inside = tuple((places[place], offset, length) for place, offset, length in found.images)
            requests.append((shard_path(shard), dataclasses.replace(found, images=inside)))

    def get(request: tuple[str, Range]) -> None:
        again(functools.partial(_read_range, source, parents, images, *request), source.location)

    for _ in in_threads(get, requests, workers=workers, stop=lambda: False, what="pull"):
        pass
    return images


def _read_range(source: Store, parents: list[dict[str, Any]], images: list[bytes], name: str, asked: Range) -> None:
    try:
        data = source.read(name, asked.start, asked.stop - asked.start)
    except FileNotFoundError:
        raise IntegrityError(f"{source.location}/{name}: is missing from the set") from None
    for place, offset, length in asked.images:
        image = data[offset - asked.start : offset - asked.start + length]
        if hashlib.sha256(image).digest() != parents[place]["image_sha256"]:
            key = parents[place]["key"]
            raise IntegrityError(f"{source.location}/{name}: key {key}: has other bytes than its row says")
        images[place] = image
