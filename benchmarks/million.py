"""1,281,167 images of 1000 classes: sampled on Ray, killed five times, frozen, verified, compared with a second run.

Run: python benchmarks/million.py --work DIR > benchmarks/million.md (half an hour on two quiet cores and 6 GB of disk;
`--images N` for fewer; `--short` within a minute). Killed or stopped, the same command goes on: what is done stands in
DIR/state.json. Progress goes to stderr; the last line printed is one JSON object.

The images are 32x32, drawn by a BigGAN-deep with random weights (small_biggan.py) through `caskit sample`, by Ray with
two workers. Five times, when a random number of shards is there and a random moment more has gone by, everything that
the command started, Ray's daemons and workers with it, is killed by kill -9, and the same command is started again.
Then `caskit freeze` and `caskit verify` at both levels, each a process of its own.

The second run is never killed: the plan of the first tenth of the images (of a balanced plan sample i does not depend
on the number of samples, docs/format.md rule 2.2), drawn by the inline executor, frozen. It must be the first tenth of
the large set: every tar and every shard's rows by their digests, and its three roots, computed from the rows and tars
of the large set's first shards. Exits with 1 if it is not, or if the classes are not even.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from commandline import this_command
from watching import Ended, Family, kill_all, watch

from caskit.manifests.roots import content_root_of, packing_root, rows_root
from caskit.shards.commit import COMMITS, read_commit
from caskit.shards.records import Records, read_records
from caskit.shards.store import LocalStore

NUM_IMAGES, NUM_CLASSES = 1_281_167, 1000
PLAN = ("--seed", "0", "--set", "microbatch_size=250")
KILLED_BEFORE = 0.6  # of the shards: after the last kill one driver makes the rest, which shows whether it grows
LONGEST_WAIT_S = 3.0  # from the shard at which a kill is due, and
WAIT_S_PER_IMAGE = 1e-4  # no longer than this for all images, or few of them are all there before
MB = 1e6


class Run:
    """The work folder of one run, and what its state file remembers."""

    def __init__(self, work: Path, *, images: int, per_shard: int, num_kills: int, workers: int = 2) -> None:
        self.work, self.images, self.per_shard, self.workers = work.resolve(), images, per_shard, workers
        self.mark = str(self.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.out, self.prefix = self.work / "replica", self.work / "prefix"
        self.num_shards = -(-images // per_shard)
        asked = {"images": images, "per_shard": per_shard, "kills": num_kills, "workers": workers}
        self._file = self.work / "state.json"
        self.state: dict[str, Any] = {"asked": asked, "phases": {}, "runs": [], "kills": []}
        if self._file.exists():
            self.state = json.loads(self._file.read_text())
            if self.state["asked"] != asked:
                sys.exit(f"{self._file}: begun with {self.state['asked']}, now asked for {asked}; use another --work")
        moments = random.Random(0)
        last = int(KILLED_BEFORE * self.num_shards)
        longest = min(LONGEST_WAIT_S, WAIT_S_PER_IMAGE * images)
        self.moments = [
            (shards, moments.uniform(0, longest)) for shards in sorted(moments.sample(range(1, last), num_kills))
        ]

    def save(self) -> None:
        """Write the state file, whole or not at all."""
        scratch = self._file.with_suffix(".new")
        scratch.write_text(json.dumps(self.state, indent=1))
        os.replace(scratch, self._file)

    def tell(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)

    def num_committed(self) -> int:
        """Count the shards that are there."""
        folder = self.out / COMMITS
        return len(os.listdir(folder)) if folder.is_dir() else 0

    def variables(self) -> dict[str, str]:
        """Return what its processes have in their environment besides ours."""
        scratch = self.work / "ray"
        scratch.mkdir(exist_ok=True)
        short = {"TMPDIR": str(scratch)} if len(str(scratch)) <= 24 else {}
        # Ray's workers begin at niceness 15, at which other work on the machine leaves them next to nothing.
        return {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", **short}

    def phase(self, name: str, *words: str) -> Ended:
        """Run a command of caskit once; what was done before is only read back."""
        done = self.state["phases"].get(name)
        if done is None:
            self.tell(f"{name}: caskit {' '.join(words)}")
            kill_all(self.mark)
            ended = watch(words, mark=self.mark, log=self.work / f"{name}.log", variables=self.variables())
            if ended.code:
                sys.exit(f"{name} ended with {ended.code}, see {self.work}/{name}.log")
            done = self.state["phases"][name] = dataclasses.asdict(ended)
            self.save()
            self.tell(
                f"{name}: {ended.wall_s:.1f} s, {ended.processor_s:.1f} s of its processor, {ended.peak / MB:.0f} MB"
            )
        return Ended(**done)

    def sampling(self, out: Path, num: int, *words: str) -> tuple[str, ...]:
        """Return the command that samples `num` images."""
        plan = ("--gen", "biggan_deep", "--checkpoint", str(self.work / "checkpoint"), "--num", str(num), *PLAN)
        return ("sample", *plan, "--samples-per-shard", str(self.per_shard), "--no-freeze", "--out", str(out), *words)

    def sample(self) -> None:
        """Sample, with the kills that are due, until all shards are committed."""
        while not self.state["phases"].get("sample"):
            kill_all(self.mark)
            number, began = len(self.state["runs"]), self.num_committed()
            self.tell(f"sample, run {number}: {began} of {self.num_shards} shards are there")
            due = self.moments[len(self.state["kills"])] if len(self.state["kills"]) < len(self.moments) else None
            looks = Looks(self, number, due)
            words = self.sampling(self.out, self.images, "--workers", str(self.workers))
            ended = watch(words, mark=self.mark, log=self.work / "sample.log", seen=looks, variables=self.variables())
            run = {**dataclasses.asdict(ended), "from": began, "to": self.num_committed(), "looks": looks.kept()}
            self.state["runs"].append(run)
            if looks.killed_at is not None:
                self.state["kills"].append({"shards": looks.killed_at, "run": number})
            elif ended.code:
                sys.exit(f"caskit sample ended with {ended.code}, see {self.work}/sample.log")
            elif len(self.state["kills"]) < len(self.moments):
                sys.exit("the run ended before all kills were done: take more images")
            else:
                self.state["phases"]["sample"] = {"wall_s": sum(r["wall_s"] for r in self.state["runs"])}
            self.save()


class Looks:
    """Keeps what a sampling run's processes hold over time, and says when they are to be killed."""

    def __init__(self, run: Run, number: int, due: tuple[int, float] | None) -> None:
        self.run, self.number, self.due = run, number, due
        self.killed_at: int | None = None
        self._due_since: float | None = None
        self._told = time.monotonic()
        self._looks: list[dict[str, Any]] = []

    def __call__(self, family: Family) -> bool:
        """Keep a look; True when the moment to kill has come."""
        there = self.run.num_committed()
        driver, workers = family.driver, family.workers.values()
        if driver is not None:
            self._looks.append(
                {
                    "shards": there,
                    "driver": driver.now,
                    "driver_own": driver.own,
                    "driver_peak": driver.peak,
                    "worker_peak": max((worker.peak for worker in workers), default=0),
                    "others": family.others,
                }
            )
        if time.monotonic() - self._told > 60:
            self._told = time.monotonic()
            held = 0 if driver is None else driver.now / MB
            self.run.tell(
                f"{there} of {self.run.num_shards} shards, driver {held:.0f} MB, load {os.getloadavg()[0]:.1f}"
            )
        if self.due is None or there < self.due[0]:
            return False
        self._due_since = self._due_since or time.monotonic()
        if time.monotonic() - self._due_since < self.due[1]:
            return False
        self.killed_at = there
        self.run.tell(f"killed with {there} shards")
        return True

    def kept(self) -> list[dict[str, Any]]:
        """Return at most 200 looks, evenly; peaks are those of the kernel, so none is lost."""
        step = max(1, len(self._looks) // 200)
        return self._looks[::step] + self._looks[-1:]


def compare(run: Run) -> dict[str, Any]:
    """Compare the second run with the first shards of the large set; count the classes of both."""
    large, small = read_records(str(run.out)), read_records(str(run.prefix))
    unlike = [
        shard
        for shard in range(small.num_shards)
        if read_commit(large.store, shard)[1].identity != read_commit(small.store, shard)[1].identity
    ]
    first = large.manifest.filter(pc.less(large.manifest.column("shard"), small.num_shards))
    roots = {
        "content_root": content_root_of(first, NUM_CLASSES),
        "rows_root": rows_root(first),
        "packing_root": packing_root(large.shards[: small.num_shards]),
    }
    return {
        "replica_id": large.replica.replica_id,
        "prefix_id": small.replica.replica_id,
        "prefix_shards": small.num_shards,
        "unlike": unlike,
        "unlike_roots": [name for name, value in roots.items() if getattr(small.replica, name) != value],
        "class_counts": {str(count): classes for count, classes in sorted(class_counts(large).items())},
    }


def class_counts(records: Records) -> Counter[int]:
    """Return how many classes have how many images, by the rows."""
    labels = records.manifest.column("label").to_numpy()
    return Counter(np.bincount(labels, minlength=NUM_CLASSES).tolist())


def write_checkpoint(run: Run) -> None:
    """Write the checkpoint, in a process of its own, unless it is there."""
    if not (run.work / "checkpoint" / "checkpoint.json").exists():
        script = Path(__file__).with_name("small_biggan.py")
        subprocess.run([sys.executable, str(script), str(run.work / "checkpoint")], check=True)


def measure(run: Run) -> None:
    """Go through all phases that are not done."""
    write_checkpoint(run)
    run.state.setdefault("begun", f"{datetime.datetime.now():%Y-%m-%d %H:%M}")
    run.sample()
    run.phase("freeze", "freeze", str(run.out))
    run.phase("quick", "verify", str(run.out), "--level", "quick")
    run.phase("full", "verify", str(run.out), "--level", "full")
    tenth = max(run.images // 10, NUM_CLASSES)
    num = -(-tenth // run.per_shard) * run.per_shard
    run.phase("second run", *run.sampling(run.prefix, num, "--executor", "inline"))
    run.phase("second freeze", "freeze", str(run.prefix))
    if "compared" not in run.state:
        run.state["compared"] = compare(run)
        run.state["ended"] = f"{datetime.datetime.now():%Y-%m-%d %H:%M}"
        run.save()


def driver_memory(run: Run) -> tuple[dict[str, float], float, float]:
    """Return what the driver held at shares of the run, its peak, and by how much its last run grew, all in MB.

    Growth is counted from ten shards after the run's start, when all that is loaded once has been.
    """
    looks = [look for one in run.state["runs"] for look in one["looks"]]
    at = {
        f"{share:.0%}": min(looks, key=lambda look: abs(look["shards"] - share * run.num_shards))["driver"] / MB
        for share in (0.1, 0.5, 0.9)
    }
    last = run.state["runs"][-1]
    begun = [look for look in last["looks"] if look["shards"] >= last["from"] + 10] or last["looks"]
    return at, max(look["driver_peak"] for look in looks) / MB, (begun[-1]["driver"] - begun[0]["driver"]) / MB


def print_result(run: Run) -> int:
    """Print the result as Markdown, its last line as JSON; 1 if what must be equal is not."""
    from caskit.gen.workload import summarise

    state, found = run.state, run.state["compared"]
    phases = {name: Ended(**state["phases"][name]) for name in ("freeze", "quick", "full", "second run")}
    done = summarise(LocalStore(run.out))
    at, peak, growth = driver_memory(run)
    looks = [look for one in state["runs"] for look in one["looks"]]
    worker, own = (max(look[name] for look in looks) / MB for name in ("worker_peak", "driver_own"))
    wall = state["phases"]["sample"]["wall_s"]
    counts = {int(count) for count in found["class_counts"]}
    even = counts <= {run.images // NUM_CLASSES, -(-run.images // NUM_CLASSES)}
    equal = not found["unlike"] and not found["unlike_roots"]
    print(f"# {run.images:,} images of {NUM_CLASSES} classes\n")
    print(f"{state['begun']} to {state['ended']}, {platform.machine()}, {os.cpu_count()} cores, Python", end=" ")
    print(f"{platform.python_version()}, torch {version('torch')}, ray {version('ray')}, pyarrow {version('pyarrow')}.")
    print(f"Command: `{this_command()}`.\n")
    print("| | wall, s | its processor, s | peak memory, MB | load at its end |\n|---|---|---|---|---|")
    load = state["runs"][-1]["load"]
    print(f"| sampling, {run.workers} workers, {len(state['kills'])} times killed | {wall:,.0f} |", end=" ")
    print(f"{done.processor_s:,.0f} (workers) | {peak:.0f} (driver), {worker:.0f} (worker) | {load:.1f} |")
    for name, label in (("freeze", "freeze"), ("quick", "verify, quick"), ("full", "verify, full")):
        ended = phases[name]
        print(
            f"| {label} | {ended.wall_s:,.1f} | {ended.processor_s:,.1f} | {ended.peak / MB:.0f} | {ended.load:.1f} |"
        )
    print(f"\nSampled: {run.images / wall:,.0f} img/s of the whole time, restarts included;", end=" ")
    print(f"{done.images_per_s:,.0f} img/s while workers were at shards;", end=" ")
    print(f"{1e3 * done.processor_s / done.num_images:.2f} ms of a worker's processor an image.")
    drawn = done.num_images - run.images
    print(
        f"Killed with {', '.join(str(kill['shards']) for kill in state['kills'])} of {run.num_shards:,} shards", end=" "
    )
    print(f"there; {drawn:,} images were drawn that a kill threw away after they were recorded.")
    print(f"\nDriver's memory at {', '.join(f'{share}: {held:.0f} MB' for share, held in at.items())};", end=" ")
    last = state["runs"][-1]
    print(f"over its last run, {last['to'] - last['from']:,} shards, it grew by {growth:.1f} MB.")
    print(f"At most {own:.0f} MB are its own; files back the rest, libraries, which processes share.")
    print(f"\nClasses: {', '.join(f'{many} with {count}' for count, many in found['class_counts'].items())} images.")
    print(f"Second run, not killed, inline: {found['prefix_shards']} shards,", end=" ")
    print(f"{'all equal to' if equal else 'NOT equal to'} the first of the large set, tar by tar, and so its roots.")
    print(f"replica_id `{found['replica_id']}`; of the second run `{found['prefix_id']}`.\n")
    facts = {
        "images": run.images,
        "images_per_s": round(run.images / wall, 1),
        "processor_ms_per_image": round(1e3 * done.processor_s / done.num_images, 3),
        "driver_peak_mb": round(peak),
        "driver_own_mb": round(own),
        "driver_growth_mb": round(growth, 1),
        "worker_peak_mb": round(worker),
        "freeze_s": round(phases["freeze"].wall_s, 1),
        "quick_s": round(phases["quick"].wall_s, 1),
        "full_s": round(phases["full"].wall_s, 1),
        "freeze_peak_mb": round(phases["freeze"].peak / MB),
        "kills": len(state["kills"]),
        "class_counts": found["class_counts"],
        "prefix_shards": found["prefix_shards"],
        "equal": equal,
    }
    print(json.dumps(facts))
    return 0 if equal and even else 1


def main() -> int:
    """Run what is not done yet and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder for everything (default runs/million)")
    parser.add_argument("--images", type=int, default=NUM_IMAGES, metavar="N")
    parser.add_argument("--per-shard", type=int, default=1000, metavar="K")
    parser.add_argument("--kills", type=int, default=5, metavar="N")
    parser.add_argument("--short", action="store_true", help="3,000 images, one kill")
    options = parser.parse_args()
    if options.short:
        options.images, options.per_shard, options.kills = 3000, 100, 1
    if options.images < 2 * NUM_CLASSES or -(-options.images // options.per_shard) * KILLED_BEFORE <= options.kills + 1:
        parser.error("too few images for so many kills")
    with contextlib.ExitStack() as stack:
        work = options.work
        if options.short and work is None:
            import tempfile

            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m-")))
        run = Run(
            work or Path("runs/million").absolute(),
            images=options.images,
            per_shard=options.per_shard,
            num_kills=options.kills,
        )
        stack.callback(kill_all, run.mark)
        measure(run)
        return print_result(run)


if __name__ == "__main__":
    sys.exit(main())
