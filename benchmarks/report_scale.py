"""Statistics and report at the size of ImageNet: 50,000 test images, 1000 classes, three training seeds beside Real.

Run: python benchmarks/report_scale.py. Predictions are simulated. What is timed is a process of its own, imports
included, that reads six files of predictions and makes six score.json (every bootstrap, McNemar's test, decisions on a
thousand classes), the intervals of `caskit cas` over three seeds, and the report of the three scores; its peak memory
is its own. The result goes into benchmarks/report_scale.md; the last line printed is JSON, {"seconds", "peak_mb"}.
Aim: below 60 s and 2 GB. `--short` (a tenth of the classes) writes no file.
"""

import argparse
import contextlib
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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caskit.manifests.classes import ClassList

RESULT = Path(__file__).with_suffix(".md")
PER_CLASS, NUM_CLASSES, NUM_SEEDS = 50, 1000, 3
LIMIT_S, LIMIT_MB = 60, 2000


def simulate(path: Path, num_classes: int, *, skill: float, seed: int) -> None:
    """Write the predictions of a classifier: images differ in difficulty, classes too, and answers are consistent."""
    from caskit.evaluate.predict import PREDICTION_SCHEMA

    generator = np.random.default_rng(seed)
    world = np.random.default_rng(1)  # the same images for all
    num, classes = num_classes * PER_CLASS, class_list(num_classes)
    labels = np.repeat(np.arange(num_classes), PER_CLASS)
    logits = skill + world.normal(0, 0.8, num_classes)[labels] + world.normal(0, 1.5, num)
    logits[labels % 50 == 7] -= 6 * (skill < 0.5)  # some classes collapse in the weaker one
    chance = 1 / (1 + np.exp(-logits))
    ranks = np.where(generator.random(num) < chance, 0, generator.geometric(0.25, num))
    ranks = np.minimum(ranks, num_classes - 1)
    first = np.sort(generator.dirichlet(np.full(6, 0.6), num)[:, :5] * 0.98 + 1e-4, axis=1)[:, ::-1]
    offsets = np.argsort(generator.random((num, 20)), axis=1)[:, :5] + 1  # five other classes, all different
    ids = (labels[:, None] + offsets) % num_classes
    inside = ranks < 5
    ids[inside, ranks[inside]] = labels[inside]
    own = np.where(inside, first[np.arange(num), np.minimum(ranks, 4)], first[:, -1] * 0.1)
    columns = [
        pa.array(
            [f"{classes.ids[label]}_{number % PER_CLASS:06d}" for number, label in enumerate(labels)], pa.string()
        ),
        pa.array(labels, pa.int64()),
        pa.array(ranks, pa.int64()),
        pa.array(np.log(own), pa.float64()),
        pa.array((first**2).sum(axis=1), pa.float64()),
        pa.array(list(ids), pa.list_(pa.int64())),
        pa.array(list(np.log(first)), pa.list_(pa.float64())),
    ]
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_arrays(columns, schema=PREDICTION_SCHEMA), path)


def class_list(num_classes: int) -> ClassList:
    """Return classes as ImageNet's ids are."""
    ids = tuple(f"n{1440764 + 3 * label:08d}" for label in range(num_classes))
    return ClassList(ids=ids, names=tuple(f"kind of thing {label}" for label in range(num_classes)))


def write_score(folder: Path, classes: ClassList, *, seed: int, real: Path | None) -> dict[str, Any]:
    """Write score.json beside predictions as `caskit score` does, of sets that are nowhere."""
    from caskit.evaluate.baseline import baseline_predictions
    from caskit.evaluate.numbers import score_numbers
    from caskit.evaluate.predict import PREDICTIONS_NAME, read_predictions
    from caskit.evaluate.score import read_score, score_id
    from caskit.shards.digest import sha256_file

    def described(name: str, kind: str) -> dict[str, Any]:
        generator = {"family": "simulated", "preset": "scale", "seed": 0} if kind == "synthetic" else None
        ids = dict.fromkeys(("replica_id", "content_root", "set_id"), name[0] * 64)
        return {**ids, "kind": kind, "num": 1_281_167, "dataset": "imagenet", "split": None, "generator": generator}

    record: dict[str, Any] = {
        "format_version": 1,
        "metric": "real" if real is None else "CAS",
        **score_numbers(
            read_predictions(folder / PREDICTIONS_NAME),
            classes,
            real=None if real is None else {**read_score(real), "location": str(real)},
            real_predictions=None if real is None else baseline_predictions(real),
        ),
        "classifier": {
            "classifier_id": f"{seed:x}" * 64,
            "recipe": "simulated",
            "recipe_id": "e" * 64,
            "seed": seed,
            "train": described("a", "real" if real is None else "synthetic"),
        },
        "test": described("f", "real"),
        "class_list_sha256": classes.digest,
        "predictions_sha256": sha256_file(folder / PREDICTIONS_NAME),
        "caveats": [],
        "versions": {},
    }
    record["score_id"] = score_id(record)
    (folder / "score.json").write_text(json.dumps(record, indent=2, sort_keys=True))
    return record


def measure(root: Path, num_classes: int) -> None:
    """Make every score, the intervals over seeds, and the report; print the peak memory."""
    from caskit.evaluate.cas import cas_numbers
    from caskit.evaluate.report import write_report
    from caskit.evaluate.rows import Scored

    classes, rows, folders = class_list(num_classes), {"real": [], "synthetic": []}, []  # type: ignore[var-annotated]
    for seed in range(NUM_SEEDS):
        real = root / f"real/seed-{seed}/score"
        for name, beside in (("real", None), ("synthetic", real)):
            folder = root / f"{name}/seed-{seed}/score"
            record = write_score(folder, classes, seed=seed, real=beside)
            rows[name].append(Scored(seed=seed, folder=folder, record=record, num=1_281_167, real=beside))
        folders.append(folder)
    (root / "cas.json").write_text(json.dumps(cas_numbers(rows, root, sampling_seeds={})))
    write_report(folders, root / "report.html")
    print(json.dumps({"peak_mb": peak_mb(), "report_mb": (root / "report.html").stat().st_size / 1e6}))


def peak_mb() -> float:
    """Return the peak memory of this process; what rusage says may be a parent's on Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def main() -> None:
    """Simulate, measure in another process, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tenth of the classes; no file is written")
    parser.add_argument("--work", metavar="DIR", help="keep predictions, scores and the page there")
    parser.add_argument("--measure", metavar="DIR", help="used by the script itself: the timed part")
    arguments = parser.parse_args()
    num_classes = NUM_CLASSES // 10 if arguments.short else NUM_CLASSES
    if arguments.measure is not None:
        measure(Path(arguments.measure), num_classes)
        return
    with contextlib.ExitStack() as stack:
        folder = arguments.work or stack.enter_context(tempfile.TemporaryDirectory())
        for seed in range(NUM_SEEDS):
            for name, skill in (("real", 1.9), ("synthetic", 0.4)):
                path = Path(folder) / f"{name}/seed-{seed}/score/predictions.parquet"
                simulate(path, num_classes, skill=skill, seed=2 * seed + (name == "real"))
        command = [sys.executable, __file__, "--measure", folder, *(["--short"] if arguments.short else [])]
        started, usage = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    found = json.loads(done.stdout.splitlines()[-1])
    text = (
        f"{num_classes * PER_CLASS:,} predictions over {num_classes:,} classes, {2 * NUM_SEEDS} scores of {NUM_SEEDS} "
        f"training seeds: {seconds:.1f} s ({processor_s:.1f} s of processor time), peak {found['peak_mb']:.0f} MB, "
        f"report {found['report_mb']:.1f} MB. Aim: below {LIMIT_S} s and {LIMIT_MB} MB.\n"
    )
    print(text)
    if not arguments.short:
        head = (
            f"# Statistics and report at ImageNet's size\n\n{datetime.date.today()}, {platform.machine()}, "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, python {platform.python_version()}, "
            f"numpy {np.__version__}.\nCommand: `python benchmarks/report_scale.py`.\n"
        )
        RESULT.write_text(f"{head}\n{text}", encoding="utf-8")
    print(json.dumps({"seconds": round(seconds, 1), "peak_mb": round(found["peak_mb"])}))


if __name__ == "__main__":
    main()
