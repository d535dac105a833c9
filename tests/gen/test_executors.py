"""One plan, worked off in every way there is: equal ids and equal tars."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pebble_drive import Driver, plan_of

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.executors import Part
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.errors import InputError
from caskit.shards.verify import verify

pytestmark = pytest.mark.timeout(400)  # processes and Ray take seconds to start, on a busy machine many

NUM = 203
DRIVE = Path(__file__).parent / "pebble" / "pebble_drive.py"


def tars(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


@pytest.fixture
def expected(pebble: Checkpoint, tmp_path: Path) -> str:
    replica = sample(
        plan_of(pebble.path, NUM), tmp_path / "inline", checkpoint=pebble.path, config=SampleConfig(executor="inline")
    )
    assert replica is not None
    return replica.replica_id


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_ray_gives_the_bytes_of_inline(
    workers: int, expected: str, pebble: Checkpoint, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "203.0.113.1:6379")  # nobody there; must not be looked at
    parent = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short enough for Ray's sockets
    monkeypatch.setattr("caskit.gen.ray_pool.temporary_parent", lambda: parent)
    out = tmp_path / "ray"
    config = SampleConfig(num_workers=workers)
    replica = sample(plan_of(pebble.path, NUM), out, checkpoint=pebble.path, config=config)
    assert replica is not None and replica.replica_id == expected
    assert tars(out) == tars(tmp_path / "inline")
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")
    parent.rmdir()  # it is empty
    assert not list((out / "_work/tmp").iterdir())
    events = [
        json.loads(line) for path in (out / "_work/telemetry").iterdir() for line in path.read_text().splitlines()
    ]
    assert [event["event"] for event in events] == ["begin", *["shard"] * 11, "end"]
    verify(str(out), "full")


def test_eight_processes_and_a_freeze(expected: str, pebble: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    for first in (1, 5):
        parts = [Driver(out, pebble.path, NUM, f"part={index}/8") for index in range(first, first + 4)]
        assert [part.end() for part in parts] == [(0, "not frozen")] * 4
    assert Driver(out, pebble.path, 0).end() == (0, expected)
    assert tars(out) == tars(tmp_path / "inline")


def test_twin_drivers(expected: str, pebble: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "twins"
    twins = [Driver(out, pebble.path, NUM, PEBBLE_DELAY_S="0.01") for _ in range(2)]
    assert [twin.end() for twin in twins] == [(0, expected)] * 2
    assert tars(out) == tars(tmp_path / "inline") and not (out / "quarantine").exists()


@pytest.mark.parametrize("options", [["executor=inline"], ["executor=ray", "workers=2"]])
def test_sigterm_finishes_what_is_in_flight(
    options: list[str], expected: str, pebble: Checkpoint, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    driver = Driver(out, pebble.path, NUM, *options, PEBBLE_DELAY_S="0.2")
    commits = out / "_work" / "commits"
    driver.wait_for(commits)
    driver.send(signal.SIGTERM)
    code, line = driver.end()
    assert code == 75 and "NotFinished: stopped on request" in line and "the same command goes on" in line
    left = int(line.split(" with ")[1].split()[0])
    assert left + len(list(commits.iterdir())) == 11 and left >= 5
    assert Driver(out, pebble.path, NUM).end() == (0, expected)


def test_a_worker_of_another_environment_class(expected: str, pebble: Checkpoint, tmp_path: Path) -> None:
    """ATen reads its variable when it is loaded, so this needs processes that are not forked."""

    def run_elsewhere(*options: str) -> tuple[int, str]:
        command = [sys.executable, DRIVE, out, pebble.path, str(NUM), *options]
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
        done = subprocess.run(
            list(map(os.fspath, command)), env=environment, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()[-1]

    out = tmp_path / "mixed"
    assert Driver(out, pebble.path, NUM, "part=1/2").end() == (0, "not frozen")
    code, line = run_elsewhere()
    assert code == 2 and "another environment class" in line and "cpu.aten_capability ('DEFAULT' here" in line
    assert run_elsewhere("allow=1") == (0, expected)
    provenance = json.loads((out / "provenance.json").read_bytes())
    assert provenance["one_environment"] is False
    assert sorted(entry["num_shards"] for entry in provenance["environments"]) == [5, 6]
    capabilities = {entry["class"]["cpu"]["aten_capability"] for entry in provenance["environments"]}
    assert len(capabilities) == 2 and "DEFAULT" in capabilities


def test_ray_that_is_not_installed(pebble: Checkpoint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'caskit\[gen\]', or use --executor inline"):
        sample(plan_of(pebble.path, NUM), tmp_path / "r", checkpoint=pebble.path)


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    # In a process of its own: Ray keeps the first token that it looks up in a process, and whoever joins a cluster has
    # another one than a Ray that later tests start here.
    command = [sys.executable, "-m", "caskit", "sample", "--gen", "cvae:digits", "--num", "20", "--workers", "1"]
    done = subprocess.run(
        [*command, "--ray-address", "nonsense", "--out", str(tmp_path / "r")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no Ray cluster at 'nonsense' can be joined" in done.stderr.splitlines()[-1]


def test_parts_cover_every_shard_once() -> None:
    for num_shards in (1, 5, 8, 100):
        shards = [shard for index in range(1, 9) for shard in Part(index=index, count=8).shards(num_shards)]
        assert sorted(shards) == list(range(num_shards))
    assert list(Part.parse("3/8").shards(20)) == [2, 10, 18]
