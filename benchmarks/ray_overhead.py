"""What Ray costs: the same plan sampled by the inline loop, by one Ray worker and by two.

Run: python benchmarks/ray_overhead.py (ten minutes on a quiet machine), or `--short`. Each run is a process of its own,
`caskit sample`, into a new folder; the three take turns. The last line printed is one JSON object: `overhead` is the
share of images a second that one Ray worker does less than the inline loop, `speedup2` how many times one worker two
are: medians over the rounds, by the clock, from a run's first shard to its last as the runs recorded it. What Ray takes
to start is printed apart. `overhead_by_processor` compares what an image cost the worker's processor, which other work
on the machine changes less.

The generator is the packaged `biggan_deep:fashion-mnist`, a real network at one thread a worker; all replicas must come
out with one id.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from commandline import this_command

from caskit.gen.workload import Workload, summarise
from caskit.shards.store import LocalStore

SIDES = {
    "inline": ("--executor", "inline"),
    "ray, 1 worker": ("--workers", "1"),
    "ray, 2 workers": ("--workers", "2"),
}
GENERATOR = "biggan_deep:fashion-mnist"


def run(folder: Path, num: int, per_shard: int, flags: tuple[str, ...]) -> tuple[Workload, float, str]:
    """Sample once; returns what the run recorded, its seconds from start to end, and the replica's id."""
    command = [sys.executable, "-m", "caskit", "sample", "--gen", GENERATOR, "--num", str(num), "--seed", "0"]
    command += ["--samples-per-shard", str(per_shard), "--out", str(folder), *flags]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    seconds = time.perf_counter() - began
    store = LocalStore(folder)
    return summarise(store), seconds, done.stdout.split("@sha256:")[1][:16]


def main() -> None:
    """Measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description="Ray beside the inline loop.")
    parser.add_argument("--short", action="store_true", help="fewer images, one round")
    options = parser.parse_args()
    num, per_shard, rounds = (1200, 100, 1) if options.short else (12000, 500, 3)
    print("# Ray beside the inline loop\n")
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},")
    print(f"Python {platform.python_version()}, torch {version('torch')}, ray {version('ray')}.")
    print(f"Command: `{this_command()}`. {num:,} images of {GENERATOR}, {per_shard} a shard,", end=" ")
    print(f"medians of {rounds} rounds.\n", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    costs: dict[str, list[float]] = {name: [] for name in SIDES}
    before: dict[str, list[float]] = {name: [] for name in SIDES}
    busy: dict[str, list[float]] = {name: [] for name in SIDES}
    ids = set()
    for number in range(rounds):
        names = list(SIDES)
        for name in names[number % 3 :] + names[: number % 3]:
            with tempfile.TemporaryDirectory() as root:
                found, seconds, replica = run(Path(root) / "replica", num, per_shard, SIDES[name])
            ids.add(replica)
            rates[name].append(found.images_per_s)
            costs[name].append(found.processor_s / found.num_images)
            before[name].append(seconds - found.wall_s)
            busy[name].append(found.busy)
    if len(ids) != 1:
        sys.exit(f"one plan gave several replicas: {', '.join(sorted(ids))}")
    print("| | img/s | worker's processor, ms an image | busy | rest of the run (imports, Ray's start, freeze) |")
    print("|---|---|---|---|---|")
    rate, cost = ({name: statistics.median(values) for name, values in side.items()} for side in (rates, costs))
    for name in SIDES:
        share, rest = statistics.median(busy[name]), statistics.median(before[name])
        print(f"| {name} | {rate[name]:,.1f} | {1000 * cost[name]:.3f} | {share:.1%} | {rest:.1f} s |")
    inline, one, two = SIDES
    print(
        json.dumps(
            {
                "overhead": round(1 - rate[one] / rate[inline], 4),
                "speedup2": round(rate[two] / rate[one], 3),
                "overhead_by_processor": round(cost[one] / cost[inline] - 1, 4),
                "load": round(os.getloadavg()[0], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
