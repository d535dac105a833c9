"""What the pages show of a set: rows from its manifest, images by byte range, each against the digest in its row."""

import functools
import hashlib
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import IntegrityError
from caskit.manifests.replica import Replica
from caskit.manifests.view import View
from caskit.shards.commit import shard_path
from caskit.shards.fault import MAX_FAULTS, BrokenSet
from caskit.shards.receipt import has_receipt, stamps_before_check
from caskit.shards.records import Records, read_records
from caskit.shards.row_checks import check_rows
from caskit.shards.sources.imagefolder import stored_extension
from caskit.shards.verify import check_roots
from caskit.shards.view_checks import check_view

MAX_IMAGE_BYTES = 2**25  # of one image that a page shows
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


class Browser:
    """A frozen set whose rows were compared with replica.json, and whose tars were not read.

    So it opens at the price of its manifest, wherever it is; every image is hashed when it is shown.

    Args:
        reference: `PATH_OR_URL[@sha256:prefix]`.

    Raises:
        InputError: no frozen set there, or another one.
        IntegrityError: its records do not agree.
    """

    def __init__(self, reference: str) -> None:
        self.records: Records = read_records(reference)
        check = check_view if isinstance(self.records.origin, View) else check_rows
        faults = list(itertools.islice(check(self.records), MAX_FAULTS)) or check_roots(self.records)
        if faults:
            raise BrokenSet(self.records.store.location, faults)
        self.table: pa.Table = self.records.manifest
        counts = self.records.histogram
        self._starts = np.cumsum(counts) - counts  # of each class in the manifest, which is sorted by class

    @property
    def replica(self) -> Replica:
        """The set's identity."""
        return self.records.replica

    @property
    def classes(self) -> ClassList:
        """The class list."""
        return self.records.classes

    @functools.cached_property
    def verified(self) -> bool:
        """Whether every byte was checked on this machine, and the files were not touched since."""
        return has_receipt(self.records.store, self.replica, stamps_before_check(self.records.store, self.replica.kind))

    def count(self, label: int) -> int:
        """Return how many samples a class has."""
        return int(self.records.histogram[label])

    def keys(self, label: int, start: int, num: int) -> list[str]:
        """Return keys of a class by ordinal, from `start` on."""
        first = int(self._starts[label]) + start
        keys: list[str] = self.table.column("key").slice(first, max(0, min(num, self.count(label) - start))).to_pylist()
        return keys

    def row(self, key: str) -> dict[str, Any] | None:
        """Return the row of a key, None if the set has no such sample."""
        place = pc.index(self.table.column("key"), pa.scalar(key, pa.string())).as_py()
        if place < 0:
            return None
        row: dict[str, Any] = self.table.slice(place, 1).to_pylist()[0]
        return row

    def image(self, row: dict[str, Any]) -> tuple[bytes, str]:
        """Return a sample's stored bytes and their media type.

        Raises:
            IntegrityError: they are not those of its row, are too many, or are no image of a kind that sets hold.
        """
        name = shard_path(row["shard"])
        where = f"{name}: key {row['key']}"
        if row["nbytes"] > MAX_IMAGE_BYTES:
            raise IntegrityError(f"{where}: {row['nbytes']} bytes, at most {MAX_IMAGE_BYTES} are shown")
        try:
            data = self.records.store.read(name, row["tar_offset"], row["nbytes"])
        except FileNotFoundError:
            raise IntegrityError(f"{where}: the tar is missing") from None
        if hashlib.sha256(data).digest() != row["image_sha256"]:
            raise IntegrityError(f"{where}: the image's bytes are not those whose SHA-256 its row holds")
        extension = stored_extension(data)
        if extension is None:
            raise IntegrityError(f"{where}: is not a PNG, JPEG or WebP image")
        return data, MEDIA_TYPES[extension]
