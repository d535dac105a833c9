import csv
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caskit.train.log import TENSORBOARD_FOLDER, RunLog, read_log, throughput


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def written(out: Path, steps: range, *, step: int = 0, **options: Any) -> None:
    log = RunLog(out, "train", step=step, **options)
    for number in steps:
        log.write(number, {"loss": 1 / number, "images_per_s": 10.0 * number, "seconds": 2.0})
    log.close()


def test_the_table_holds_what_the_lines_hold(tmp_path: Path) -> None:
    written(tmp_path, range(1, 5))
    lines = read_log(tmp_path / "train.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    table = rows(tmp_path / "train.csv")
    assert [{key: float(value) for key, value in row.items()} for row in table] == lines
    assert (tmp_path / "train.csv").read_text().splitlines()[0] == "step,loss,images_per_s,seconds"


@pytest.mark.parametrize("cut", [0, 1, 7, 60])
def test_a_killed_run_goes_on_with_both(cut: int, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, out):
        folder.mkdir()
    written(whole, range(1, 7))
    written(out, range(1, 6))
    for name in ("train.jsonl", "train.csv"):  # what was being written when the run was killed
        data = (out / name).read_bytes()
        (out / name).write_bytes(data[: len(data) - cut])
    written(out, range(4, 7), step=3)
    for name in ("train.jsonl", "train.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_metric_that_comes_later_gets_a_column(tmp_path: Path) -> None:
    written(tmp_path, range(1, 3))
    log = RunLog(tmp_path, "train", step=2)
    log.write(3, {"loss": 0.25, "revived": 7.0})
    log.close()
    table = rows(tmp_path / "train.csv")
    assert [row["revived"] for row in table] == ["", "", "7.0"] and table[2]["images_per_s"] == ""


def test_throughput_weighs_intervals_by_their_time() -> None:
    lines = [
        {"step": 10, "images_per_s": 100.0, "seconds": 1.0, "waiting": 0.5},
        {"step": 20, "images_per_s": 50.0, "seconds": 3.0, "waiting": 0.1},
    ]
    assert throughput(lines) == {"seconds": 4.0, "images_per_s": 62.5, "waiting": 0.2}
    assert throughput([{**line, "waiting": 0.0} for line in lines])["waiting"] == 0.0
    del lines[0]["waiting"]
    assert "waiting" not in throughput(lines)


def test_a_log_is_json_lines(tmp_path: Path) -> None:
    written(tmp_path, range(1, 3))
    assert [json.loads(line)["step"] for line in (tmp_path / "train.jsonl").read_text().splitlines()] == [1, 2]


@pytest.fixture(scope="module")
def scalars() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        events = module.EventAccumulator(str(folder))
        events.Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    return read


def test_tensorboard_sees_each_step_once_though_a_run_was_killed(
    tmp_path: Path, scalars: Callable[[Path], dict[str, list[tuple[int, float]]]]
) -> None:
    written(tmp_path, range(1, 6), tensorboard=True)
    written(tmp_path, range(4, 8), step=3, tensorboard=True)
    found = scalars(tmp_path / TENSORBOARD_FOLDER / "train")
    assert set(found) == {"loss", "images_per_s", "seconds"}
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [value for _, value in found["loss"]] == pytest.approx([1 / number for number in range(1, 8)])


def test_no_event_files_unless_asked_for(tmp_path: Path) -> None:
    written(tmp_path, range(1, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.csv", "train.jsonl"]
