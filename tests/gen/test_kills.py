"""Drivers and workers that are killed: the same command again ends with the same ids. benchmarks/kills.py does more."""

import json
import random
import signal
import time
from pathlib import Path

import pytest
from pebble_drive import Driver, plan_of

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.sampling import SampleConfig, sample
from caskit.shards.verify import verify

NUM = 203

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def expected(pebble: Checkpoint, tmp_path: Path) -> str:
    config = SampleConfig(executor="inline")
    replica = sample(plan_of(pebble.path, NUM), tmp_path / "calm", checkpoint=pebble.path, config=config)
    assert replica is not None
    return replica.replica_id


def test_a_driver_killed_at_random_moments(expected: str, pebble: Checkpoint, tmp_path: Path) -> None:
    out, rng = tmp_path / "r", random.Random(0)
    for _ in range(4):
        driver = Driver(out, pebble.path, NUM, PEBBLE_DELAY_S="0.03")
        driver.wait_for(out / "plan.json")
        time.sleep(rng.uniform(0.0, 0.6))
        driver.kill()
    assert Driver(out, pebble.path, NUM).end() == (0, expected)
    verify(str(out), "full")
    assert not [path for path in (out / "_work/tmp").iterdir() if path.name.startswith("caskit-")]


def test_a_ray_worker_and_then_its_driver_killed(expected: str, pebble: Checkpoint, tmp_path: Path) -> None:
    """The worker's shard is made elsewhere; what outlives the driver for some seconds does no harm to the next run."""
    out, fail = tmp_path / "r", tmp_path / "fail"
    fail.mkdir()
    (fail / "kill").touch()
    options = ["executor=ray", "workers=2"]
    driver = Driver(out, pebble.path, NUM, *options, PEBBLE_DELAY_S="0.3", PEBBLE_FAIL_FOLDER=str(fail))
    driver.wait_for(out / "_work/commits/000002.parquet")
    driver.send(signal.SIGKILL)
    events = [
        json.loads(line) for path in (out / "_work/telemetry").iterdir() for line in path.read_text().splitlines()
    ]
    retried = [event for event in events if event["event"] == "retried"]
    assert len(retried) == 1 and "worker process ended" in retried[0]["error"]
    assert not list(fail.iterdir())
    assert Driver(out, pebble.path, NUM).end() == (0, expected)
    driver.kill()
    verify(str(out), "full")
