"""Two hundred random faults: does every run end with the ids of a calm one, by itself or by the same command again?

Run: python benchmarks/chaos.py --faults 200 --work DIR (an hour and more; the same command goes on where it stood, in
as many sittings as it takes), then python benchmarks/chaos.py --table DIR... > benchmarks/chaos.md. `--short` takes a
minute or two: six faults of inline runs. `--lane inline` and `--lane ray` leave the other half out, so that both may
run at once in two folders.

A run is `caskit sample` of a small fixed network (breaking/slow_noise.py, which naps, so that a run lasts for a
while), inline or on a Ray cluster of a head and two raylets on this machine. Faults come seconds apart, several kinds
mixed in each run: breaking/kinds.py. Whenever no driver is left, the same command is typed again. A run is good if it
ends, its replica_id and the bytes of every tar are those of a run that nobody disturbed, and `verify --level full`
passes. A driver that is still there five minutes after the last fault hangs. Only processes that were begun here are
ever signalled. The last line printed is one JSON object; exit code 1 if a run was not good.
"""

import argparse
import collections
import contextlib
import datetime
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from breaking.cluster import Cluster
from breaking.disk import Disk, make_disk
from breaking.drivers import Driver
from breaking.kinds import KINDS, Kind

HERE = Path(__file__).parent / "breaking"
FAULTS_PER_RUN = 7
PER_SHARD, NUM_SHARDS = 20, 150
NAP = "CASKIT_CHAOS_NAP_S"
NAP_S = {"inline": 0.25, "ray": 0.8}  # a shard; on Ray two are made at once
HUNG_S = 300
HOW = (
    "Commands: `python benchmarks/chaos.py --lane inline --faults 130 --work A`, the same with `--lane ray --work "
    "B` beside it, then `--table A B`. A full and a read-only disk are a tmpfs, filled and remounted, which takes "
    "root; the file size limit is RLIMIT_FSIZE of the running driver, which does not. The clock is time.time of "
    "the driver and datetime.now of caskit's modules in it. On Ray: a head without processors and two raylets of "
    "one and two processors, joined by `--ray-address`, whose head is given up after 15 s. A fault counts with "
    "the run that it was done to."
)
MOST_COMMANDS = 40


class Run:
    """A replica that is being sampled, and the faults done to it."""

    def __init__(self, work: Path, name: str, lane: str, *, disk: Disk | None, cluster: Cluster | None, short: bool):
        self.name, self.lane, self.disk, self.cluster = name, lane, disk, cluster
        self.stop_s, self.scale = (2.0, 0.5) if short else (60.0, 1.0)
        self.folder = work / "logs" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.out = (disk.folder if disk else work / "runs") / name
        self.clock = self.folder / "clock"
        self.drivers: list[Driver] = []
        self.commands = 0
        self.hung = False
        self.ended: list[dict[str, Any]] = []  # what the drivers of the present fault ended with
        self._line = sample_line(work, self.out)
        if cluster is None:
            self._line += ["--executor", "inline"]
        self._began = time.monotonic()

    @property
    def primary(self) -> Driver:
        """Return the driver that was begun first of those that live."""
        return self.drivers[0]

    def type(self) -> None:
        """Type the command."""
        line = list(self._line)
        if self.cluster is not None:  # a new head has another port; nothing of the plan
            line += ["--workers", "2", "--ray-address", self.cluster.address]
        log = self.folder / f"{self.commands}.log"
        self.commands += 1
        self.drivers.append(Driver(line, log, clock=self.clock, **{NAP: str(NAP_S[self.lane])}))

    def committed(self) -> int:
        """Return how many shards are committed."""
        try:
            return sum(name.endswith(".parquet") for name in os.listdir(self.out / "_work/commits"))
        except OSError:
            return 0

    def frozen(self) -> bool:
        """Say whether there is a frozen replica."""
        return (self.out / "replica.json").exists()

    def reap(self, *, again: bool = True) -> bool:
        """Note which drivers ended; type the command again if none is left and the run is not done. True if done."""
        for driver in [driver for driver in self.drivers if driver.poll() is not None]:
            self.drivers.remove(driver)
            self.ended.append({"code": driver.code, "said": driver.said()})
        if self.drivers:
            return False
        if any(entry["code"] == 0 for entry in self.ended) and self.frozen():
            return True
        if again:
            if self.commands >= MOST_COMMANDS:
                raise SystemExit(f"{self.name}: {self.commands} commands did not do; see {self.folder}")
            self.type()
        return False

    def hold(self, seconds: float, *, till_ended: bool = False) -> float:
        """Let time pass with a fault in place, without typing anything; return how much it was."""
        began = time.monotonic()
        while (held := time.monotonic() - began) < seconds:
            self.reap(again=False)
            if till_ended and not self.drivers:
                break
            time.sleep(0.05)
        return held

    def wait(self, seconds: float) -> bool:
        """Let time pass, typing the command where it has to be typed; True as soon as the run is done."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.reap():
                return True
            time.sleep(0.05)
        return False

    def ready(self) -> bool:
        """Wait until there is something to disturb: a worker with a shard. False if the run is done before."""
        deadline = time.monotonic() + HUNG_S
        while time.monotonic() < deadline:
            if self.reap():
                return False
            if (self.out / "plan.json").exists() and (self.cluster is None or self.cluster.actors()):
                return True
            time.sleep(0.05)
        self.hung = True
        return False

    def finish(self) -> None:
        """Wait for the end; a driver that does not come to it is killed, and the run hangs."""
        if not self.wait(HUNG_S + NUM_SHARDS * NAP_S[self.lane]):
            self.hung = True
            for driver in self.drivers:
                driver.kill()

    def close(self) -> None:
        """End what is left."""
        for driver in self.drivers:
            driver.kill()


def sample_line(work: Path, out: Path) -> list[str]:
    """Return the words after `caskit`."""
    line = ["sample", "--gen", "callable:slow_noise:draw", "--classes", str(work / "real/train"), "--allow-code"]
    line += ["--num", str(PER_SHARD * NUM_SHARDS - 3), "--samples-per-shard", str(PER_SHARD), "--seed", "11"]
    return [*line, "--out", str(out)]


def described(folder: Path) -> dict[str, Any]:
    """Return a replica's id, and the SHA-256 of every tar that lies there."""
    tars = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "shards").iterdir())}
    return {"id": json.loads((folder / "replica.json").read_bytes()), "tars": tars}


def compared(calm: dict[str, Any], run: Run) -> dict[str, Any]:
    """Compare a run's end with the calm one: shards lost, too many, with other bytes; and what verify says."""
    if not run.frozen():
        return {"equal": False, "lost": NUM_SHARDS - run.committed(), "duplicated": 0, "wrong": 0}
    found, tars = described(run.out), calm["tars"]
    check = Driver(["verify", str(run.out), "--level", "full"], run.folder / "verify.log")
    verified = check.wait(HUNG_S) == 0
    return {
        "equal": found == calm and verified,
        "lost": len(set(tars) - set(found["tars"])),
        "duplicated": len(set(found["tars"]) - set(tars)),
        "wrong": sum(found["tars"].get(name, digest) != digest for name, digest in tars.items()),
        "verified": verified,
        "quarantined": len(list((run.out / "quarantine").glob("*"))),
    }


def disturb(run: Run, kinds: dict[str, Kind], rng: random.Random, num: int) -> dict[str, Any]:
    """Do up to `num` faults to a run and let it end; return what the log keeps of it."""
    began, faults, before = time.monotonic(), [], run.ended
    run.type()
    names = rng.choices(list(kinds), weights=[kind.share for kind in kinds.values()], k=num)
    for place, name in enumerate(names):
        late = place == num - 1 and rng.random() < 0.5  # while it freezes, or just before
        if run.wait(rng.uniform(0.3, 6.0) * run.scale) or not run.ready():
            break
        while late and run.committed() < NUM_SHARDS and not run.hung:
            if run.wait(0.01):
                break
        if not run.drivers or (late and run.frozen()):
            break
        stamp, committed, commands = datetime.datetime.now(datetime.UTC), run.committed(), run.commands
        run.ended = []
        how = kinds[name].do(run, rng)
        if not how:
            continue
        fault = {"kind": name, "how": how, "time": stamp.isoformat(timespec="seconds"), "committed": committed}
        faults.append({**fault, "ended": run.ended, "commands": commands})
        if not run.drivers and run.reap():
            break
    run.finish()
    run.close()
    for fault, after in zip(faults, [*(f["commands"] for f in faults[1:]), run.commands], strict=True):
        fault["commands"] = after - fault["commands"]
    return {
        "run": run.name,
        "lane": run.lane,
        "before": before,
        "faults": faults,
        "commands": run.commands,
        "hung": run.hung,
        "seconds": round(time.monotonic() - began, 1),
    }


def prepare(work: Path) -> dict[str, Any]:
    """Make the real set that names the classes, and the calm run, if they are not there; describe the latter."""
    (work / "logs").mkdir(parents=True, exist_ok=True)
    lines = {
        work / "real/train/replica.json": ["data", "digits", "--out", str(work / "real")],
        work / "calm/replica.json": [*sample_line(work, work / "calm"), "--executor", "inline"],
    }
    for made, line in lines.items():
        if not made.exists():
            driver = Driver(line, work / "logs/prepare.log")
            if driver.wait(900) != 0:
                raise SystemExit(f"caskit {line[0]} failed: {driver.said()}")
    return described(work / "calm")


def read_log(work: Path) -> list[dict[str, Any]]:
    """Return what was logged; a last line that a kill cut short does not count."""
    path = work / "runs.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1] if line.endswith("}")]


def sitting(work: Path, arguments: argparse.Namespace) -> None:
    """Do runs until the log has as many faults as were asked for."""
    sys.path.insert(0, str(HERE))
    import torch  # noqa: F401  # here once and not in every driver

    import caskit.commands.sample
    import caskit.gen.callable
    import caskit.gen.sampling
    import caskit.shards.verify  # noqa: F401

    calm = prepare(work)
    disk = make_disk(work / "disk")
    cluster, run = None, None
    try:
        while (logged := read_log(work)) is not None and sum(
            len(entry["faults"]) for entry in logged
        ) < arguments.faults:
            number = len(logged)
            rng = random.Random(f"{arguments.seed}-{arguments.lane}-{number}")
            lane = arguments.lane if arguments.lane != "both" else ("inline", "ray")[number % 2]
            if lane == "ray" and cluster is None:
                import ray  # noqa: F401

                nap = {NAP: str(NAP_S[lane])}
                cluster = Cluster(work / "logs", mark=f"cluster-{os.getpid()}", path=HERE, **nap)
                cluster.start()
            kinds = {name: kind for name, kind in KINDS.items() if lane in kind.lanes and (disk or not kind.disk)}
            left = arguments.faults - sum(len(entry["faults"]) for entry in logged)
            run = Run(
                work,
                f"{lane}-{number:04d}-{os.getpid()}",
                lane,
                disk=disk,
                cluster=cluster if lane == "ray" else None,
                short=arguments.short,
            )
            entry = disturb(run, kinds, rng, min(left, FAULTS_PER_RUN))
            entry |= compared(calm, run)
            entry |= {"load": round(os.getloadavg()[0], 1), "disk": disk is not None, "stop_s": run.stop_s}
            with (work / "runs.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            print(
                f"{run.name}: {len(entry['faults'])} faults, {run.commands} commands, equal {entry['equal']}",
                flush=True,
            )
            if entry["equal"]:
                shutil.rmtree(run.out)
            elif disk is not None:  # what is wrong is kept
                shutil.copytree(run.out, work / "wrong" / run.name)
                shutil.rmtree(run.out)
    finally:
        if run is not None:
            run.close()
        if cluster is not None:
            cluster.close()
        if disk is not None:
            disk.close()


def table(logged: list[dict[str, Any]]) -> list[str]:
    """Return the table by kind, as Markdown."""
    lines = [
        "| kind | faults | the drivers went on | the same command again | ids and tars equal | wrong |",
        "|---|---|---|---|---|---|",
    ]
    rows: dict[str, collections.Counter] = {}
    for entry in logged:
        for fault in entry["faults"]:
            name = f"{fault['kind']} ({entry['lane']})"
            counts = rows.setdefault(name, collections.Counter())
            counts.update(["faults", "again" if fault["commands"] > _typed(fault) else "went on"])
            counts.update(["equal" if entry["equal"] else "wrong"])
    total: collections.Counter = collections.Counter()
    for name, counts in sorted(rows.items()):
        total.update(counts)
        lines.append(_row(name, counts))
    return [*lines, _row("**all**", total)]


def _typed(fault: dict[str, Any]) -> int:
    """Return how many commands a fault consists of."""
    return int("second" in fault["how"])


def _row(name: str, counts: collections.Counter) -> str:
    cells = (counts[key] for key in ("faults", "went on", "again", "equal", "wrong"))
    return f"| {name} | {' | '.join(map(str, cells))} |"


def summary(logged: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the last line's object."""
    faults = [fault for entry in logged for fault in entry["faults"]]
    ends = [end for fault in faults for end in fault["ended"]]
    return {
        "faults": len(faults),
        "runs": len(logged),
        "hours": round(sum(entry["seconds"] for entry in logged) / 3600, 2),
        "commands": sum(entry["commands"] for entry in logged),
        "equal": sum(entry["equal"] for entry in logged),
        "lost": sum(entry["lost"] for entry in logged),
        "duplicated": sum(entry["duplicated"] for entry in logged),
        "wrong": sum(entry["wrong"] for entry in logged),
        "hung": sum(entry["hung"] for entry in logged),
        "tracebacks": sum("TRACEBACK" in end["said"] for end in ends),
    }


def report(logged: list[dict[str, Any]]) -> str:
    """Return the result as Markdown."""
    found, loads = summary(logged), [entry["load"] for entry in logged]
    versions = f"Python {platform.python_version()}, torch {version('torch')}, Ray {version('ray')}"
    codes = collections.Counter(str(end["code"]) for entry in logged for f in entry["faults"] for end in f["ended"])
    images, stopped = PER_SHARD * NUM_SHARDS - 3, max(entry["stop_s"] for entry in logged)
    alone = sum(entry["equal"] and entry["commands"] == 1 for entry in logged)
    lines = [
        "# Random faults",
        "",
        f"{datetime.date.today()}, {os.cpu_count()} cores, load average {min(loads)} to {max(loads)}, {versions}.",
        f"{found['faults']} faults in {found['runs']} runs of {images:,} images in {NUM_SHARDS} shards, "
        f"{found['hours']} hours of runs; what was stopped was stopped for {stopped:.0f} s.",
        "",
        *textwrap.wrap(HOW, 118, break_on_hyphens=False),
        "",
        *table(logged),
        "",
        f"Runs with the calm run's replica_id and tars, verified in full: {found['equal']} of {found['runs']}; of them "
        f"by one command {alone}. Shards lost: {found['lost']}, too many: {found['duplicated']}, with other bytes: "
        f"{found['wrong']}. Runs that hung: {found['hung']}; drivers that ended with a traceback: "
        f"{found['tracebacks']}.",
        "Exit codes of the drivers, -9 a kill: " + ", ".join(f"{c}: {n}" for c, n in sorted(codes.items())) + ".",
    ]
    return "\n".join(lines)


def main() -> int:
    """Sit, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lane", choices=("inline", "ray", "both"), help="(default: both; inline with --short)")
    parser.add_argument("--work", type=Path, help="folder of log and replicas (default: a temporary one)")
    parser.add_argument("--short", action="store_true", help="six faults, stops of two seconds")
    parser.add_argument("--table", type=Path, nargs="+", metavar="DIR", help="print the result of these folders")
    arguments = parser.parse_args()
    arguments.lane = arguments.lane or ("inline" if arguments.short else "both")
    if arguments.short:
        arguments.faults = min(arguments.faults, 6)
    if arguments.table:
        logged = [entry for folder in arguments.table for entry in read_log(folder)]
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))  # the cluster has to be ended
        with contextlib.ExitStack() as stack:
            work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="caskit-chaos-")))
            work = work.absolute()
            sitting(work, arguments)
            logged = read_log(work)
    print(report(logged))
    found = summary(logged)
    print()
    print(json.dumps({"passed": found["equal"] == found["runs"] and not found["hung"], **found}))
    return int(found["equal"] != found["runs"] or found["hung"] > 0)


if __name__ == "__main__":
    sys.exit(main())
