"""Peak memory of `caskit data imagenet` over a number of images and ten times that many.

    python benchmarks/ingest_memory.py [--num 1000] [--short]

Fabricates the training tar (a tar of class tars) and Hugging Face's Parquet files, ingests each at 64x64 in a process
of its own, and prints that process's peak (VmHWM) and CPU seconds. What grows with the images is what is kept of each:
where it lies, its row, its digest; never its pixels. The last line is JSON; `bytes_per_image` is the larger growth.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from caskit.shards.sources.imagenet import imagenet_classes

CHILD = """
import sys, time
from caskit.cli import main
code = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("PEAK", code, int(peak.split()[1]) * 1024, time.process_time())
"""
DISTINCT = 50  # images that are cycled through


def images() -> list[bytes]:
    """Return JPEGs of about 8 KB, 160x120."""
    noise, made = np.random.default_rng(0), []
    for _ in range(DISTINCT):
        small = Image.fromarray(noise.integers(0, 256, (15, 20, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((160, 120), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
        made.append(buffer.getvalue())
    return made


def write_tar(folder: Path, num: int) -> None:
    """Write a training tar of `num` images, evenly over as many classes as there are."""
    data, ids = images(), imagenet_classes().ids
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for label, wnid in enumerate(ids[: min(num, len(ids))]):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for number in range(label, num, len(ids)):
                    info = tarfile.TarInfo(f"{wnid}_{number}.JPEG")
                    info.size = len(data[number % DISTINCT])
                    inner.addfile(info, io.BytesIO(data[number % DISTINCT]))
            info = tarfile.TarInfo(f"{wnid}.tar")
            info.size = len(buffer.getvalue())
            outer.addfile(info, io.BytesIO(buffer.getvalue()))


def write_parquet(folder: Path, num: int) -> None:
    """Write Parquet files of at most 5,000 rows, 100 a row group."""
    data = images()
    for part, start in enumerate(range(0, num, 5000)):
        rows = range(start, min(start + 5000, num))
        column = [{"bytes": data[row % DISTINCT], "path": f"{row}.JPEG"} for row in rows]
        table = pa.table({"image": column, "label": pa.array([row % 1000 for row in rows], type=pa.int64())})
        pq.write_table(table, folder / f"train-{part:05d}.parquet", row_group_size=100)


def measure(folder: Path, out: Path, cache: Path) -> tuple[float, float]:
    """Return peak bytes and CPU seconds of one ingest."""
    words = ["data", "imagenet", "--from", str(folder), "--partial", "--resolution", "64", "--out", str(out)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", CHILD, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    _, code, peak, seconds = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    return float(peak), float(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=1000, help="images; the larger input has ten times as many")
    parser.add_argument("--short", action="store_true", help="100 and 1,000 images")
    arguments = parser.parse_args()
    few = 100 if arguments.short else arguments.num
    python = sys.version.split()[0]
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {python}")
    print("\n| layout | images | peak, MB | CPU seconds |\n|---|---|---|---|")
    growth = []
    for layout, write in (("tar of tars", write_tar), ("Parquet", write_parquet)):
        peaks = []
        for num in (few, 10 * few):
            with tempfile.TemporaryDirectory(prefix="ingest-") as scratch:
                folder = Path(scratch, "in")
                folder.mkdir()
                write(folder, num)
                peak, seconds = measure(folder, Path(scratch, "out"), Path(scratch, "cache"))
            peaks.append(peak)
            print(f"| {layout} | {num:,} | {peak / 1e6:.0f} | {seconds:.1f} |", flush=True)
        growth.append((peaks[1] - peaks[0]) / (9 * few))
    print()
    print(json.dumps({"num": 10 * few, "bytes_per_image": round(max(growth))}))


if __name__ == "__main__":
    main()
