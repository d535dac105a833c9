"""Fuzz a reader of foreign bytes, guided by which branches of caskit are reached (atheris 3.0, libFuzzer).

Run: pip install atheris; python benchmarks/fuzz.py tar|manifest|record [--seconds 600] [--corpus DIR], then with --keep
and the same DIR. A run ends at 1 GB of memory, after ten seconds over one input, or at an exception that is no
InputError, and leaves the input beside DIR. --keep needs no atheris: it adds to tests/shards/corpus, smallest first,
what reaches a line of caskit that nothing there reaches. benchmarks/fuzz.md has what was found; fuzz_readers.py says
what is fed and what must hold.
"""

import argparse
import hashlib
import os
import random
import runpy
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / "tests" / "shards" / "corpus"
MAX_MEGABYTES, MAX_SECONDS = 1024, 10  # of the process, and over one input
MENDED = 0.6  # share of the inputs that go through a reader's own `mend` after the bytes were changed


def main() -> None:
    """Read the command line and fuzz until the time is up, or keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=("tar", "manifest", "record"))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="what is found goes here; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="do not fuzz: keep of --corpus what reaches new lines")
    arguments = parser.parse_args()
    os.fsync = lambda descriptor: None  # what is written is read by this process alone
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or Path(folder) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        if arguments.keep:
            reader = runpy.run_path(str(HERE / "fuzz_readers.py"))["READERS"][arguments.reader](Path(folder) / "set")
            print(f"{keep(reader, corpus, KEPT / arguments.reader)} inputs kept")
        else:
            fuzz(arguments.reader, Path(folder) / "set", corpus, arguments.seconds)


def fuzz(name: str, folder: Path, corpus: Path, seconds: int) -> None:
    """Let libFuzzer feed a reader; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["caskit", "rfc8785"]):
        reader = runpy.run_path(str(HERE / "fuzz_readers.py"))["READERS"][name](folder)
    for number, seed in enumerate(reader.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    kept = KEPT / name
    kept.mkdir(parents=True, exist_ok=True)
    limits = [
        f"-max_len={reader.max_bytes}",
        f"-rss_limit_mb={MAX_MEGABYTES}",
        f"-timeout={MAX_SECONDS}",
        f"-artifact_prefix={corpus.parent}/{name}-",
        f"-max_total_time={seconds}",
        "-print_final_stats=1",
    ]

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        changed: bytes = atheris.Mutate(data, max_size) if rng.random() < 0.7 else data
        mended: bytes = reader.mend(changed, rng) if rng.random() < MENDED else changed
        return mended[:max_size]

    command = [sys.argv[0], *limits, str(corpus), str(kept)]
    atheris.Setup(command, lambda data: reader.run(data), custom_mutator=change)
    atheris.Fuzz()


def keep(reader: Any, corpus: Path, kept: Path) -> int:
    """Add to the kept inputs those that reach lines which they do not; returns how many there are then."""
    kept.mkdir(parents=True, exist_ok=True)
    seen = set().union(*(reached(reader, path.read_bytes()) for path in kept.iterdir()))
    for path in sorted(corpus.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        new = reached(reader, data) - seen
        if new:
            (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            seen |= new
    return len(list(kept.iterdir()))


def reached(reader: Any, data: bytes) -> set[tuple[str, int]]:
    """Return the lines of caskit that a reader comes to over some bytes."""
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        name = frame.f_code.co_filename
        if "/caskit/" not in name:
            return None
        lines.add((name, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        reader.run(data)
    finally:
        sys.settrace(None)
    return lines


if __name__ == "__main__":
    main()
