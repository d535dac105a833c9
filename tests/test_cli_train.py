"""`caskit train`: what its flags make of a run."""

import json
import sys
from pathlib import Path

import pytest

from caskit.cli import main

GOLDEN = Path(__file__).parent / "gen" / "golden"
SHORT = ("num_steps=4", "batch_size=8", "bn_batch=8", "shift=0", "crop=uniform-area", "log_every=2")


def words(out: Path, *more: str) -> list[str]:
    settings = [word for setting in SHORT for word in ("--set", setting)]
    return [
        "train",
        "--data",
        str(GOLDEN),
        "--recipe",
        "digits",
        "--device",
        "cpu",
        *settings,
        *more,
        "--out",
        str(out),
    ]


def test_a_run_logs_and_shows_how_much_it_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path, "--tensorboard")) == 0
    shown = capsys.readouterr().err
    assert "train: 4/4 steps" in shown and "img/s" in shown and "loss" in shown and "waiting for data" in shown
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4] and all(0 <= line["waiting"] <= 1 for line in lines)
    assert len((tmp_path / "train.csv").read_text().splitlines()) == 3
    assert list((tmp_path / "tensorboard/train").glob("events.out.tfevents.*"))
    assert set(json.loads((tmp_path / "run.json").read_text())["throughput"]) == {"seconds", "images_per_s", "waiting"}


def test_a_missing_tensorboard_is_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(words(tmp_path / "out", "--tensorboard")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "caskit: error: this needs the package tensorboard: pip install 'caskit[tensorboard]'"
    assert not (tmp_path / "out").exists()


def test_compile_is_a_field_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")  # asked for as soon as the recipe is compiled
    for flag in (["--compile"], ["--set", "compile=true"]):
        assert main(words(tmp_path / "out", *flag)) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("caskit: error: recipe: compile needs a C++ compiler, no-such-compiler is not there")
