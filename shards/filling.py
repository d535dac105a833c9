"""The tar and the rows of one shard from the images of a source, a piece of the tar at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from caskit.manifests.classes import sample_keys
from caskit.manifests.errors import InputError
from caskit.manifests.imported import Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.rows import table_of
from caskit.shards.sources.source import Source, StoredImage, UnreadableImage
from caskit.shards.writing import PIECE_BYTES, ShardWriter, Written


def unreadable(error: UnreadableImage) -> InputError:
    """Return what the user is told of an image that cannot be read."""
    return InputError(f"unreadable image {error}; --skip-bad, into a new folder, leaves such images out")


def fill_tar(
    path: Path,
    images: Iterable[StoredImage | UnreadableImage],
    source: Source,
    record: Ingest | Import,
    ordinals: np.ndarray,
    shard: int,
    sample_ids: range,
) -> tuple[pa.Table, Written]:
    """Write the tar of one shard.

    Args:
        path: of the tar, a scratch file.
        images: of its samples, in order.
        source: where they are from.
        record: of the set.
        ordinals: [N] int64, of all samples of the source.
        shard: the shard's number.
        sample_ids: of its samples.

    Returns:
        its rows in sample_id order, and what its writer hashed.

    Raises:
        InputError: an image cannot be read or stored.
    """
    own = slice(sample_ids.start, sample_ids.stop)
    labels, num = source.labels[own], len(sample_ids)
    keys = sample_keys(record.classes, labels, ordinals[own])
    sides = np.empty((num, 2), dtype=np.int64)  # width, height
    with ShardWriter(path) as writer:
        for some in _pieces(images):
            part = slice(writer.num_samples, writer.num_samples + len(some))
            sides[part] = [(image.width, image.height) for image in some]
            data, extensions = [image.data for image in some], [image.extension for image in some]
            writer.add_all(keys[part], labels[part].tolist(), data, extensions)
            del some, data  # so that no more images are held than are read ahead
    written = writer.written
    assert written is not None, "the tar is closed"
    columns: dict[str, Any] = {
        "key": keys,
        "sample_id": np.array(sample_ids, dtype=np.int64),
        "label": labels,
        "ordinal": ordinals[own],
        "shard": np.full(num, shard),
        "index_in_shard": np.arange(num),
        "tar_offset": written.offsets,
        "nbytes": written.nbytes,
        "width": sides[:, 0],
        "height": sides[:, 1],
        "image_sha256": written.image_sha256,
        "source": [source.path(sample_id) for sample_id in sample_ids],
    }
    return table_of(columns, num), written


def _pieces(images: Iterable[StoredImage | UnreadableImage]) -> Iterator[list[StoredImage]]:
    """Yield images by the piece of a tar. Raises InputError naming one that cannot be read."""
    piece, num_bytes = list[StoredImage](), 0
    for image in images:
        if isinstance(image, UnreadableImage):
            raise unreadable(image)
        piece.append(image)
        num_bytes += len(image.data)
        if num_bytes >= PIECE_BYTES:
            yield piece
            piece, num_bytes = [], 0
    if piece:
        yield piece
