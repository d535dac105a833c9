"""Ten kills at random moments, of drivers and of workers: do the ids of an undisturbed run come out?

Run: python benchmarks/kills.py > benchmarks/kills.md (five minutes on two quiet cores). Even kills hit the driver of
`caskit sample --executor ray`, which is then started again at once, while its workers may still be alive; odd ones hit
one of its Ray workers, which the driver has to replace. tests/gen/test_kills.py does the same with fewer.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray
import torch

from caskit.shards.commit import committed_shards
from caskit.shards.records import read_replica
from caskit.shards.store import open_store
from caskit.shards.verify import verify

NUM_KILLS = 10
LONGEST_WAIT_S = 12.0
ACTOR = b"ray::ShardActor"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill: of a `driver` or a `worker`, how long after the one before, and what was committed by then."""

    target: str
    waited_s: float
    num_committed: int


def command(arguments: argparse.Namespace, out: Path, *options: str) -> list[str]:
    """Return the command line that is killed and repeated."""
    script = str(Path(sys.executable).parent / "caskit")
    plan = ["--gen", arguments.gen, "--num", str(arguments.num), "--seed", "0", "--samples-per-shard", "500"]
    return [script, "sample", *plan, *options, "--out", str(out)]


def workers_of(driver: int) -> list[int]:
    """Return the process ids of the Ray actors below a driver."""
    if not Path("/proc").is_dir():
        raise SystemExit("kills.py finds processes by /proc, which this system does not have")
    parents, actors = {}, []
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text() if entry.name.isdigit() else ""
            line = (entry / "cmdline").read_bytes() if stat else b""
        except OSError:  # it ended in the meantime
            continue
        if stat:
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            if line.startswith(ACTOR):
                actors.append(int(entry.name))
    return [actor for actor in actors if driver in ancestors(actor, parents)]


def ancestors(process: int, parents: dict[int, int]) -> list[int]:
    """Return the ids of the processes above one."""
    found = []
    while process in parents and parents[process] != 0:
        process = parents[process]
        found.append(process)
    return found


def disturb(line: list[str], out: Path, rng: random.Random) -> list[Kill]:
    """Run a command under kills until ten were done; the last driver is killed too."""
    kills: list[Kill] = []
    driver = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(kills) < NUM_KILLS:
        waited = rng.uniform(0.0, LONGEST_WAIT_S)
        time.sleep(waited)
        if driver.poll() is not None:
            raise SystemExit(
                f"the run ended after {len(kills)} kills with code {driver.returncode}: take a larger --num"
            )
        target = "driver" if len(kills) % 2 else "worker"
        workers = workers_of(driver.pid)
        while target == "worker" and not workers:  # still starting
            time.sleep(0.05)
            workers = workers_of(driver.pid)
        os.kill(driver.pid if target == "driver" else rng.choice(workers), signal.SIGKILL)
        kills.append(Kill(target=target, waited_s=waited, num_committed=len(committed_shards(open_store(str(out))))))
        if target == "driver":
            driver.wait()
            if len(kills) < NUM_KILLS:
                driver = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return kills


def report(arguments: argparse.Namespace, kills: list[Kill], calm: str, killed: str, quarantined: int) -> str:
    """Return the result as Markdown."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, Ray {ray.__version__}"
    equal = "yes" if calm == killed else "NO"
    shown = " ".join(command(arguments, Path("OUT"), "--workers", "2")[1:])
    lines = [
        "# Ten kills at random moments",
        "",
        f"{datetime.date.today()}, {os.cpu_count()} cores, {versions}, seed of the moments {arguments.moments}.",
        f"Command: `python benchmarks/kills.py --num {arguments.num} > benchmarks/kills.md`.",
        "",
        f"`caskit {shown}` was killed with `kill -9` and typed again:",
        "",
        "| kill | target | seconds since the one before | shards committed by then |",
        "|---|---|---|---|",
        *(f"| {i} | {k.target} | {k.waited_s:.1f} | {k.num_committed} |" for i, k in enumerate(kills, start=1)),
        "",
        f"replica_id undisturbed (inline): `{calm}`  ",
        f"replica_id after ten kills: `{killed}`",
        "",
        f"Equal: {equal}. `verify --level full` passed. Files in quarantine: {quarantined}.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Print the result; 1 if the ids differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gen", default="cvae:fashion-mnist")
    parser.add_argument("--num", type=int, default=60000)
    parser.add_argument("--moments", type=int, default=0, help="seed of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out, calm = Path(folder) / "killed", Path(folder) / "calm"
        line = command(arguments, out, "--workers", "2")
        kills = disturb(line, out, random.Random(arguments.moments))
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        verify(str(out), "full")
        subprocess.run(command(arguments, calm, "--executor", "inline"), check=True, stdout=subprocess.DEVNULL)
        ids = [read_replica(open_store(str(path))).replica_id for path in (calm, out)]
        quarantined = len(open_store(str(out)).names("quarantine/"))
    print(report(arguments, kills, *ids, quarantined))
    return int(ids[0] != ids[1])


if __name__ == "__main__":
    sys.exit(main())
