"""What `caskit telemetry` makes of the records of runs, made up here so that every figure is known."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from caskit.cli import main
from caskit.gen.workload import Straggler, summarise
from caskit.manifests.errors import InputError
from caskit.shards.store import LocalStore

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def shard(number: int, ended_s: float, total: float, **changes: Any) -> dict[str, Any]:
    seconds = {"sample": total * 0.8, "encode": total * 0.5, "write": total * 0.25, "commit": total * 0.1}
    return {
        "time": (START + datetime.timedelta(seconds=ended_s)).isoformat(timespec="milliseconds"),
        "event": "shard",
        "shard": number,
        "outcome": "committed",
        "num_drawn": 100,
        "num_redrawn": 1,
        "seconds": {**seconds, "total": total, "processor": total / 2},
        "worker": "host/1",
        **changes,
    }


def write(root: Path, name: str, events: list[Any], *, rest: str = "") -> LocalStore:
    folder = root / "_work/telemetry"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + rest)
    return LocalStore(root)


def test_two_runs_are_summed_up(tmp_path: Path) -> None:
    first = [
        {"event": "begin"},
        shard(0, 10, 10),
        shard(1, 10, 10, worker="host/2"),
        {"event": "retried", "shard": 2, "error": "RunFailed: worker process ended: killed"},
        shard(2, 20, 10),
        shard(9, 20, 0, num_drawn=0, seconds={}, outcome="already"),
    ]
    write(tmp_path, "a", first, rest='{"event": "sha')  # killed while it wrote
    second = [
        {"event": "begin"},
        shard(3, 130, 30, worker="other/7"),
        {"event": "failed", "shard": 4, "error": "OSError: x"},
    ]
    found = summarise(write(tmp_path, "b", [*second, {"event": "end", "ended": "done"}]))
    assert (found.num_runs, found.num_unended, found.num_workers, found.num_unreadable) == (2, 1, 2, 1)
    assert (found.num_shards, found.num_images, found.num_redrawn) == (4, 400, 4)
    assert found.wall_s == pytest.approx(20 + 30) and found.images_per_s == pytest.approx(8)
    assert found.worker_s == pytest.approx(60) and found.processor_s == pytest.approx(30)
    assert found.busy == pytest.approx(60 / (2 * 20 + 30))
    assert found.shares == pytest.approx({"sample": 0.8, "encode": 0.5, "write": 0.25, "commit": 0.1})
    assert found.retried == {"RunFailed": 1} and found.failed == {"OSError": 1}
    slow = Straggler(shard=3, worker="other/7", seconds=30.0, times_median=pytest.approx(3.0))  # type: ignore[arg-type]
    assert (found.num_stragglers, found.stragglers) == (1, (slow,))


def test_parts_that_run_at_once_are_not_counted_twice(tmp_path: Path) -> None:
    write(tmp_path, "a", [shard(0, 10, 10), shard(2, 20, 10)])
    found = summarise(write(tmp_path, "b", [shard(1, 15, 10), shard(3, 30, 15)]))
    assert found.wall_s == pytest.approx(30) and found.images_per_s == pytest.approx(400 / 30)
    assert found.busy == pytest.approx(45 / (20 + 25))


def test_records_without_names_of_workers_and_lines_of_others_are_read(tmp_path: Path) -> None:
    old = [shard(number, 10 * (number // 2 + 1), 10) for number in range(4)]
    for event in old:
        del event["worker"]
    others = [[], {"event": "shard"}, shard(7, 1, 1, seconds={"total": -1}), shard(7, 1, 1, time="noon")]
    found = summarise(write(tmp_path, "a", [*old, *others], rest="\xff\n" + "[" * 100_000))
    assert (found.num_workers, found.num_shards, found.busy) == (2, 4, pytest.approx(1.0))
    assert found.num_unreadable == 6


def test_what_nobody_recorded_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no run has recorded anything in _work/telemetry"):
        summarise(LocalStore(tmp_path))
    found = summarise(write(tmp_path, "a", [{"event": "begin"}]))
    assert (found.num_images, found.images_per_s, found.busy, found.shares, found.num_unended) == (0, 0.0, 0.0, {}, 1)
    assert main(["telemetry", str(tmp_path)]) == 0
    assert "no shard was drawn" in capsys.readouterr().out
    assert main(["telemetry", str(tmp_path / "none")]) == 2


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a", [shard(0, 10, 10), shard(1, 20, 10), shard(2, 50, 30), {"event": "end"}])
    assert main(["telemetry", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "rate        6.0 img/s over 50 s at work" in out and "busy        100.0%" in out
    assert "shares      sample 80.0%, encode 50.0%, write 25.0%, commit 10.0%" in out
    assert "  shard 2: 30 s, 3.0 times the median by host/1" in out
    assert main(["telemetry", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 300
