"""caskit's reader of a frozen set against other readers of the same images, without training anything.

Run: python benchmarks/read_shards.py (a quarter of an hour on a quiet machine), or `--short` (within a minute). Other
readers are installed once into a folder of their own, `--peers DIR` (default: below the system's temporary folder), by
`pip install --no-deps --target DIR -r benchmarks/peers.txt`; timm, webdataset and torchvision are those of the extras.
The table goes into benchmarks/read_shards.md; the last line printed is one JSON object.

Images are fabricated with the spectrum of photographs: 32x32 PNGs and 256x256 JPEGs of quality 90. Everybody reads the
same stored bytes from the page cache, in the form that it asks for: the folder of images, the set's tars (webdataset,
timm), or shards of its own. Sides take turns, epoch by epoch, each in a shuffled order of its own making, one sample
after the other to the same consumer, which counts samples, bytes and labels. Decoded images are delivered in batches of
256, one array each, as a training step takes them. Each turn is a process of its own, forked, in which a first epoch is
not counted and noted apart: in it caskit computes the digest of every row. Ratios are of CPU seconds, threads of a
reader's own included, so that other work on the machine weighs little; with worker processes they are by the clock,
which wants a quiet machine.
"""

import argparse
import dataclasses
import datetime
import gc
import hashlib
import itertools
import json
import operator
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from commandline import this_command
from readers.forms import Forms, write_forms
from readers.peers import BATCH, Epoch, Samples, decode_pillow
from torchvision.io import decode_image

from caskit.shards.dataset import FrozenSet, open_set
from caskit.train.images import Images
from caskit.train.order import Order
from caskit.train.prefetch import Prefetch
from caskit.train.recipes import Recipe
from caskit.train.samples import TrainingImages

RESULT = Path(__file__).with_suffix(".md")
REQUIREMENTS = Path(__file__).with_name("peers.txt")
PROMISES = {"stored": 2.0, "stored, rows held": 2.0, "decoded, pixels held": 2.0, "decoded": 1.0}


@dataclasses.dataclass(kw_only=True)
class Side:
    """One reader and what it was measured at, seconds an epoch."""

    name: str
    make: Callable[[], Epoch]
    promise: str = ""
    first_s: list[float] = dataclasses.field(default_factory=list)
    wall_s: list[float] = dataclasses.field(default_factory=list)
    cpu_s: list[float] = dataclasses.field(default_factory=list)

    @property
    def wall(self) -> float:
        """Median by the clock."""
        return statistics.median(self.wall_s)

    @property
    def cpu(self) -> float:
        """Median of CPU seconds."""
        return statistics.median(self.cpu_s)


def recipe(side: int, steps: int) -> Recipe:
    """Return a recipe that takes images as they are."""
    return Recipe(name="reading", resolution=side, num_steps=steps, batch_size=BATCH, bn_batch=BATCH, learning_rate=0.1)


def ours_stored(data: FrozenSet, hold: tuple[str, ...]) -> Epoch:
    """Caskit's shuffled order and stored bytes."""
    images, order = Images(data, hold=hold, threads=1), Order(len(data), len(data), 0)

    def epoch(number: int) -> Samples:
        ids = order.batch(number)[0][1]
        for start in range(0, len(ids), BATCH):
            chosen = ids[start : start + BATCH]
            yield from zip(images.rows(chosen), data.labels[chosen].tolist(), strict=True)

    return epoch


def ours_decoded(data: FrozenSet, hold: tuple[str, ...], workers: int = 0, threads: int = 0) -> Epoch:
    """Caskit's batches as its training asks for them; by worker processes, or by threads that make a batch each."""
    images = Images(data, hold=hold, threads=1)
    steps = -(-len(data) // BATCH)
    assert steps * BATCH == len(data), "else the last batch holds rows of the next epoch, and nobody counts them"

    def epoch(number: int) -> Samples:
        made = TrainingImages(
            recipe(images.height, 2**20), images.batch, data.labels, channels=images.channels, seed=number
        )
        if threads:
            with ThreadPoolExecutor(threads) as pool:
                yield from taken(in_threads(pool, made, steps, 2 * threads), len(data))
        else:
            ahead = Prefetch(made, range(1), steps, workers)
            yield from taken((ahead.load(step, 0) for step in range(steps)), len(data))

    return epoch


def taken(batches: Iterator[tuple[Any, Any]], num: int) -> Samples:
    """Take the first `num` samples out of batches."""
    for images, labels in batches:
        yield from itertools.islice(zip(images, labels.tolist(), strict=True), num)
        num -= len(images)


def in_threads(pool: ThreadPoolExecutor, made: TrainingImages, steps: int, ahead: int) -> Iterator[tuple[Any, Any]]:
    """Make batches in threads, so many at a time."""
    waiting = [pool.submit(made.load, step, 0) for step in range(min(ahead, steps))]
    for step in range(steps):
        yield waiting.pop(0).result()
        if step + ahead < steps:
            waiting.append(pool.submit(made.load, step + ahead, 0))


def consume(samples: Any) -> tuple[int, int, int]:
    """Take every sample of an epoch; return their number, bytes and sum of labels."""
    num = size = total = 0
    for image, label in samples:
        num += 1
        size += len(image) if isinstance(image, bytes) else image.nbytes
        total += label
    return num, size, total


def ended_workers_s() -> float:
    """Return the CPU seconds of processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(epoch: Epoch, number: int) -> tuple[tuple[int, int, int], float, float]:
    """Read an epoch; return what was found, seconds by the clock, and CPU seconds of all threads and workers."""
    before = ended_workers_s()
    clock, cpu = time.perf_counter(), time.process_time()
    found = consume(epoch(number))
    wall, used = time.perf_counter() - clock, time.process_time() - cpu
    gc.collect()  # workers end with their iterator, and are counted when they have ended
    return found, wall, used + ended_workers_s() - before


def in_child(side: Side) -> list[Any]:
    """Read two epochs in a process of its own, where no other reader's threads run; return what both gave."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            epoch = side.make()
            first = timed(epoch, 0)
            second = timed(epoch, 1)
            os.write(send, json.dumps([first, second]).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.close(send)
    with open(receive, "rb") as told:
        text = told.read()
    os.waitpid(child, 0)
    if not text:
        sys.exit(f"{side.name} failed")
    result: list[Any] = json.loads(text)
    return result


def measure(sides: list[Side], expected: tuple[int, int, int], rounds: int) -> None:
    """Let the sides take turns; the first epoch of each process is noted apart."""
    gc.collect()
    gc.freeze()  # else a child's first collection copies all of this process
    for number in range(rounds):
        for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
            first, second = in_child(side)
            for found in (first[0], second[0]):
                if tuple(found) != expected:
                    sys.exit(f"{side.name} gave {found} (samples, bytes, sum of labels), {expected} are there")
            side.first_s.append(first[1])
            side.wall_s.append(second[1])
            side.cpu_s.append(second[2])


def limits(data: FrozenSet) -> list[tuple[str, float]]:
    """Return what nobody can beat on one core, in rows/s: names and rates."""
    num, rows = len(data), data.rows(np.arange(len(data)))
    stored = np.frombuffer(b"".join(rows), dtype=np.uint8)
    pixels = np.stack([data.decoded(place, row) for place, row in enumerate(rows[:BATCH])])
    tars = sorted(Path(data.store.location).glob("shards/*.tar"))
    target, copy = np.empty_like(stored), np.empty_like(pixels)
    buffer = bytearray(2**20)

    def decode(row: bytes) -> object:
        return decode_image(torch.frombuffer(bytearray(row), dtype=torch.uint8))

    def read() -> None:
        for tar in tars:
            with tar.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    works: list[tuple[str, int, Callable[[], object]]] = [
        ("reading the tars from end to end", num, read),
        ("copying the stored bytes in memory", num, lambda: np.copyto(target, stored)),
        ("copying pixels in memory", BATCH, lambda: np.copyto(copy, pixels)),
        ("decoding, as caskit does", num, lambda: [data.decoded(place, row) for place, row in enumerate(rows)]),
        ("decoding, as Pillow's users do", num, lambda: [decode_pillow(row) for row in rows]),
        ("decoding, by torchvision", num, lambda: [decode(row) for row in rows]),
    ]
    found = []
    for name, count, work in works:
        work()
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        found.append((name, count / max(statistics.median(times), 1e-9)))
    return found


def cases(forms: Forms, data: FrozenSet, workers: int) -> Iterator[tuple[str, list[Side]]]:
    """Make the sides of every comparison: its name, who takes part."""
    from readers.peers import PEERS

    def others(decoded: bool, count: int) -> list[Side]:
        return [Side(name=name, make=partial(make, forms, decoded, count)) for name, make in PEERS.items()]

    held = Side(name="caskit, rows held", make=partial(ours_stored, data, ("rows",)), promise="stored, rows held")
    yield (
        "stored bytes",
        [Side(name="caskit", make=partial(ours_stored, data, ()), promise="stored"), held, *others(False, 0)],
    )
    pixels = Side(
        name="caskit, pixels held", make=partial(ours_decoded, data, ("pixels",)), promise="decoded, pixels held"
    )
    plain = Side(name="caskit", make=partial(ours_decoded, data, ()), promise="decoded")
    yield "decoded", [plain, pixels, *others(True, 0)]
    if workers:
        name = f"decoded, {workers} workers"
        chosen = Side(name="caskit, processes", make=partial(ours_decoded, data, (), workers=workers), promise=name)
        threads = Side(name="caskit, threads", make=partial(ours_decoded, data, (), threads=workers), promise="")
        threads.promise = f"{name}, threads"
        yield name, [chosen, threads, *others(True, workers)]


def compare(sides: list[Side], *, by_cpu: bool) -> dict[str, float]:
    """Return for each of ours the ratio to the best other one."""
    peers = [side for side in sides if not side.promise]
    found = {}
    for side in sides:
        if side.promise:
            clock = operator.attrgetter("cpu" if by_cpu else "wall")
            found[side.promise] = round(min(map(clock, peers)) / clock(side), 2)
    return found


def print_table(title: str, sides: list[Side], num: int) -> None:
    """Print what every side did, in rows a second."""
    print(f"\n**{title}**\n\n| reader | rows/s | rows per CPU second | first epoch, rows/s |\n|---|---|---|---|")
    for side in sides:
        rates = (num / seconds for seconds in (side.wall, side.cpu, statistics.median(side.first_s)))
        print(f"| {side.name} | {' | '.join(f'{rate:,.0f}' for rate in rates)} |", flush=True)


def install_peers(folder: Path | None) -> Path:
    """Return a folder with the other readers in it, made now if there is none."""
    if folder is None:
        digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"caskit-peers-{digest}"
    done = folder / "complete"
    if not done.exists() and not (folder / "litdata").exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, "-r", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
        done.touch()
    return folder


def main() -> None:
    """Measure, print tables and the JSON line."""
    parser = argparse.ArgumentParser(description="caskit's reader of a frozen set against other readers.")
    parser.add_argument("--short", action="store_true", help="few images and epochs, no worker processes")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="folder with the other readers")
    parser.add_argument("--workers", type=int, default=2, help="of the comparison with workers (default 2)")
    options = parser.parse_args()
    peers = install_peers(options.peers)
    sys.path.insert(0, str(peers))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(peers), os.environ.get("PYTHONPATH", "")])
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    nums, rounds = ({32: 1536, 256: 256}, 3) if options.short else ({32: 20480, 256: 3328}, 5)
    workers = 0 if options.short else options.workers
    names = ("litdata", "mosaicml-streaming", "webdataset", "timm", "torchvision", "torch", "pillow", "numpy")
    print("# Reading a frozen set beside other readers\n")
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},")
    print(f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in names)}.")
    print(f"Command: `{this_command()}`. Medians of {rounds} epochs, one thread a side.", flush=True)
    ratios: dict[str, float] = {}
    for side, num in nums.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
            forms = write_forms(Path(root), side, num)
            data = open_set(str(forms.set))
            stored = data.stored_bytes
            print(f"\n## {num:,} images of {side}x{side}, {stored / num:,.0f} stored bytes each\n")
            for name, rate in limits(data):
                print(f"- {name}: {rate:,.0f} rows/s")
            labels = int(data.labels.sum())
            for name, sides in cases(forms, data, workers):
                size = stored if name == "stored bytes" else num * side * side * 3
                measure(sides, (num, size, labels), rounds)
                by_cpu = "workers" not in name
                print_table(f"{side} px, {name}", sides, num)
                found = compare(sides, by_cpu=by_cpu)
                ratios |= {f"{side} px, {case}": ratio for case, ratio in found.items()}
    promised = {case: PROMISES[case.split(", ", 1)[1]] for case in ratios if case.split(", ", 1)[1] in PROMISES}
    kept = min(ratios[case] / promise for case, promise in promised.items())
    result = {"ratio": min(ratios[case] for case in promised), "of_promise": round(kept, 2), "cases": ratios}
    print("\n" + json.dumps(result))
    sys.exit(0 if kept >= 1 else 1)


if __name__ == "__main__":
    main()
