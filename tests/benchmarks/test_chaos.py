"""What chaos.py counts and compares; the faults themselves are its own business (benchmarks/chaos.md)."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def chaos(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(os.fspath(FOLDER))
    return importlib.import_module("chaos")


@pytest.fixture
def calm(tmp_path: Path) -> Path:
    (tmp_path / "calm/shards").mkdir(parents=True)
    (tmp_path / "calm/replica.json").write_text('{"replica_id": "0123"}')
    for number in range(3):
        (tmp_path / f"calm/shards/shard-{number:06d}.tar").write_bytes(bytes([number]) * 600)
    return tmp_path / "calm"


def entry(**changes):
    fault = {"kind": "driver killed", "how": "SIGKILL", "ended": [{"code": -9, "said": ""}], "commands": 1}
    other = {"kind": "two drivers", "how": "the same command a second time", "ended": [], "commands": 1}
    whole = {"lane": "inline", "faults": [fault, other], "commands": 3, "equal": True, "lost": 0, "duplicated": 0}
    return whole | {"wrong": 0, "hung": False, "seconds": 1800.0, "load": 1.0, "stop_s": 60.0} | changes


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("nothing", (True, 0, 0, 0)),
        ("lost", (False, 1, 0, 0)),
        ("too many", (False, 0, 1, 0)),
        ("other bytes", (False, 0, 0, 1)),
        ("other id", (False, 0, 0, 0)),
        ("not verified", (False, 0, 0, 0)),
    ],
)
def test_what_is_not_equal_is_told(
    change: str, found: tuple, chaos: ModuleType, calm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = chaos.described(calm)
    if change == "lost":
        (calm / "shards/shard-000001.tar").unlink()
    if change == "too many":
        (calm / "shards/shard-000003.tar").write_bytes(b"")
    if change == "other bytes":
        (calm / "shards/shard-000001.tar").write_bytes(bytes(600))
    if change == "other id":
        (calm / "replica.json").write_text('{"replica_id": "4567"}')
    verify = SimpleNamespace(wait=lambda timeout_s: int(change == "not verified"))
    monkeypatch.setattr(chaos, "Driver", lambda line, log: verify)
    run = SimpleNamespace(out=calm, folder=calm, frozen=lambda: True)
    result = chaos.compared(expected, run)
    assert (result["equal"], result["lost"], result["duplicated"], result["wrong"]) == found


def test_a_run_without_an_end_is_not_equal(chaos: ModuleType) -> None:
    run = SimpleNamespace(frozen=lambda: False, committed=lambda: 100)
    assert chaos.compared({}, run) == {"equal": False, "lost": 50, "duplicated": 0, "wrong": 0}


def test_the_table_says_what_each_kind_came_to(chaos: ModuleType) -> None:
    logged = [entry(), entry(equal=False, wrong=1, hung=True)]
    lines = chaos.table(logged)
    assert lines[2] == "| driver killed (inline) | 2 | 0 | 2 | 1 | 1 |"
    assert lines[3] == "| two drivers (inline) | 2 | 2 | 0 | 1 | 1 |"  # the second driver is the fault itself
    assert lines[4] == "| **all** | 4 | 2 | 2 | 2 | 2 |"
    found = chaos.summary(logged)
    assert (found["faults"], found["hours"], found["equal"], found["wrong"], found["hung"]) == (4, 1.0, 1, 1, 1)
    assert "1 of 2" in chaos.report(logged)


def test_a_line_that_a_kill_cut_does_not_count(chaos: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text(json.dumps(entry()) + "\n" + json.dumps(entry())[:40])
    assert len(chaos.read_log(tmp_path)) == 1


SHIFTED = """
import datetime, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import caskit.gen.telemetry as telemetry
from breaking.drivers import shift_clock
file = Path(sys.argv[2])
shift_clock(file)
before = time.time()
file.write_text("86400000")
assert time.time() - before > 86_000_000
assert telemetry.datetime.datetime.now(telemetry.datetime.UTC).timestamp() - before > 86_000_000
assert datetime.datetime.now().timestamp() - before < 86_000_000
file.write_text("-86400000")
assert time.time() < before
"""


def test_the_clock_of_a_process_jumps(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHIFTED, os.fspath(FOLDER), os.fspath(tmp_path / "clock")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MARKED = """
import os, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from breaking.drivers import MARK, kill_marked, marked
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
ours = subprocess.Popen(sleep, env={**os.environ, MARK: "one"})
other = subprocess.Popen(sleep, env={**os.environ, MARK: "another"})
while set(marked("one")) != {ours.pid} or set(marked("another")) != {other.pid}:
    time.sleep(0.02)
kill_marked("one")
assert ours.wait() == -9 and other.poll() is None
other.kill()
other.wait()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
def test_only_what_has_the_mark_is_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MARKED, os.fspath(FOLDER)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
