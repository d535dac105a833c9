"""Freeze and verify of sets with many shards and rows, without a generator: the commit log is fabricated.

Run: python benchmarks/scale_manifest.py [--shards 1281,100000x10] [--per-shard 1000] [--short]. For every size, here
1281 shards of 1000 samples and 100000 of 10, a plan over 1000 classes is written with its commits, the rows with the
stream keys that the plan gives and invented digests, and tars that are holes of the size that the rows ask for:
neither `freeze` nor `verify --level quick` reads them. Both run as processes of their own; their seconds, processor
seconds and peak memory are printed, with the exponents of their growth by rows over the sizes that have as many samples
in a shard as the largest. The last line is one JSON object.
"""

import argparse
import datetime
import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from watching import Ended, kill_all, watch

from caskit.manifests.classes import ClassList, sample_key
from caskit.manifests.codec import Codec
from caskit.manifests.plan import Plan
from caskit.manifests.quota import balanced
from caskit.manifests.rows import table_of
from caskit.manifests.seeds import stream_key
from caskit.shards.commit import COMMITS, CommitInfo, commit_bytes, commit_name, rows_digest, shard_name, shard_path
from caskit.shards.tar import layout

NUM_CLASSES = 1000
MB = 1e6


def write_log(root: Path, num_shards: int, per_shard: int) -> None:
    """Write the plan, the commits and the tars of a set that is all committed and not frozen."""
    classes = ClassList.from_names([f"class {label}" for label in range(NUM_CLASSES)])
    quota = balanced(num_shards * per_shard, NUM_CLASSES, 0)
    plan = Plan(
        classes=classes,
        family="biggan_deep",
        preset="fabricated",
        checkpoint_id="0" * 64,
        sampler={},
        sampler_version=1,
        quota="balanced",
        histogram=quota.histogram,
        seed=0,
        height=32,
        width=32,
        channels=3,
        codec=Codec.of("png"),
        samples_per_shard=per_shard,
        microbatch_size=min(per_shard, 250),
    )
    (root / COMMITS).mkdir(parents=True)
    (root / "shards").mkdir()
    (root / "plan.json").write_bytes(plan.to_bytes())
    plan_id, sizes = plan.plan_id, np.random.default_rng(0)
    for shard in range(num_shards):
        start, stop = plan.shard_range(shard)
        labels, ordinals = plan.draw_order.assign(start, stop)
        nbytes = sizes.integers(1500, 2000, stop - start)
        offsets, size = layout(nbytes)
        places = list(zip(labels.tolist(), ordinals.tolist(), strict=True))
        columns: dict[str, Any] = {
            "key": [sample_key(classes.ids[label], ordinal) for label, ordinal in places],
            "sample_id": np.arange(start, stop),
            "label": labels,
            "ordinal": ordinals,
            "shard": np.full(stop - start, shard),
            "index_in_shard": np.arange(stop - start),
            "tar_offset": offsets,
            "nbytes": nbytes,
            "width": np.full(stop - start, 32),
            "height": np.full(stop - start, 32),
            "image_sha256": [hashlib.sha256(struct.pack(">Q", number)).digest() for number in range(start, stop)],
            "stream_key": [stream_key(0, label, ordinal, 0) for label, ordinal in places],
            "attempt": np.zeros(stop - start, dtype=np.int64),
        }
        rows = table_of(columns, stop - start)
        info = CommitInfo(
            shard=shard,
            plan_id=plan_id,
            tar_name=shard_name(shard),
            tar_size=size,
            tar_sha256=hashlib.sha256(struct.pack(">Q", shard)).hexdigest(),
            rows_digest=rows_digest(rows),
            environment_id="",
        )
        (root / commit_name(shard)).write_bytes(commit_bytes(rows, info))
        with (root / shard_path(shard)).open("wb") as file:
            file.truncate(size)


def measure(num_shards: int, per_shard: int, parent: Path | None) -> dict[str, Ended]:
    """Fabricate, freeze and verify one set."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir=parent) as folder:
        root = Path(folder) / "set"
        began = time.monotonic()
        write_log(root, num_shards, per_shard)
        print(f"fabricated {num_shards:,} shards in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        found = {}
        for name, words in (("freeze", ("freeze",)), ("quick", ("verify", "--level", "quick"))):
            log = Path(folder) / f"{name}.log"
            found[name] = watch((words[0], str(root), *words[1:]), mark=folder, log=log)
            if found[name].code:
                sys.exit(f"{name} of {num_shards} shards ended with {found[name].code}: {log.read_text()[-500:]}")
        kill_all(folder)
    return found


def exponent(numbers: list[int], values: list[float]) -> float:
    """Return the slope of the straight line through the logarithms; 1 is growth in proportion, 0 is none."""
    return float(np.polyfit(np.log(numbers), np.log(values), 1)[0])


def size_of(text: str, per_shard: int) -> tuple[int, int]:
    """Return shards and samples in each, from `NUMBER` or `NUMBERxSAMPLES`."""
    shards, _, samples = text.partition("x")
    return int(shards), int(samples or per_shard)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shards", default="128,1281,10000", help="numbers of shards, each perhaps with xSAMPLES, with commas"
    )
    parser.add_argument("--per-shard", type=int, default=1000)
    parser.add_argument("--work", type=Path, help="where the sets are fabricated (default: the temporary folder)")
    parser.add_argument("--short", action="store_true", help="16 and 64 shards of 100 samples")
    options = parser.parse_args()
    if options.short:
        options.shards, options.per_shard = "16,64", 100
    if shutil.disk_usage(options.work or tempfile.gettempdir()).free < 2**30:
        parser.error("less than a gigabyte of disk is free")
    sizes = [size_of(text, options.per_shard) for text in options.shards.split(",")]
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f},", end=" ")
    print(f"Python {sys.version.split()[0]}, pyarrow {pa.__version__}.\n")
    print("| shards | rows | | wall, s | processor, s | us a row | peak, MB |\n|---|---|---|---|---|---|---|")
    found: dict[str, list[Ended]] = {"freeze": [], "quick": []}
    for num, per_shard in sizes:
        rows = num * per_shard
        for name, ended in measure(num, per_shard, options.work).items():
            found[name].append(ended)
            each = 1e6 * ended.processor_s / rows
            print(f"| {num:,} | {rows:,} | {name} | {ended.wall_s:.1f} | {ended.processor_s:.1f} |", end=" ")
            print(f"{each:.1f} | {ended.peak / MB:.0f} |", flush=True)
    largest = max(range(len(sizes)), key=lambda n: (sizes[n][0] * sizes[n][1], n))
    alike = [n for n, (_, per_shard) in enumerate(sizes) if per_shard == sizes[largest][1]]
    rows_alike = [sizes[n][0] * sizes[n][1] for n in alike]
    facts: dict[str, Any] = {"rows": rows_alike[-1], "load": round(os.getloadavg()[0], 1)}
    for name, ends in found.items():
        facts[f"{name}_s"] = round(ends[largest].wall_s, 1)
        facts[f"{name}_peak_mb"] = round(ends[largest].peak / MB)
        if len(alike) > 1:
            seconds, peaks = [ends[n].processor_s for n in alike], [float(ends[n].peak) for n in alike]
            facts[f"{name}_time_exponent"] = round(exponent(rows_alike, seconds), 2)
            facts[f"{name}_memory_exponent"] = round(exponent(rows_alike, peaks), 2)
            facts[f"{name}_bytes_a_row"] = round((peaks[-1] - peaks[0]) / (rows_alike[-1] - rows_alike[0]), 1)
    print("\n" + json.dumps(facts))


if __name__ == "__main__":
    main()
