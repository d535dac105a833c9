"""Encodes and hashes drawn images beside the sampling of the next ones, and packs them into a shard's tar."""

import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from caskit.gen.drawing import Drawn
from caskit.manifests.classes import sample_keys
from caskit.manifests.codes import CodeLevel
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.rows import table_of
from caskit.manifests.seeds import stream_keys
from caskit.shards.codecs import decode, encode
from caskit.shards.codes import CodesWriter
from caskit.shards.writing import ShardWriter, Written

_PACKED = ("attempt", "filter_score", "pixel_sha256", "codes_sha256")


@dataclasses.dataclass(frozen=True)
class _Encoded:
    data: bytes
    attempt: int
    score: float | None
    pixel_sha256: bytes | None
    codes: Mapping[str, np.ndarray] | None


class ShardPacker:
    """Packs the samples of one shard in their order, however late a redrawn one arrives.

    Two threads encode a microbatch, half of it each, while the caller draws the next; at most one waits for them, and
    encoded images wait only behind a sample that has to be drawn again. Encoders let go of Python's lock.

    Args:
        path: of the tar, a scratch file.
        plan: of the replica.
        shard: the shard's number.
        labels, ordinals: [n] int64, of its samples in sample_id order.
        levels: of the codes to record, in a sidecar beside the tar; none without.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan | Reconstruction,
        shard: int,
        labels: np.ndarray,
        ordinals: np.ndarray,
        levels: Sequence[CodeLevel] = (),
    ) -> None:
        self._plan, self._shard = plan, shard
        self._first_id, _ = plan.shard_range(shard)
        self._labels, self._ordinals = labels, ordinals
        self._keys = sample_keys(plan.classes, labels, ordinals)
        self._writer = ShardWriter(path)
        self.codes_path = path.with_suffix(".codes.parquet") if levels else None
        self._codes = None if self.codes_path is None else CodesWriter(self.codes_path, levels)
        self._encoded: dict[int, _Encoded] = {}
        self._columns: dict[str, list[Any]] = {name: [] for name in _PACKED}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="encode-half")
        self._pending: Future[None] | None = None
        self.encode_s = self.write_s = 0.0  # spent in the thread: encoding; headers, hashes and what they wait for
        self.wait_s = 0.0  # spent by the caller waiting for it

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the threads and close the tar, whole or not."""
        for threads in (self._thread, self._helper):
            threads.shutdown(wait=True, cancel_futures=True)
        self._writer.__exit__(kind, error, traceback)
        if self._codes is not None:
            self._codes.__exit__(kind, error, traceback)

    def add(self, drawn: Drawn) -> None:
        """Hand over a microbatch; returns when the one before is packed. Raises what packing that one raised."""
        self._join()
        self._pending = self._thread.submit(self._pack, drawn)

    def rows(self) -> pa.Table:
        """Return the rows of the shard in sample_id order, when all its samples were added."""
        self._join()
        plan, columns, num = self._plan, self._columns, len(self._labels)
        assert self._writer.num_samples == num, f"shard {self._shard}: {self._writer.num_samples} samples packed"
        made: dict[str, Any] = {"source": self._keys}  # a reconstruction has the key of its real image
        if isinstance(plan, Plan):
            attempts = np.array(columns["attempt"], dtype=np.int64)
            made = {
                "stream_key": list(stream_keys(plan.seed, self._labels, self._ordinals, attempts)),
                "attempt": attempts,
            }
        return table_of(
            {
                **{name: column for name, column in columns.items() if name != "attempt"},
                "key": self._keys,
                "tar_offset": self._writer.offsets,
                "nbytes": self._writer.nbytes,
                "sample_id": np.arange(self._first_id, self._first_id + num),
                "label": self._labels,
                "ordinal": self._ordinals,
                "shard": np.full(num, self._shard),
                "index_in_shard": np.arange(num),
                "width": np.full(num, plan.width),
                "height": np.full(num, plan.height),
                "image_sha256": self._writer.image_sha256,
                **made,
            },
            num,
        )

    @property
    def written(self) -> Written:
        """What the tar's writer hashed, when the tar is closed."""
        assert self._writer.written is not None, f"shard {self._shard} is not closed"
        return self._writer.written

    def _join(self) -> None:
        if self._pending is not None:
            began = time.perf_counter()
            self._pending.result()
            self.wait_s += time.perf_counter() - began
            self._pending = None

    def _pack(self, drawn: Drawn) -> None:
        began = time.perf_counter()
        scores = [None] * len(drawn.images) if drawn.scores is None else drawn.scores.tolist()
        images = self._encode_all(drawn.images)
        samples = zip(drawn.positions.tolist(), images, drawn.attempts.tolist(), scores, strict=True)
        for place, (position, (data, pixel_sha256), attempt, score) in enumerate(samples):
            codes = None if drawn.codes is None else {name: maps[place] for name, maps in drawn.codes.items()}
            self._encoded[position] = _Encoded(data, attempt, score, pixel_sha256, codes)
        encoded_at = time.perf_counter()
        self._write()
        self.encode_s += encoded_at - began
        self.write_s += time.perf_counter() - encoded_at

    def _encode_all(self, images: np.ndarray) -> list[tuple[bytes, bytes | None]]:
        """Return every image encoded, and its pixel digest."""
        half = len(images) // 2
        rest = self._helper.submit(self._encode, images[half:])
        return [*self._encode(images[:half]), *rest.result()]

    def _encode(self, images: np.ndarray) -> list[tuple[bytes, bytes | None]]:
        encoded = [encode(image, self._plan.codec) for image in images]
        return [(data, self._pixel_digest(data)) for data in encoded]

    def _pixel_digest(self, data: bytes) -> bytes | None:
        """Return the digest of what a reader decodes, which a lossy codec makes differ from what was drawn."""
        if not self._plan.pixel_digests:
            return None
        pixels = decode(data, extension=self._plan.codec.extension, channels=self._plan.channels)
        return hashlib.sha256(pixels.tobytes()).digest()

    def _write(self) -> None:
        """Write the encoded samples whose turn it is."""
        start, ready = self._writer.num_samples, list[_Encoded]()
        while (encoded := self._encoded.pop(start + len(ready), None)) is not None:
            ready.append(encoded)
        part = slice(start, start + len(ready))
        keys = self._keys[part]
        extensions = [self._plan.codec.extension] * len(ready)
        self._writer.add_all(keys, self._labels[part].tolist(), [encoded.data for encoded in ready], extensions)
        for key, encoded in zip(keys, ready, strict=True):
            values = (encoded.attempt, encoded.score, encoded.pixel_sha256, self._codes_digest(key, encoded))
            for name, value in zip(_PACKED, values, strict=True):
                self._columns[name].append(value)

    def _codes_digest(self, key: str, encoded: _Encoded) -> bytes | None:
        """Take a sample's codes into the sidecar, if they are recorded, and return their digest."""
        assert (encoded.codes is None) == (self._codes is None), f"key {key}: codes where none are recorded, or none"
        return None if self._codes is None or encoded.codes is None else self._codes.add(key, encoded.codes)
