"""A short form of every benchmark here, one after the other, as a table: `make bench`.

Run: python benchmarks/bench.py [NAME...] (about twenty minutes on two quiet cores). A script with an option `--short`
is run with that; COMMANDS has those that take other words, LEFT_OUT those that are not run and why. Each is a process
of its own with a time limit, its output in `--logs`. A script's last line is one JSON object or, of the older ones, a
line of its table. Peers that others are measured against are installed into `.venv-bench` at the root, by pip without
their dependencies, on the first run (benchmarks/peers.txt); digits and a small replica of them are made in `--logs`
too.

The last line printed is one JSON object, {"ran", "failed", "late"}; exit code 1 if a script failed or met its limit.
The figures of a short form say that a script works, not how fast anything is: those are in the dated files beside the
scripts.
"""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-bench"
LIMIT_S = 900
MAX_CELL = 150

# DIGITS and REPLICA stand for folders that are made first, WORK for the folder of the logs.
COMMANDS = {
    "duplicates_scale": ["REPLICA", "--real-train", "DIGITS/train", "--real-test", "DIGITS/test", "--short"],
    "faults": [],
    "ham_full_size": ["--preset", "cifar-32", "--positions", "16"],
    "million": ["--short", "--work", "WORK/million"],
    "read_shards": ["--short", "--peers", str(PEERS)],
    "same_bytes": [],
    "train_kills": ["--kills", "2", "--steps", "40"],
    "vqvae2_full_size": ["--preset", "cifar-32", "--positions", "16"],
    "vqvae2_shares": ["--num", "16"],
    "write_shards": ["--short", "--peers", str(PEERS)],
}
LEFT_OUT = {
    "bench": "this one",
    "controls": "writes its result file and trains a classifier per control: by hand",
    "fuzz": "needs atheris and ten minutes per reader; what it kept is read by tests/shards/test_corpus.py",
    "ham_levels": "needs Fashion-MNIST and a checkpoint",
    "kills": "ten kills need a run of minutes; chaos.py kills more in less",
    "report_browser": "needs a browser and somebody who looks at the screenshots",
    "small_biggan": "writes the checkpoint of million.py",
    "timm_loop": "a part of train_vs_timm.py",
    "view_browser": "needs a browser and somebody who looks at the screenshots",
}


def scripts() -> list[str]:
    """Return the names of the scripts here; a file that is only imported is none."""
    return sorted(path.stem for path in HERE.glob("*.py") if "__main__" in path.read_text())


def words(name: str) -> list[str] | None:
    """Return what follows a script's name in its short form; None if it has none or is left out."""
    if name in LEFT_OUT:
        return None
    if name in COMMANDS:
        return COMMANDS[name]
    return ["--short"] if '"--short"' in (HERE / f"{name}.py").read_text() else None


def prepare(logs: Path) -> dict[str, str]:
    """Make the sets that some scripts take, if they are not there."""
    made = {"DIGITS": logs / "digits", "REPLICA": logs / "replica"}
    lines = {
        made["DIGITS"] / "train/replica.json": ["data", "digits", "--out", str(made["DIGITS"])],
        made["REPLICA"] / "replica.json": [
            *("sample", "--gen", "cvae:digits", "--num", "2100", "--executor", "inline", "--out", str(made["REPLICA"]))
        ],
    }
    for file, line in lines.items():
        if not file.exists():
            subprocess.run([sys.executable, "-m", "caskit", *line], check=True, stdout=sys.stderr)
    return {"WORK": str(logs), **{name: str(folder) for name, folder in made.items()}}


def run(name: str, line: list[str], logs: Path, limit_s: float) -> tuple[int | None, float, str]:
    """Run a script; return its exit code, None if it met the limit, its seconds, and its last line."""
    began = time.monotonic()
    with (logs / f"{name}.log").open("w") as out, (logs / f"{name}.err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, str(HERE / f"{name}.py"), *line], stdout=out, stderr=err, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = [text for text in (logs / f"{name}.log").read_text().splitlines() if text.strip()]
    return code, time.monotonic() - began, lines[-1] if lines else ""


def cell(last: str) -> str:
    """Shorten a last line for the table: of a JSON object the values that are no objects."""
    try:
        value = json.loads(last)
    except ValueError:
        return last.replace("|", " ")[:MAX_CELL]
    flat = {key: entry for key, entry in value.items() if not isinstance(entry, dict | list)}
    return ", ".join(f"{key} {entry}" for key, entry in (flat or value).items())[:MAX_CELL].replace("|", " ")


def main() -> int:
    """Run them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scripts without .py (default: all)")
    parser.add_argument("--logs", type=Path, default=Path("runs/bench"), help="folder (default runs/bench)")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_S, metavar="S", help=f"of each script (default {LIMIT_S} s)"
    )
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(scripts())):
        parser.error(f"no such script: {', '.join(unknown)}; there are {', '.join(scripts())}")
    logs = arguments.logs.absolute()
    logs.mkdir(parents=True, exist_ok=True)
    places = prepare(logs)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    print(f"{now}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; outputs in {logs}\n")
    print("| benchmark | seconds | ended | last line |\n|---|---|---|---|", flush=True)
    ran, failed, late = [], [], []
    for name in arguments.names or scripts():
        line = words(name)
        if line is None:
            print(f"| {name} | | not run | {LEFT_OUT[name]} |", flush=True)
            continue
        for word, place in places.items():
            line = [text.replace(word, place) for text in line]
        code, seconds, last = run(name, line, logs, arguments.limit)
        ran.append(name)
        (late if code is None else failed if code else []).append(name)
        ended = f"after {arguments.limit:.0f} s by us" if code is None else str(code)
        print(f"| {name} | {seconds:.0f} | {ended} | {cell(last)} |", flush=True)
    print("\n" + json.dumps({"ran": len(ran), "failed": failed, "late": late}))
    return int(bool(failed or late))


if __name__ == "__main__":
    sys.exit(main())
