"""A frozen set, opened: checked once in full, then read by sample at the cost of one `pread` and, once, one digest."""

import copy
import functools
import hashlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import pyarrow as pa

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.imported import CHANNELS, ORIGINAL, Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.replica import Replica
from caskit.manifests.sets import ALL, SetExpression, SetReference, Source
from caskit.manifests.view import View
from caskit.shards.checked import CheckedRows
from caskit.shards.codecs import UndecodableImage, decode
from caskit.shards.commit import shard_path
from caskit.shards.descriptors import Descriptor, OpenFiles
from caskit.shards.plain import decode_plain
from caskit.shards.receipt import has_receipt, stamps_before_check, write_receipt
from caskit.shards.records import Records, read_records, read_replica
from caskit.shards.sources.imagefolder import stored_extension
from caskit.shards.store import Store, open_store
from caskit.shards.verify import VerifyProgress, verify_records

MAX_ARRAY_BYTES = 8 * 2**30
_THREADS = 2
_CHUNK = 256


def open_set(
    reference: str | SetReference,
    *,
    verify: bool = True,
    progress: Callable[[VerifyProgress], None] = lambda _: None,
) -> "FrozenSet":
    """Open a frozen set for reading, after a full check or by the receipt of one.

    Args:
        reference: `PATH_OR_URL[@sha256:prefix]`; what a URL names is fetched into the cache first, checked.
        verify: False leaves out the check of tars and roots. Only for showing what is known to be unchecked.
        progress: called while the set is checked.

    Raises:
        InputError: no frozen set there, or another one than the reference asks for.
        IntegrityError: the set is not what its records say.
    """
    reference = SetReference.parse(reference) if isinstance(reference, str) else reference
    if "://" in reference.location:
        from caskit.shards.remote.mirror import fetched  # it stands on this module

        reference = fetched(reference, progress)
    store = open_store(reference.location)
    replica = read_replica(store)
    reference.check(replica.replica_id)
    stamps = stamps_before_check(store, replica.kind) if verify else None
    records = read_records(reference)
    if verify and not has_receipt(store, replica, stamps):
        verify_records(records, "full", progress=progress)
        write_receipt(store, replica, stamps)
    return FrozenSet(records)


class FrozenSet:
    """The samples of a frozen set in sample_id order. Thread-safe; may be pickled and used after a fork.

    Attributes:
        store, replica, classes: as stored.
        kind: what its images are; of a view, what those of the set are that it is a part of.
        plan, ingest, reconstruction, imported: one of them, by kind.
        split: of a real set, or of the one that was reconstructed; None for others.
        table: the rows, sorted by sample_id.
        labels: [N] int64.
    """

    def __init__(self, records: Records) -> None:
        origin = records.origin.origin if isinstance(records.origin, View) else records.origin
        self._divisible = not isinstance(records.origin, View) and isinstance(origin, Plan | Import)
        self.store: Store = records.store
        self.replica: Replica = records.replica
        self.classes: ClassList = origin.classes
        self.kind: str = origin.KIND
        self.plan: Plan | None = origin if isinstance(origin, Plan) else None
        self.ingest: Ingest | None = origin if isinstance(origin, Ingest) else None
        self.reconstruction: Reconstruction | None = origin if isinstance(origin, Reconstruction) else None
        self.imported: Import | None = origin if isinstance(origin, Import) else None
        real = self.ingest if self.reconstruction is None else self.reconstruction.parent
        self.split: str | None = None if real is None else real.split
        self.table: pa.Table = records.manifest.sort_by("sample_id")
        columns = {name: self.table.column(name).to_numpy() for name in ("label", "shard", "tar_offset", "nbytes")}
        self.labels: np.ndarray = columns["label"]
        self._places = columns
        self._digests = b"".join(self.table.column("image_sha256").to_pylist())  # 32 bytes each
        self._files = OpenFiles(self.store)
        self._checked = CheckedRows(len(self.labels))
        self._select = ALL

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"FrozenSet({self.store.location!r}, {len(self)} samples, replica_id {self.replica.replica_id})"

    @functools.cached_property
    def keys(self) -> list[str]:
        """Every sample's key."""
        return cast(list[str], self.table.column("key").to_pylist())

    @property
    def expression(self) -> SetExpression:
        """What a result records about its data: all samples of this set, or those of its first shards, once."""
        return SetExpression(sources=(Source(replica_id=self.replica.replica_id, select=self._select),))

    def first_shards(self, num: int) -> "FrozenSet":
        """Return the samples of the first `num` shards of a synthetic or imported set: what a smaller one had been.

        Its classes are as even as a prefix can have them (docs/format.md, 2.1), which is not so in other sets.

        Raises:
            InputError: the set is of another kind, or has fewer shards.
        """
        shards, location, total = self._places["shard"], self.store.location, self.num_shards
        self._check_divisible()
        if not 1 <= num <= total:
            raise InputError(f"{location}: has {total} shards, the first {num} were asked for; allowed: 1..{total}")
        if num == total:
            return self
        end = int(np.count_nonzero(shards < num))
        assert (shards[:end] < num).all(), "sample_ids count through the shards"
        return self._first(end, f"first-shards:{num}")

    def share(self, share: float) -> "FrozenSet":
        """Return the first samples of a synthetic or imported set, a share of them rounded to a whole number.

        In a replica their classes are as even as those of the whole, within one sample and what a last block lacks.

        Raises:
            InputError: the set is of another kind, or the share leaves nothing or is more than 1.
        """
        self._check_divisible()
        num = round(share * len(self)) if 0 < share <= 1 else 0
        if num == 0:
            raise InputError(f"{self.store.location}: a share of {share:g} of {len(self)} samples, allowed: up to 1")
        return self if num == len(self) else self._first(num, f"first:{num}")

    def selected(self, select: str) -> "FrozenSet":
        """Return what a source of a set expression selects. Raises InputError if this set has no such samples."""
        if select == ALL:
            return self
        checked = Source(replica_id=self.replica.replica_id, select=select)
        kind, _, number = checked.select.partition(":")
        if kind == "first-shards":
            return self.first_shards(int(number))
        self._check_divisible()
        if int(number) >= len(self):
            raise InputError(f"{self.store.location}: has {len(self)} samples, the first {number} were asked for")
        return self._first(int(number), select)

    def _check_divisible(self) -> None:
        if not self._divisible:
            raise InputError(
                f"{self.store.location}: a {self.replica.kind} set is used whole, its first samples need not be of all "
                "classes"
            )

    def _first(self, end: int, select: str) -> "FrozenSet":
        part = copy.copy(self)
        part.__dict__.pop("keys", None)
        part.table, part.labels = self.table.slice(0, end), self.labels[:end]
        part._places = {name: column[:end] for name, column in self._places.items()}
        part._digests = self._digests[: 32 * end]
        part._select = select
        return part

    @property
    def num_shards(self) -> int:
        """Shards that the samples lie in."""
        return int(self._places["shard"].max()) + 1

    @property
    def shard_ends(self) -> list[int]:
        """How many samples the first shard holds, the first two, ..., all."""
        counts = np.bincount(self._places["shard"], minlength=self.num_shards)
        ends: list[int] = np.cumsum(counts).tolist()
        return ends

    @functools.cached_property
    def channels(self) -> int:
        """Channels of every image that `image` and `arrays` return.

        What its record says, if it does; else those of the first image for pixels that ingest encoded. A set of the
        input's own files may mix grey, colour and transparency; it is read as RGB, as torchvision and timm
        read folders.
        """
        made = self.plan or self.reconstruction or self.imported
        if made is not None:
            return made.channels
        assert self.ingest is not None, "a set has a record of origin"
        stated, original = self.ingest.codec.get("channels"), self.ingest.codec.get("name") == ORIGINAL
        if stated in CHANNELS:
            return int(stated)
        return 3 if original else int(self._decode(0, None).shape[2])

    def read(self, sample_id: int) -> bytes:
        """Return one image's stored bytes. Raises IntegrityError if they are not those of the manifest."""
        shard, offset, nbytes = (int(self._places[name][sample_id]) for name in ("shard", "tar_offset", "nbytes"))
        name = shard_path(shard)
        try:
            data = self._files.read(name, offset, nbytes)
        except FileNotFoundError:
            raise self._gone(sample_id) from None
        self._check_digest(sample_id, data)
        return data

    def _check_digest(self, sample_id: int, data: bytes) -> None:
        start = 32 * (sample_id % len(self))
        if hashlib.sha256(data).digest() != self._digests[start : start + 32]:
            raise self._damaged(
                sample_id,
                "the image's bytes are not those whose SHA-256 its row holds; they changed after the set was opened",
            )

    def _gone(self, sample_id: int) -> IntegrityError:
        name = shard_path(int(self._places["shard"][sample_id]))
        return IntegrityError(f"{self.store.location}/{name}: is gone, holds key {self._key(sample_id)}")

    def rows(self, ids: np.ndarray) -> list[bytes]:
        """Return the stored bytes of some samples, [n] int64.

        A digest is computed when a row is first read, and again once its tar was touched (`CheckedRows`); `read`
        computes it every time.

        Raises:
            IntegrityError: bytes are not those of the manifest.
        """
        shards = self._places["shard"][ids]
        used, inverse = np.unique(shards, return_inverse=True)
        files = [self._file(shard, ids) for shard in used.tolist()]
        while True:
            held = [file for file in files if file is not None]
            if len(held) < len(files):  # not on this machine
                return [self.read(sample_id) for sample_id in ids.tolist()]
            versions = self._versions(used, held)
            rows = self._read_rows(ids, versions[inverse], [held[place].number for place in inverse.tolist()])
            if np.array_equal(versions, self._versions(used, held)):  # else a tar was touched while it was read
                return rows

    def _file(self, shard: int, ids: np.ndarray) -> Descriptor | None:
        try:
            return self._files.open(shard_path(shard))
        except FileNotFoundError:
            first = int(ids[self._places["shard"][ids] == shard][0])
            raise self._gone(first) from None

    def _versions(self, shards: np.ndarray, files: list[Descriptor]) -> np.ndarray:
        pairs = zip(shards.tolist(), files, strict=True)
        return np.array([self._checked.version(shard, file.number) for shard, file in pairs], dtype=np.uint32)

    def _read_rows(self, ids: np.ndarray, versions: np.ndarray, numbers: list[int]) -> list[bytes]:
        offsets, sizes = (self._places[name][ids].tolist() for name in ("tar_offset", "nbytes"))
        rows = list(map(os.pread, numbers, sizes, offsets))
        for place in self._checked.unchecked(ids, versions):
            sample_id = int(ids[place])
            self._check_digest(sample_id, rows[place])
            self._checked.add(sample_id, int(versions[place]))
        return rows

    def image(self, sample_id: int) -> np.ndarray:
        """Return one image, [H, W, C] uint8 with the channels of the set."""
        return self._decode(sample_id, self.channels)

    def decoded(self, sample_id: int, row: bytes) -> np.ndarray:
        """Return what `image` does, perhaps read-only, from the sample's bytes that `rows` gave."""
        pixels = decode_plain(row, self.channels)
        return self._decode_row(sample_id, row, self.channels) if pixels is None else pixels

    def expect(self, ids: np.ndarray) -> None:
        """Tell the system that some samples are read soon, [n] int64, so that it fetches runs of them at once."""
        ids = np.unique(ids)
        shards, starts = (self._places[name][ids] for name in ("shard", "tar_offset"))
        ends = starts + self._places["nbytes"][ids]
        breaks = np.flatnonzero((np.diff(ids) > 1) | (np.diff(shards) != 0)) + 1
        for first, last in zip([0, *breaks.tolist()], [*(breaks - 1).tolist(), len(ids) - 1], strict=True):
            file = self._file(int(shards[first]), ids)
            if file is not None:
                file.expect(int(starts[first]), int(ends[last]))

    @property
    def stored_bytes(self) -> int:
        """What the samples' stored bytes take together."""
        return int(self._places["nbytes"].sum())

    def arrays(self, *, max_bytes: int = MAX_ARRAY_BYTES) -> tuple[np.ndarray, np.ndarray]:
        """Decode the whole set.

        Args:
            max_bytes: what the images may take.

        Returns:
            images [N, H, W, C] uint8 and labels [N] int64, by sample_id.

        Raises:
            InputError: images differ in size, or take more than max_bytes.
        """
        height, width = (self._only(name) for name in ("height", "width"))
        shape = (len(self), height, width, self.channels)
        num_bytes = math.prod(shape)
        if num_bytes > max_bytes:
            raise InputError(f"{self.store.location}: the decoded set takes {num_bytes} bytes, {max_bytes} are allowed")
        images = np.empty(shape, dtype=np.uint8)

        def fill(start: int) -> None:
            for sample_id in range(start, min(start + _CHUNK, len(self))):
                pixels = self.image(sample_id)
                if pixels.shape != shape[1:]:
                    raise self._damaged(
                        sample_id, f"image of {pixels.shape[1]}x{pixels.shape[0]}, not {width}x{height}"
                    )
                images[sample_id] = pixels

        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(fill, range(0, len(self), _CHUNK)):
                pass
        return images, self.labels.copy()

    def _only(self, column: str) -> int:
        values = np.unique(self.table.column(column).to_numpy())
        if len(values) > 1:
            raise InputError(
                f"{self.store.location}: images are of several sizes ({column} {values[0]} to {values[-1]}), one array "
                "needs one; read them one by one and resize"
            )
        return int(values[0])

    def _decode(self, sample_id: int, channels: int | None) -> np.ndarray:
        return self._decode_row(sample_id, self.read(sample_id), channels)

    def _decode_row(self, sample_id: int, data: bytes, channels: int | None) -> np.ndarray:
        extension = stored_extension(data)
        if extension is None:
            raise self._damaged(sample_id, "is not a PNG, JPEG or WebP image")
        try:
            return decode(data, extension=extension, channels=channels)
        except UndecodableImage as error:
            raise self._damaged(sample_id, str(error)) from error

    def _damaged(self, sample_id: int, reason: str) -> IntegrityError:
        name = shard_path(int(self._places["shard"][sample_id]))
        return IntegrityError(f"{self.store.location}/{name}: key {self._key(sample_id)}: {reason}")

    def _key(self, sample_id: int) -> str:
        return str(self.table.column("key")[sample_id].as_py())
