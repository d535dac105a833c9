"""How cost grows: time and memory of sampling, freezing and verifying against images, and against workers.

Run: python benchmarks/growth.py [--million DIR] [--work DIR] > benchmarks/growth.md (five minutes on two quiet cores;
`--short` within two). Sets of 10,000 and 100,000 images are made as million.py makes its own, without kills: by
`caskit sample` on Ray, `caskit freeze` and `caskit verify`, each a process of its own. The largest size, 1,281,167, is
read from the folder of a finished million.py run (`--million`). Printed are the exponents, the slopes of straight lines
through the logarithms: 1 is growth in proportion, 0 is none. Times are seconds of processors, which other work on the
machine lengthens little; of a process its start, imports above all, is in them. How freeze and verify grow with the
number of shards is measured by scale_manifest.py. The last line is one JSON object.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from commandline import this_command
from million import MB, Run, driver_memory, write_checkpoint
from scale_manifest import exponent
from watching import Ended, kill_all

from caskit.shards.store import LocalStore

SIZES = (10_000, 100_000)
PHASES = ("freeze", "quick", "full")


def make(work: Path, images: int, workers: int) -> Run:
    """Sample, freeze and verify a set of some images; what is done already is only read."""
    run = Run(work, images=images, per_shard=min(1000, images // 10), num_kills=0, workers=workers)
    write_checkpoint(run)
    run.sample()
    run.phase("freeze", "freeze", str(run.out))
    run.phase("quick", "verify", str(run.out), "--level", "quick")
    run.phase("full", "verify", str(run.out), "--level", "full")
    kill_all(run.mark)
    return run


def finished(work: Path) -> Run:
    """Open the folder of a finished million.py run."""
    state = work / "state.json"
    if not state.is_file():
        sys.exit(f"{state}: no such file, million.py has not run there")
    asked = json.loads(state.read_text())["asked"]
    names = {"images": "images", "per_shard": "per_shard", "kills": "num_kills", "workers": "workers"}
    run = Run(work, **{name: asked[key] for key, name in names.items()})
    if any(name not in run.state["phases"] for name in ("sample", *PHASES)):
        sys.exit(f"{state}: the run is not finished; the same command of million.py goes on")
    return run


def costs(run: Run) -> dict[str, float]:
    """Return what a run took: seconds of processors by phase, peaks of memory in MB."""
    from caskit.gen.workload import summarise

    done, ends = summarise(LocalStore(run.out)), {name: Ended(**run.state["phases"][name]) for name in PHASES}
    _, driver, _ = driver_memory(run)
    workers = max(look["worker_peak"] for one in run.state["runs"] for look in one["looks"]) / MB
    return {
        "sample, s": done.processor_s,
        **{f"{name}, s": ended.processor_s for name, ended in ends.items()},
        "driver, MB": driver,
        "worker, MB": workers,
        **{f"{name}, MB": ended.peak / MB for name, ended in ends.items()},
    }


def print_table(columns: dict[str, dict[str, float]], slopes: dict[str, float]) -> None:
    """Print costs by what they belong to, and the exponents."""
    print("| | " + " | ".join(columns) + " | exponent |\n|---" + "|---" * (len(columns) + 1) + "|")
    for name in next(iter(columns.values())):
        values = " | ".join(f"{column[name]:,.1f}" for column in columns.values())
        print(f"| {name} | {values} | {slopes[name]:.2f} |")
    print()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", type=Path, metavar="DIR", help="work folder of a finished million.py run")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the sets here, and go on with what is there")
    parser.add_argument("--short", action="store_true", help="2,000 and 8,000 images, one worker and two")
    options = parser.parse_args()
    sizes = (2000, 8000) if options.short else SIZES
    work = options.work or Path(tempfile.mkdtemp(prefix="g-"))
    try:
        runs = {images: make(work / f"n{images}", images, 2) for images in sizes}
        if options.million is not None:
            large = finished(options.million)
            runs[large.images] = large
        alone = make(work / "w1", sizes[-1], 1)
        by_images = {f"{images:,} images": costs(run) for images, run in runs.items()}
        by_workers = {"1 worker": costs(alone), "2 workers": costs(runs[sizes[-1]])}
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    slopes: dict[str, dict[str, float]] = {}
    for label, numbers, columns in (
        ("images", list(runs), list(by_images.values())),
        ("workers", [1, 2], list(by_workers.values())),
    ):
        slopes[label] = {name: exponent(numbers, [column[name] for column in columns]) for name in columns[0]}
    print("# How cost grows\n")
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},")
    print(f"Python {platform.python_version()}. Seconds of processors, peaks of memory in MB; the driver's and the")
    print(f"workers' are of sampling. Command: `{this_command()}`.\n")
    print_table(by_images, slopes["images"])
    print(f"Against workers, {sizes[-1]:,} images:\n")
    print_table(by_workers, slopes["workers"])
    facts: dict[str, Any] = {
        "images": list(runs),
        "time_exponents": {name[:-3]: round(value, 2) for name, value in slopes["images"].items() if name[-2:] == " s"},
        "driver_memory_exponent": round(slopes["images"]["driver, MB"], 3),
        "driver_memory_exponent_workers": round(slopes["workers"]["driver, MB"], 3),
        "freeze_memory_exponent": round(slopes["images"]["freeze, MB"], 2),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
