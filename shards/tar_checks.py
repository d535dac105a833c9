"""What the tars of a set must be, given its rows: which there are, every byte of them, and the images inside."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from caskit.manifests.errors import IntegrityError
from caskit.manifests.imported import Import
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.view import View
from caskit.shards.buckets import Buckets
from caskit.shards.codecs import UndecodableImage, decode, fits
from caskit.shards.commit import shard_name, shard_path
from caskit.shards.fault import MAX_FAULTS, Fault
from caskit.shards.records import Heads, Records
from caskit.shards.row_checks import numbers, rows_by_shard
from caskit.shards.shard_rows import ShardRows, key_behind
from caskit.shards.sources.imagefolder import stored_extension
from caskit.shards.store import Store, names_there
from caskit.shards.tar import Sample, layout, read_samples

_COLUMNS = ["key", "label", "tar_offset", "nbytes", "image_sha256", "index_in_shard"]
_THREADS = 2
_BUCKETS = 256  # of digests, by their first byte


def check_shard_table(records: Records) -> Iterator[Fault]:
    """Yield where shards.parquet is not what the rows give."""
    names = [record.name for record in records.shards]
    expected = [shard_name(shard) for shard in range(records.num_shards)]
    if names != expected:
        wrong = next((n for n, e in itertools.zip_longest(names, expected) if n != e), None)
        due = next((e for n, e in itertools.zip_longest(names, expected) if n != e), None)
        yield Fault(file="shards.parquet", shard=due, message=f"row for {due} is due, found {wrong!a}")
        return
    nbytes = numbers(records, "nbytes")
    for shard, (record, rows) in enumerate(zip(records.shards, rows_by_shard(records), strict=True)):
        due_row = {"shard": shard, "num_samples": len(rows), "size_bytes": layout(nbytes[rows])[1]}
        for field, value in due_row.items():
            if getattr(record, field) != value:
                message = f"{field} is {getattr(record, field)}, the rows give {value}"
                yield Fault(file="shards.parquet", shard=record.name, message=message)
        if len(record.sha256) != 64 or set(record.sha256) - set("0123456789abcdef"):
            yield Fault(file="shards.parquet", shard=record.name, message="sha256 is not 64 lower-case hex digits")


def check_listing(heads: Heads, rows: ShardRows) -> Iterator[Fault]:
    """Yield tars that are missing or too many."""
    due = {shard_path(shard): shard for shard in range(heads.num_shards)}
    present = names_there(heads.store, "shards/", due)
    for name in sorted(present - set(due)):
        yield Fault(file=name if name.isprintable() else ascii(name), message="an extra file, no shard of this set")
    for name, shard in due.items():
        if name not in present:
            yield _missing(name, rows.of(shard))


def _missing(name: str, rows: pa.Table) -> Fault:
    return Fault(file=name, key=key_behind(rows, 0), message="is missing, with this key and all after it")


def check_sizes(heads: Heads, rows: ShardRows) -> Iterator[Fault]:
    """Yield tars of another size; what reading them shows is more exact."""
    present = names_there(heads.store, "shards/", (shard_path(record.shard) for record in heads.shards))
    for record in heads.shards:
        name = shard_path(record.shard)
        size = heads.store.size(name) if name in present else record.size_bytes
        if size != record.size_bytes:
            key = key_behind(rows.of(record.shard), size)
            reason = "" if key is None else "; this key lies behind its end"
            yield Fault(file=name, key=key, message=f"has {size} bytes, must have {record.size_bytes}{reason}")


def check_tar(heads: Heads, shard: int, rows: pa.Table) -> Iterator[Fault]:
    """Read one tar from end to end and yield where it does not agree with its rows and its digest.

    Args:
        heads: the set's heads.
        shard: the tar's number.
        rows: its rows, ordered by index_in_shard.
    """
    name = shard_path(shard)
    due = {row["key"]: row for row in rows.select(_COLUMNS).to_pylist()}
    digest = hashlib.sha256()
    faults: list[Fault] = []
    try:
        with heads.store.open(name) as file:
            for index, sample in enumerate(read_samples(file, name=name, digest=digest)):
                reason = _sample_fault(due.pop(sample.key, None), sample, index)
                if reason is not None and len(faults) < MAX_FAULTS:
                    faults.append(Fault(file=name, key=sample.key, message=reason))
    except FileNotFoundError:
        yield _missing(name, rows)  # as check_listing says it, or it was there when that looked
        return
    except IntegrityError as error:
        yield from faults
        lost = min(due.values(), key=lambda row: int(row["index_in_shard"]), default=None)
        key = None if lost is None else lost["key"]
        reason = str(error)
        for known in (f"{heads.store.location}: ", f"{name}: ", f"{name} ", f"key {key}: "):
            reason = reason.removeprefix(known)
        unread = "" if lost is None else "; this key is the first not read"
        yield Fault(file=name, key=key, message=reason + unread)
        return
    faults += [Fault(file=name, key=key, message="has a row, is not in the tar") for key in due]
    other = next((s.name for s in heads.shards if s.sha256 == digest.hexdigest() and s.shard != shard), None)
    if faults and other is not None:
        faults = [Fault(file=name, key=key_behind(rows, 0), message=f"holds the bytes of {other}")]
    yield from faults
    stated = heads.shards[shard].sha256 if shard < len(heads.shards) else ""
    if not faults and digest.hexdigest() != stated:
        message = f"sha256 is {stated!a}, but the tar agrees with every row and has {digest.hexdigest()}"
        yield Fault(file="shards.parquet", shard=shard_name(shard), message=message)


def _sample_fault(row: dict[str, Any] | None, sample: Sample, index: int) -> str | None:
    if row is None:
        return "is in the tar, has no row"
    if sample.label != row["label"]:
        return f"label is {sample.label} in the tar, {row['label']} in its row"
    if (sample.payload_offset, len(sample.image)) != (row["tar_offset"], row["nbytes"]):
        found, due = f"{len(sample.image)} bytes at {sample.payload_offset}", f"{row['nbytes']} at {row['tar_offset']}"
        return f"image of {found}, its row says {due}"
    if hashlib.sha256(sample.image).digest() != row["image_sha256"]:
        return "the image's bytes are not those whose SHA-256 its row holds"
    if index != row["index_in_shard"]:
        return f"is sample {index} of the tar, its row says {row['index_in_shard']}"
    if stored_extension(sample.image) != sample.extension:
        return f"is named .{sample.extension}, its bytes are of another format"
    return None


class PixelCheck:
    """Decodes every image of a set and compares it with its row; counts images whose pixels are another's.

    Of each image the first 16 bytes of its pixel digest are kept, put aside by the first of them. A context manager.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._digests = Buckets(np.dtype([("high", ">u8"), ("low", ">u8")]), _BUCKETS)

    def __enter__(self) -> Self:
        self._digests.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._digests.__exit__(kind, error, trace)

    @property
    def num_duplicates(self) -> int:
        """How many images have the size and the pixels of an earlier one."""
        found = 0
        for bucket in range(_BUCKETS):
            digests = self._digests.read(bucket)
            found += len(digests) - len(np.unique(digests.view(">u8").reshape(-1, 2), axis=0))
        return found

    def check_shard(self, shard: int, rows: pa.Table) -> Iterator[Fault]:
        """Yield the faults of one shard's images."""
        columns = ["key", "tar_offset", "nbytes", "width", "height"]
        columns += ["pixel_sha256"] if "pixel_sha256" in rows.schema.names else []
        samples = rows.select(columns).to_pylist()
        name = shard_path(shard)
        check = image_check(self._heads.store, name, self._heads.origin)
        found = []
        with ThreadPoolExecutor(_THREADS) as pool:
            for sample, (reason, digest) in zip(samples, pool.map(check, samples), strict=True):
                found.append(digest[:16])
                if reason is not None:
                    yield Fault(file=name, key=sample["key"], message=reason)
        digests = np.frombuffer(b"".join(found), dtype=[("high", ">u8"), ("low", ">u8")])
        self._digests.add(digests, digests["high"] // 2**56)


def image_check(store: Store, name: str, origin: object) -> Callable[[dict[str, Any]], tuple[str | None, bytes]]:
    """Return a function from a row to what is wrong with its image, or None, and a digest of its pixels."""
    origin = origin.origin if isinstance(origin, View) else origin
    channels = origin.channels if isinstance(origin, Plan | Reconstruction | Import) else None
    converts = isinstance(origin, Import)  # stores the input's own bytes, which may spell the same pixels otherwise

    def check(row: dict[str, Any]) -> tuple[str | None, bytes]:
        data = store.read(name, row["tar_offset"], row["nbytes"])
        try:
            extension = stored_extension(data)
            if extension is None:
                return "is not a PNG, JPEG or WebP image", bytes(32)
            own = decode(data, extension=extension)
            # WebP has no grey, so a grey image comes back in three equal channels.
            convert = channels is not None and (extension == "webp" or (converts and fits(own, channels)))
            pixels = decode(data, extension=extension, channels=channels) if convert else own
        except UndecodableImage as error:
            return str(error), bytes(32)
        digest = hashlib.sha256(pixels.tobytes()).digest()
        height, width, own_channels = pixels.shape
        if (width, height) != (row["width"], row["height"]):
            return f"image is {width}x{height}, its row says {row['width']}x{row['height']}", digest
        if channels is not None and own_channels != channels:
            return f"image has {own_channels} channels, the set has {channels}", digest
        if row.get("pixel_sha256") is not None and digest != row["pixel_sha256"]:
            return "the decoded pixels are not those whose SHA-256 its row holds", digest
        return None, hashlib.sha256(str(pixels.shape).encode() + digest).digest()

    return check
