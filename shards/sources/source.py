"""What ingest reads from: labelled images with random access, their labels known before any image is read."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.shards.codecs import encode


class UnreadableImage(Exception):
    """One input image cannot be used; `path` is what `skipped.parquet` lists, `reason` why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredImage:
    """One image as it goes into a shard: its bytes, their file extension without the dot, and its size in pixels.

    `channels` are those of its pixels as decoded, None where nobody has looked.
    """

    data: bytes
    extension: str
    width: int
    height: int
    channels: int | None = None


class Source(Protocol):
    """The samples of one split, numbered 0..N-1 in the order in which the real set stores them.

    Everything but `read` is known without reading an image, so ingest.json can be the first file written.
    """

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        ...

    @property
    def split(self) -> str:
        """One of train, validation, test."""
        ...

    @property
    def classes(self) -> ClassList:
        """The class list, the same for all splits."""
        ...

    @property
    def files(self) -> Mapping[str, str]:
        """Pinned input files, name to SHA-256."""
        ...

    @property
    def settings(self) -> Mapping[str, str]:
        """How a source of a foreign form was read, text by name; empty where there was nothing to choose."""
        ...

    @property
    def codec(self) -> Mapping[str, Any]:
        """How the images are stored."""
        ...

    @property
    def licence(self) -> str | None:
        """SPDX-like identifier for provenance.json and the card, None if it is not known."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """Every sample's label, [N] int64."""
        ...

    def path(self, sample_id: int) -> str:
        """Return the row's `source`: where this sample came from, relative to the input."""
        ...

    def size_bytes(self, sample_id: int) -> int | None:
        """Return the size of this sample's own input file; None where `files` pins the input."""
        ...

    def read(self, sample_id: int) -> StoredImage:
        """Return one image, proven decodable. Thread-safe. Raises UnreadableImage."""
        ...

    def without(self, sample_ids: Collection[int]) -> "Source":
        """Return the source that is left when some samples are taken out; the others may get new numbers."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArraySource:
    """A source whose pixels are in memory, for sets of small images that come as one array.

    Attributes:
        pixels: [N, H, W, C] uint8.
        numbers: [N] int64, place of each sample in the input file.
        file: the input file's name, for the rows' `source`.
        licence: of the data set.
        png: how the pixels are stored.
    """

    dataset: str
    split: str
    classes: ClassList
    files: Mapping[str, str]
    labels: np.ndarray
    pixels: np.ndarray
    numbers: np.ndarray
    file: str
    licence: str | None = None
    png: Codec = dataclasses.field(default_factory=lambda: Codec.of("png"))
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.pixels) == len(self.numbers), "labels, pixels and numbers differ in length"

    @property
    def codec(self) -> Mapping[str, Any]:
        """The codec that stores the pixels, for ingest.json."""
        return self.png.to_json()

    def path(self, sample_id: int) -> str:
        """Return `file#number`."""
        return f"{self.file}#{self.numbers[sample_id]}"

    def size_bytes(self, sample_id: int) -> int | None:
        """See Source."""
        return None

    def read(self, sample_id: int) -> StoredImage:
        """Encode one image."""
        pixels = self.pixels[sample_id]
        height, width = pixels.shape[:2]
        return StoredImage(data=encode(pixels, self.png), extension=self.png.extension, width=width, height=height)

    def without(self, sample_ids: Collection[int]) -> "ArraySource":
        """Return the source without some samples, the others in the same order."""
        keep = np.setdiff1d(np.arange(len(self.labels)), np.asarray(sorted(sample_ids), dtype=np.int64))
        return dataclasses.replace(self, labels=self.labels[keep], pixels=self.pixels[keep], numbers=self.numbers[keep])
