"""caskit's and other writers as write_shards.py uses them: functions of (work, folder) that write it all once."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import webdataset

from caskit.gen.drawing import Drawn
from caskit.gen.packer import ShardPacker
from caskit.manifests.classes import ClassList, sample_key, sample_keys
from caskit.manifests.codec import Codec
from caskit.manifests.merkle import merkle_root
from caskit.manifests.plan import Plan
from caskit.manifests.quota import balanced
from caskit.manifests.rows import canonical_rows, sort_rows, table_of
from caskit.manifests.seeds import stream_keys
from caskit.shards.codecs import encode
from caskit.shards.commit import read_commit, shard_name
from caskit.shards.finishing import Behind, commit_written
from caskit.shards.store import LocalStore
from caskit.shards.writing import ShardWriter, Written

CLASSES = ClassList(ids=tuple(f"c{label:03d}" for label in range(10)), names=tuple(map(str, range(10))))
COPY_BYTES = 2**20
ROWS = "sha256, rows"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """The same images for every writer.

    Attributes:
        plan: of a replica with these images, in its order.
        labels, ordinals: [N] int64.
        pixels: of every image, [side, side, 3] uint8; None where everybody is given `images`.
        images: encoded.
    """

    plan: Plan
    labels: np.ndarray
    ordinals: np.ndarray
    pixels: list[np.ndarray] | None
    images: list[bytes]

    def samples(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield key, label and image, encoded now if pixels are given: what other writers are called with."""
        for place, (label, ordinal) in enumerate(zip(self.labels.tolist(), self.ordinals.tolist(), strict=True)):
            image = self.images[place] if self.pixels is None else encode(self.pixels[place], self.plan.codec)
            yield sample_key(CLASSES.ids[label], ordinal), label, image


def make_work(codec: Codec, photographs: list[np.ndarray], shard: int, *, encoded: bool) -> Work:
    """Return the work of writing some images of one size in shards of `shard`."""
    num, side = len(photographs), photographs[0].shape[0]
    plan = Plan(
        classes=CLASSES,
        family="photographs",
        preset="fabricated",
        checkpoint_id="0" * 64,
        sampler={},
        sampler_version=1,
        quota="balanced",
        histogram=balanced(num, len(CLASSES.ids), 0).histogram,
        seed=0,
        height=side,
        width=side,
        channels=3,
        codec=codec,
        samples_per_shard=shard,
    )
    labels, ordinals = plan.draw_order.assign(0, num)
    images = [encode(pixels, codec) for pixels in photographs]
    return Work(plan=plan, labels=labels, ordinals=ordinals, pixels=None if encoded else photographs, images=images)


def caskit(work: Work, folder: Path) -> None:
    """Write and commit every shard as the product does: hashed, read back, synced, with its rows.

    Stored images as `caskit import` writes them, one shard being committed while the next is written; drawn ones as a
    sampling worker does, one shard after the other.
    """
    store, plan_id = LocalStore(folder), work.plan.plan_id
    fill = _fill_stored if work.pixels is None else _fill_drawn
    with Behind() as behind:
        for shard in range(work.plan.num_shards):
            with contextlib.ExitStack() as stack:
                tar = stack.enter_context(store.scratch()) / shard_name(shard)
                rows, written = fill(work, shard, tar)
                behind.join()
                behind.submit(
                    functools.partial(_commit, stack.pop_all(), store, tar, rows, written, shard, plan_id),
                    done=lambda: None,
                )
            if work.pixels is not None:
                behind.join()


def _commit(
    scratch: contextlib.ExitStack,
    store: LocalStore,
    tar: Path,
    rows: pa.Table,
    written: Written,
    shard: int,
    plan_id: str,
) -> None:
    with scratch:
        commit_written(store, tar, rows, written, shard=shard, plan_id=plan_id, environment_id="0" * 64)


def _fill_drawn(work: Work, shard: int, tar: Path) -> tuple[Any, Written]:
    assert work.pixels is not None
    start, stop = work.plan.shard_range(shard)
    size = work.plan.microbatch_size
    with ShardPacker(tar, work.plan, shard, work.labels[start:stop], work.ordinals[start:stop]) as packer:
        for first in range(start, stop, size):
            images = np.stack(work.pixels[first : min(first + size, stop)])
            places = np.arange(first - start, first - start + len(images))
            packer.add(Drawn(positions=places, attempts=np.zeros_like(places), images=images))
        rows = packer.rows()
    return rows, packer.written


def _fill_stored(work: Work, shard: int, tar: Path) -> tuple[Any, Written]:
    plan = work.plan
    start, stop = plan.shard_range(shard)
    labels, ordinals = work.labels[start:stop], work.ordinals[start:stop]
    num = stop - start
    with ShardWriter(tar) as writer:
        keys = sample_keys(CLASSES, labels, ordinals)
        writer.add_all(keys, labels.tolist(), work.images[start:stop], [plan.codec.extension] * num)
    written = writer.written
    assert written is not None
    rows = table_of(
        {
            "key": written.keys,
            "sample_id": np.arange(start, stop),
            "label": labels,
            "ordinal": ordinals,
            "shard": np.full(num, shard),
            "index_in_shard": np.arange(num),
            "tar_offset": written.offsets,
            "nbytes": written.nbytes,
            "width": np.full(num, plan.width),
            "height": np.full(num, plan.height),
            "image_sha256": written.image_sha256,
            "stream_key": list(stream_keys(plan.seed, labels, ordinals, np.zeros_like(labels))),
            "attempt": np.zeros(num, dtype=np.int64),
        },
        num,
    )
    return rows, written


def web_dataset(work: Work, folder: Path) -> None:
    """Write with webdataset.ShardWriter, which hashes and syncs nothing."""
    pattern = str(folder / "shard-%06d.tar")
    extension = work.plan.codec.extension
    with webdataset.ShardWriter(pattern, maxcount=work.plan.samples_per_shard, verbose=0, encoder=False) as writer:
        for key, label, image in work.samples():
            writer.write({"__key__": key, "cls": b"%d" % label, extension: image})


def mosaic(work: Work, folder: Path) -> None:
    """mosaicml-streaming's MDSWriter."""
    streaming: Any = importlib.import_module("streaming")
    columns = {"key": "str", "label": "int", "image": "bytes"}
    with streaming.MDSWriter(out=str(folder), columns=columns) as out:
        for key, label, image in work.samples():
            out.write({"key": key, "label": label, "image": image})


def lit(work: Work, folder: Path) -> None:
    """LitData's BinaryWriter, which its `optimize` calls in every worker."""
    writing: Any = importlib.import_module("litdata.streaming.writer")
    with contextlib.redirect_stdout(sys.stderr):
        writer = writing.BinaryWriter(str(folder), chunk_bytes="64MB")
        for index, (key, label, image) in enumerate(work.samples()):
            writer[index] = {"key": key, "label": label, "image": image}
        writer.done()


class RayData:
    """Ray Data's write_webdataset on one CPU, of a data set that lies in its object store."""

    def __init__(self, work: Work) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._ray: Any = importlib.import_module("ray")
        importlib.import_module("ray.data")
        if not self._ray.is_initialized():
            self._ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
            self._ray.data.DataContext.get_current().enable_progress_bars = False
        extension = work.plan.codec.extension
        items = [{"__key__": key, "cls": b"%d" % label, extension: image} for key, label, image in work.samples()]
        self._data = self._ray.data.from_items(items, override_num_blocks=work.plan.num_shards).materialize()

    def __call__(self, work: Work, folder: Path) -> None:
        """Write it."""
        self._data.write_webdataset(str(folder), encoder=None)  # images are encoded


def limits(work: Work, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what nobody can do without, each as a function of one thread: encoding, hashing, writing to the disk.

    `sha256` is of every image and of every tar once; `sha256, rows` is of every row, the tree above it and every stream
    key, which the format asks for as well; writing is of the tars' bytes, synced.
    """
    store, plan = LocalStore(folder), work.plan
    rows = [list(canonical_rows(sort_rows(read_commit(store, shard)[0]))) for shard in range(plan.num_shards)]
    attempts = np.zeros_like(work.labels)
    tars = sorted((folder / "shards").glob("*.tar"))
    stored = [tar.read_bytes() for tar in tars]

    def hashing() -> None:
        for image in work.images:
            hashlib.sha256(image).digest()
        for data in stored:
            hashlib.sha256(data).digest()

    def of_rows() -> None:
        for some in rows:
            merkle_root(some)
        for _ in stream_keys(plan.seed, work.labels, work.ordinals, attempts):
            pass

    def disk() -> None:
        for number, data in enumerate(stored):
            with (folder / f"limit-{number}").open("wb", buffering=0) as file:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest[:COPY_BYTES]) :]
                os.fsync(file.fileno())
            os.unlink(folder / f"limit-{number}")

    found: dict[str, Callable[[], object]] = {"sha256": hashing, ROWS: of_rows, "disk": disk}
    if work.pixels is not None:
        pixels = work.pixels
        found["encoder"] = lambda: [encode(image, work.plan.codec) for image in pixels]
    return found
