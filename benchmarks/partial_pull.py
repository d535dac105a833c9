"""Bytes that a pull of a part moves, beside what they have to be: class 3, and the first tenth, at 28 and 256 pixels.

Run: python benchmarks/partial_pull.py > benchmarks/partial_pull.md. Two replicas of images that nobody drew are frozen,
published to a folder, and served over HTTP with byte ranges by a server that counts the bytes of the bodies it sends.

Image bytes are compared with the bytes of the chosen images, metadata (all else) with a Parquet file of their rows.
The last line is JSON: `class_overhead` and `prefix_overhead` are the image bytes moved beyond the chosen images, as a
share of them, the larger of the two resolutions. Exit code 1 if that is above 0.05, or metadata above twice the rows.
"""

import argparse
import collections
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pyarrow as pa

from caskit.manifests.classes import ClassList, sample_key
from caskit.manifests.codec import EXTENSIONS, Codec
from caskit.manifests.plan import Plan
from caskit.manifests.quota import balanced
from caskit.manifests.rows import ROW_SCHEMA
from caskit.manifests.seeds import stream_key
from caskit.shards.codecs import encode
from caskit.shards.commit import commit_shard, describe_shard, shard_name
from caskit.shards.freeze import freeze
from caskit.shards.records import read_manifest
from caskit.shards.remote.progress import TransferConfig
from caskit.shards.remote.push import push
from caskit.shards.remote.subset import Part, pull_part
from caskit.shards.store import LocalStore
from caskit.shards.writing import ShardWriter

NUM_CLASSES = 10
WORKERS = 8
MAX_IMAGE_OVERHEAD, MAX_METADATA = 0.05, 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """A replica to take parts of."""

    side: int
    num: int
    samples_per_shard: int
    codec: str


SCALES = (
    Scale(side=28, num=60_000, samples_per_shard=1000, codec="png"),
    Scale(side=256, num=12_000, samples_per_shard=600, codec="jpeg"),
)
SHORT = (
    Scale(side=28, num=6_000, samples_per_shard=100, codec="png"),
    Scale(side=256, num=6_000, samples_per_shard=300, codec="jpeg"),
)


def plan_of(scale: Scale) -> Plan:
    """Return a plan of that size; no generator can draw it, and nobody asks it to."""
    return Plan(
        classes=ClassList.from_names([f"class {label}" for label in range(NUM_CLASSES)]),
        family="nobody",
        preset="noise",
        checkpoint_id="0" * 64,
        sampler={},
        sampler_version=1,
        quota="balanced",
        histogram=balanced(scale.num, NUM_CLASSES, 0).histogram,
        seed=0,
        height=scale.side,
        width=scale.side,
        channels=1 if scale.side == 28 else 3,
        codec=Codec.of(scale.codec),
        samples_per_shard=scale.samples_per_shard,
    )


def make_image(plan: Plan, key: bytes) -> bytes:
    """Draw blobs, so that an image takes about as many bytes as a photograph of its size."""
    words = np.random.default_rng(int.from_bytes(key, "big"))
    coarse = words.integers(0, 256, size=(7, 7, plan.channels), dtype=np.uint8)
    pixels = coarse.repeat(-(-plan.height // 7), axis=0).repeat(-(-plan.width // 7), axis=1)[
        : plan.height, : plan.width
    ]
    if plan.height > 28:
        pixels = pixels // 2 + words.integers(0, 64, size=pixels.shape, dtype=np.uint8)
    return encode(np.ascontiguousarray(pixels), plan.codec)


def make_set(scale: Scale, folder: Path) -> None:
    """Freeze a replica of blobs."""
    plan, store = plan_of(scale), LocalStore(folder)
    store.create("plan.json", plan.to_bytes())
    extension = EXTENSIONS[scale.codec]
    for shard in range(plan.num_shards):
        start, stop = plan.shard_range(shard)
        labels, ordinals = (column.tolist() for column in plan.draw_order.assign(start, stop))
        rows = []
        with store.scratch() as scratch:
            with ShardWriter(scratch / shard_name(shard)) as writer:
                for index, (label, ordinal) in enumerate(zip(labels, ordinals, strict=True)):
                    stream = stream_key(plan.seed, label, ordinal, 0)
                    rows.append(add_sample(writer, plan, (label, ordinal), stream, extension))
                    rows[-1] |= {"sample_id": start + index, "shard": shard, "index_in_shard": index}
            table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
            path = scratch / shard_name(shard)
            info = describe_shard(path, table, shard=shard, plan_id=plan.plan_id, environment_id="0" * 64)
            commit_shard(store, path, table, info)
    freeze(store, provenance={}, created="2026-01-01T00:00:00+00:00")


def add_sample(
    writer: ShardWriter, plan: Plan, place: tuple[int, int], stream: bytes, extension: str
) -> dict[str, Any]:
    """Write one image; returns its row but for its place in the set."""
    label, ordinal = place
    key, image = sample_key(plan.classes.ids[label], ordinal), make_image(plan, stream)
    offset, nbytes = writer.add(key, label, image, extension)
    row: dict[str, Any] = dict.fromkeys(ROW_SCHEMA.names)
    return row | {
        "key": key,
        "label": label,
        "ordinal": ordinal,
        "tar_offset": offset,
        "nbytes": nbytes,
        "width": plan.width,
        "height": plan.height,
        "image_sha256": hashlib.sha256(image).digest(),
        "stream_key": stream,
        "attempt": 0,
    }


class CountingServer:
    """Serves a folder over HTTP with byte ranges, and counts requests and the bytes of bodies by kind of file."""

    def __init__(self, root: Path) -> None:
        self.bytes: collections.Counter[str] = collections.Counter()
        self.requests: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        count, folder = self._count, root

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

            def do_HEAD(self) -> None:
                """Answer with the size."""
                self.answer(body=False)

            def do_GET(self) -> None:
                """Answer with bytes."""
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = folder / self.path.lstrip("/")
                if not path.is_file():
                    self.send_error(404)
                    return
                size = path.stat().st_size
                asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
                start, stop = int(asked[0] or 0), min(size, int(asked[2] or size - 1) + 1)
                self.send_response(206 if asked[0] else 200)
                if asked[0]:
                    self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
                self.send_header("Content-Length", str(stop - start))
                self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
                self.end_headers()
                if body:
                    with path.open("rb") as file:
                        file.seek(start)
                        self.wfile.write(file.read(stop - start))
                    count("images" if path.suffix == ".tar" else "metadata", stop - start)

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _count(self, kind: str, num_bytes: int) -> None:
        with self._lock:
            self.bytes[kind] += num_bytes
            self.requests[kind] += 1

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What one pull moved."""

    side: int
    part: str
    num_samples: int
    images: int
    images_due: int
    metadata: int
    rows: int
    requests: int
    seconds: float

    @property
    def overhead(self) -> float:
        """Image bytes moved beyond those of the chosen images, as a share."""
        return self.images / self.images_due - 1

    def line(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.side} | {self.part} | {self.num_samples:,} | {self.images_due:,} | {self.images:,} | "
            f"{100 * self.overhead:.2f} % | {self.rows:,} | {self.metadata:,} | {self.metadata / self.rows:.2f} | "
            f"{self.requests:,} | {self.seconds:.1f} |"
        )


def measure(scale: Scale, folder: Path) -> Iterator[Measured]:
    """Make a replica, publish it, and pull both parts of it."""
    make_set(scale, folder / "set")
    push(str(folder / "set"), str(folder / "published"))
    tenth = plan_of(scale).num_shards // 10
    for name, part in (
        ("class 3", Part(select="classes", names=("3",))),
        ("first 10 %", Part(select=f"first-shards:{tenth}")),
    ):
        server, out = CountingServer(folder / "published"), folder / f"part-{len(name)}"
        began = time.perf_counter()
        moved = pull_part(server.url, out, part, TransferConfig(workers=WORKERS))
        seconds = time.perf_counter() - began
        server.close()
        yield Measured(
            side=scale.side,
            part=name,
            num_samples=read_manifest(LocalStore(out)).num_rows,
            images=server.bytes["images"],
            images_due=moved.num_bytes,
            metadata=server.bytes["metadata"],
            rows=(out / "manifest.parquet").stat().st_size,
            requests=sum(server.requests.values()),
            seconds=seconds,
        )


def main() -> int:
    """Measure, and print the page and the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="smaller sets")
    scales = SHORT if parser.parse_args().short else SCALES
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        for scale in scales:
            measured += measure(scale, Path(folder) / str(scale.side))
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print("# Bytes moved for a part of a replica\n")
    print(
        f"`python benchmarks/partial_pull.py`, {now}, {platform.machine()}, load average {load}, obstore "
        f"{obstore.__version__}, {', '.join(f'{s.num:,} images of {s.side} px' for s in scales)}.\n"
    )
    print(
        "| px | part | samples | image bytes due | moved | beyond | rows as Parquet | metadata moved | ratio | requests | s |"  # noqa: E501
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for one in measured:
        print(one.line())
    last = {
        "class_overhead": round(max(one.overhead for one in measured if one.part == "class 3"), 4),
        "prefix_overhead": round(max(one.overhead for one in measured if one.part != "class 3"), 4),
    }
    print("\n" + json.dumps(last))
    wrong = max(last.values()) > MAX_IMAGE_OVERHEAD or any(one.metadata > MAX_METADATA * one.rows for one in measured)
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
