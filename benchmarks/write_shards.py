"""Writing the same images in shards: caskit beside other writers, and beside what hashing, disk and encoder allow.

Run: python benchmarks/write_shards.py (ten minutes on a quiet machine), or `--short` (within a minute). Other writers
are those of benchmarks/peers.txt in a folder of their own, `--peers DIR`, made by `pip install --no-deps --target DIR
-r benchmarks/peers.txt` if it is not there; webdataset and Ray are those of the extras. The last line printed is one
JSON object: `ratio` is ours over the best peer among webdataset.ShardWriter and Ray Data's write_webdataset at 32 px,
encoded before; `of_limit` the smallest share of the limit in any case; both by the clock, `by_processor` the same by
processor time, which other work on the machine changes less. The limit's hashing is of images and tars; with that of
rows and stream keys, which the format asks for too, it is `of_limit_with_rows`. `of_all` is ours over everything that
has to be computed, one after the other on one thread.

Images are fabricated with a photograph's spectrum. caskit's side is the product's own path, from image to committed
shard: it hashes every image and the tar, reads back what was written, writes rows and their digest, and syncs. The
others hash and sync nothing. Sides and limits take turns. A limit is the slowest of encoding, hashing every image and
every tar once, and writing the same bytes to the disk with a sync per shard, each alone on one thread.
"""

import argparse
import dataclasses
import datetime
import functools
import io
import json
import logging
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from commandline import this_command
from PIL import Image
from read_shards import install_peers
from readers.forms import photographs
from writers.sides import ROWS, RayData, Work, caskit, limits, lit, make_work, mosaic, web_dataset

from caskit.manifests.codec import Codec
from caskit.shards.codecs import encode

PNG, JPEG = Codec.of("png"), Codec.of("jpeg", {"quality": 90})
OURS = "caskit"
Write = Callable[[Work, Path], None]
PEERS: dict[str, Write] = {"webdataset": web_dataset, "mosaicml-streaming": mosaic, "litdata": lit}


@dataclasses.dataclass(kw_only=True)
class Times:
    """What one side took in every round, seconds."""

    wall_s: list[float] = dataclasses.field(default_factory=list)
    cpu_s: list[float] = dataclasses.field(default_factory=list)

    def take(self, work: Callable[[], object], outside: Callable[[], float]) -> None:
        """Do some work once and note its time; `outside` gives the CPU seconds of other processes that take part."""
        before, clock, cpu = outside(), time.perf_counter(), time.process_time()
        work()
        wall, used = time.perf_counter() - clock, time.process_time() - cpu
        self.wall_s.append(wall)
        self.cpu_s.append(used + outside() - before)

    def rate(self, num: int, *, by_cpu: bool = False) -> float:
        """Return samples a second, of the median."""
        return num / max(statistics.median(self.cpu_s if by_cpu else self.wall_s), 1e-9)


def of_descendants() -> float:
    """Return the CPU seconds of all living processes below this one."""
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        process = int(folder.name)
        parents[process], seconds[process] = (
            int(fields[1]),
            (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        )
    below, found = {os.getpid()}, 0.0
    while new := {process for process, parent in parents.items() if parent in below and process not in below}:
        below |= new
        found += sum(seconds[process] for process in new)
    return found


def measure(work: Work, sides: dict[str, Write], root: Path, rounds: int) -> tuple[dict[str, Times], dict[str, Times]]:
    """Let sides and limits take turns; a first turn of each is not counted."""
    kept = root / "kept"
    caskit(work, kept)
    alone = limits(work, kept)
    times, bounds = {name: Times() for name in sides}, {name: Times() for name in alone}
    for number in range(rounds + 1):
        for name, write in sides.items():
            folder = root / "written"
            folder.mkdir()
            outside = of_descendants if isinstance(write, RayData) else lambda: 0.0
            (times[name] if number else Times()).take(functools.partial(write, work, folder), outside)
            shutil.rmtree(folder)
        for name, bound in alone.items():
            (bounds[name] if number else Times()).take(bound, lambda: 0.0)
    shutil.rmtree(kept)
    return times, bounds


def report(
    title: str, work: Work, times: dict[str, Times], bounds: dict[str, Times], *, by_cpu: bool
) -> dict[str, float]:
    """Return ours over each peer and over the limit; by processor time also over all limits, one after the other."""
    num = len(work.images)
    ours = times[OURS].rate(num, by_cpu=by_cpu)
    found = {name: round(ours / side.rate(num, by_cpu=by_cpu), 2) for name, side in times.items() if name != OURS}
    rates = {name: bound.rate(num, by_cpu=by_cpu) for name, bound in bounds.items()}
    hashing = 1 / (1 / rates["sha256"] + 1 / rates[ROWS])
    limit = min(rate for name, rate in rates.items() if name != ROWS)
    found["of_limit"] = round(ours / limit, 2)
    found["of_limit_with_rows"] = round(ours / min(limit, hashing), 2)
    if by_cpu:
        return {**found, "of_all": round(ours * sum(1 / rate for rate in rates.values()), 2)}
    print(f"\n## {title}: {num:,} images of {sum(map(len, work.images)) / num:,.0f} stored bytes\n")
    print("| writer | samples/s | samples per CPU second |\n|---|---|---|")
    for name, side in [*times.items(), *((f"limit: {name}", bound) for name, bound in bounds.items())]:
        print(f"| {name} | {side.rate(num):,.0f} | {side.rate(num, by_cpu=True):,.0f} |", flush=True)
    return found


def cases(short: bool) -> Iterator[tuple[str, Work]]:
    """Make the work of every comparison."""
    small, large = (6000, 400) if short else (48000, 4000)
    little = list(photographs(32, small))
    yield "32 px, encoded before", make_work(PNG, little, 1000, encoded=True)
    yield "32 px PNG", make_work(PNG, little[: small // 4], 1000, encoded=False)
    big = list(photographs(256, large))
    yield "256 px JPEG, encoded before", make_work(JPEG, big, large // 2, encoded=True)
    yield "256 px PNG", make_work(PNG, big[: large // 8], large // 8, encoded=False)


def lossless(num: int) -> dict[str, float]:
    """Encode photographs of 256 px with caskit's PNG and with Pillow's as it comes; print speeds and sizes."""
    images = list(photographs(256, num))

    def pillow(pixels: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        return buffer.getvalue()

    codecs = {"caskit's PNG": functools.partial(encode, codec=PNG), "Pillow's PNG": pillow}
    codecs["caskit's lossless WebP"] = functools.partial(encode, codec=Codec.of("webp"))
    times = {name: Times() for name in codecs}
    for _ in range(3):
        for name, call in codecs.items():
            times[name].take(lambda call=call: [call(pixels) for pixels in images], lambda: 0.0)
    print("\n## Lossless photographs of 256 px, encoder alone\n")
    print("| encoder | images per CPU second | bytes |\n|---|---|---|")
    rates = {name: side.rate(num, by_cpu=True) for name, side in times.items()}
    sizes = {name: sum(len(call(pixels)) for pixels in images) / num for name, call in codecs.items()}
    for name in codecs:
        print(f"| {name} | {rates[name]:,.0f} | {sizes[name]:,.0f} |")
    first, other = list(codecs)[:2]
    return {"ratio": round(rates[first] / rates[other], 2), "size": round(sizes[first] / sizes[other], 3)}


def main() -> None:
    """Measure, print tables and the JSON line."""
    parser = argparse.ArgumentParser(description="caskit's writing of shards beside other writers and its limits.")
    parser.add_argument("--short", action="store_true", help="few images and rounds")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="folder with mosaicml-streaming and litdata")
    parser.add_argument(
        "--without-ray", action="store_true", help="where Ray does not start, such as a crowded machine"
    )
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    options = parser.parse_args()
    peers = install_peers(options.peers)
    sys.path.insert(0, str(peers))
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    rounds = 3 if options.short else 7
    names = ("webdataset", "ray", "mosaicml-streaming", "litdata", "pillow", "numpy", "pyarrow")
    print("# Writing shards beside other writers\n")
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},")
    print(f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in names)}.")
    print(f"Command: `{this_command()}`. Medians of {rounds} rounds.", flush=True)
    clock: dict[str, dict[str, float]] = {}
    processor: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as root:
        for number, (title, work) in enumerate(cases(options.short)):
            sides: dict[str, Write] = {OURS: caskit, **PEERS}
            if not number and not options.without_ray:
                sides["ray data"] = RayData(work)
            times, bounds = measure(work, sides, Path(root), rounds)
            clock[title] = report(title, work, times, bounds, by_cpu=False)
            processor[title] = report(title, work, times, bounds, by_cpu=True)
    first = next(iter(clock))
    print(
        json.dumps(
            {
                "ratio": min(clock[first][name] for name in ("webdataset", "ray data") if name in clock[first]),
                "of_limit": min(found["of_limit"] for found in clock.values()),
                "lossless": lossless(24 if options.short else 200),
                "by_clock": clock,
                "by_processor": processor,
                "load": round(os.getloadavg()[0], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
