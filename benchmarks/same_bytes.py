"""One plan by every executor: inline, Ray with 1, 2 and 3 workers, eight parts; and a small replica extended.

Prints a Markdown table and exits with 1 unless all ids and tars are equal.
`python benchmarks/same_bytes.py --num 60000 > benchmarks/same_bytes.md` made the result beside this file.
"""

import argparse
import datetime
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from caskit.shards.digest import sha256_file

PARTS = 8
WORKERS = (1, 2, 3)


def caskit(*arguments: str) -> None:
    """Run the command line; its output goes to stderr. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "caskit.cli", *arguments], check=True, stdout=sys.stderr)


def digests(replica: Path) -> tuple[str, ...]:
    """Return the SHA-256 of replica.json and of every tar."""
    return tuple(sha256_file(path) for path in [replica / "replica.json", *sorted((replica / "shards").iterdir())])


def sample(gen: str, num: int, out: Path, *more: str) -> None:
    """Sample a balanced replica with seed 0."""
    caskit("sample", "--gen", gen, "--num", str(num), "--seed", "0", *more, "--out", str(out))


def sample_parts(gen: str, num: int, out: Path) -> None:
    """Sample it by eight calls that share nothing but the folder, two at a time, and freeze it."""
    command = [sys.executable, "-m", "caskit.cli", "sample", "--gen", gen, "--num", str(num), "--seed", "0"]
    for first in range(1, PARTS, 2):
        running = [
            subprocess.Popen(
                [*command, "--executor", "inline", "--part", f"{part}/{PARTS}", "--out", str(out)], stdout=sys.stderr
            )
            for part in (first, first + 1)
        ]
        codes = [process.wait() for process in running]
        if any(codes):
            raise SystemExit(f"a part failed, exit codes {codes}")
    caskit("freeze", str(out))


def sample_ray(gen: str, num: int, workers: int, out: Path) -> None:
    """Sample it with some Ray workers."""
    sample(gen, num, out, "--workers", str(workers))


def sample_extended(gen: str, num: int, out: Path) -> None:
    """Sample a tenth, then extend it to the whole."""
    tenth = out.with_name("tenth")
    sample(gen, num // 10, tenth, "--workers", "2")
    sample(gen, num, out, "--workers", "2", "--extend", str(tenth))


def main() -> None:
    """Make the replicas one after the other, compare, print."""
    parser = argparse.ArgumentParser(description="One plan by every executor.")
    parser.add_argument("--gen", default="cvae:fashion-mnist")
    parser.add_argument("--num", type=int, default=2000)
    options = parser.parse_args()
    gen, num = options.gen, options.num
    ways: dict[str, Callable[[Path], None]] = {"inline": lambda out: sample(gen, num, out, "--executor", "inline")}
    for workers in WORKERS:
        ways[f"Ray, {workers} workers"] = partial(sample_ray, gen, num, workers)
    ways[f"{PARTS} parts, then freeze"] = partial(sample_parts, gen, num)
    ways[f"{num // 10} images, extended"] = partial(sample_extended, gen, num)
    print(f"# {num} images of {gen}, one plan, every executor\n")
    print(
        f"{datetime.date.today()}, Python {platform.python_version()}, torch {version('torch')}, {platform.machine()}."
    )
    print(f"Command: `python benchmarks/same_bytes.py --gen {gen} --num {num}`.\n")
    print("| way | replica_id | tars equal to the first way's |\n|---|---|---|")
    reference: tuple[str, ...] = ()
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, run) in enumerate(ways.items()):
            out = Path(folder) / str(number)
            run(out)
            found = digests(out)
            reference = reference or found
            equal = equal and found == reference
            same = sum(ours == theirs for ours, theirs in zip(found[1:], reference[1:], strict=True))
            print(
                f"| {name} | `{found[0][:16]}` | {same} of {len(found) - 1} |",
                flush=True,
            )
            shutil.rmtree(out)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
