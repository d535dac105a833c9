"""`caskit duplicates` on whole sets: seconds, processor seconds and peak memory of a process of its own.

Run: python benchmarks/duplicates_scale.py SET --real-train SET --real-test SET [--extractor NAME --weights FILE]. Every
image of the set is compared with every other one of it, with all training and all test images, and the null's images
among themselves. The result is added to benchmarks/duplicates_scale.md; the last line printed is JSON, {"seconds",
"processor_seconds", "peak_mb", "pairs"}. `--short` looks at the first 2,000 images and writes no file.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULT = Path(__file__).with_suffix(".md")
SHORT = 2000
MEASURED = """
import json, sys
from pathlib import Path
from caskit import cli
code = cli.main(sys.argv[2:])
lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
Path(sys.argv[1]).write_text(json.dumps({"code": code, "peak_kib": peak}))
"""


def num_pairs(record: dict[str, object]) -> int:
    """Return how many pairs of images were compared by pixels."""
    ours, train, test = (
        0 if record[name] is None else int(record[name]["num"])  # type: ignore[index]
        for name in ("set", "real_train", "real_test")
    )
    null = int(record["method"]["null_images"])  # type: ignore[index]
    within = min(null, train, ours) * min(train, ours) if train else 0
    return ours * (ours + train + test) + within + (min(null, test) * train if train and test else 0)


def main() -> None:
    """Measure, print, and add the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("--real-train", required=True)
    parser.add_argument("--real-test", required=True)
    parser.add_argument("--extractor")
    parser.add_argument("--weights")
    parser.add_argument("--first", type=int, metavar="N", help="look at the first N images of the set only")
    parser.add_argument("--short", action="store_true", help=f"the first {SHORT:,} images; no file is written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="caskit-duplicates-") as temporary:
        folder = Path(temporary)
        words = ["duplicates", arguments.set, "--device", "cpu", "--out", str(folder / "out")]
        words += ["--real-train", arguments.real_train, "--real-test", arguments.real_test]
        if arguments.extractor is not None:
            words += ["--extractor", arguments.extractor, "--weights", str(arguments.weights)]
        first = SHORT if arguments.short else arguments.first
        words += [] if first is None else ["--first", str(first)]
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(folder / "measured.json"), *words], capture_output=True, text=True
        )
        seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if not (folder / "out" / "duplicates.json").is_file():
            raise SystemExit(done.stderr[-2000:])
        measured = json.loads((folder / "measured.json").read_bytes())
        record = json.loads((folder / "out" / "duplicates.json").read_bytes())
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_mb = (measured["peak_kib"] or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024 / 1e6
    pairs, method = num_pairs(record), record["method"]
    faults = [one["message"] for one in record["findings"] if one["level"] == "fault"]
    text = (
        f"{record['images']['num']:,} images at {method['side']} x {method['side']} x {method['channels']} beside "
        f"{record['real_train']['num']:,} and {record['real_test']['num']:,} real ones"
        f"{'' if arguments.extractor is None else ', features of ' + record['features']['title']}: {pairs:.3g} pairs, "
        f"{seconds:.0f} s ({processor_s:.0f} s of processor time), peak {peak_mb:.0f} MB. Faults: "
        f"{' '.join(faults) or 'none'}\n"
    )
    print(text)
    if not arguments.short:
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        head = (
            f"\n## {datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, {threads} threads, "
            f"load {os.getloadavg()[0]:.1f}, python {platform.python_version()}, numpy {np.__version__}\n\n"
        )
        old = RESULT.read_text(encoding="utf-8") if RESULT.exists() else "# The search for copies on whole sets\n"
        RESULT.write_text(old + head + text, encoding="utf-8")
    found = {"seconds": round(seconds, 1), "processor_seconds": round(processor_s, 1), "peak_mb": round(peak_mb)}
    print(json.dumps({**found, "pairs": pairs}))


if __name__ == "__main__":
    main()
