"""`caskit check-generator`: the table, the verdict, the exit code."""

import os
import sys
from pathlib import Path

import pytest

from caskit import cli
from caskit.gen import family as family_table

PEBBLE = os.fspath(Path(__file__).parent / "gen" / "pebble")
SMALL = ["--set", "microbatch_size=8"]


@pytest.fixture(autouse=True)
def _pebble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(PEBBLE)
    assert PEBBLE in sys.path
    for name in ("pebble", "coded"):
        monkeypatch.setitem(family_table.FAMILIES, name, f"{name}_family")
    from pebble_drive import save_pebble

    save_pebble(tmp_path / "checkpoint")


def check(*arguments: str) -> int:
    return cli.main(["check-generator", *arguments, *SMALL])


def test_a_sound_generator(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("pebble", "--checkpoint", "checkpoint") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pebble:tiny  5 classes, 6x4 with 1 channels, batches of 8"
    table = {line.split()[0]: line for line in lines[1:-1] if not line.startswith(" ")}
    assert list(table) == [
        *("config", "arrays", "seed", "batch", "randomness", "labels", "codes", "settings", "process"),
        *("load", "speed", "memory"),
    ]
    assert "not checked" in table["codes"] and all("kept" in table[name] for name in ("config", "seed", "process"))
    assert "img/s" in table["speed"] and "MB" in table["memory"]
    assert lines[-1] == "PASS: replicas of this generator can be made again and audited"


def test_a_broken_promise_is_told_and_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pebble_family

    monkeypatch.setattr(pebble_family.PebbleGenerator, "sample", lambda self, labels, streams: labels)
    assert check("pebble", "--checkpoint", "checkpoint") == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "FAIL: 1 broken promises"
    assert printed.err == (
        "caskit: broken promise: arrays: sample() returned int64 (8,), must be a pair: images, finite\n"
    )


def test_without_a_preset_the_one_that_ships_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for name, message in (
        ("cvae", "caskit: error: generator cvae: name a preset, cvae:fashion-mnist or cvae:digits\n"),
        ("pebble", "caskit: error: generator pebble: name a preset, none ships with it, so a --checkpoint folder\n"),
        ("cvae:no", "caskit: error: --gen cvae:no: cvae has no preset 'no', use one of digits, fashion-mnist\n"),
    ):
        assert check(name) == 2
        assert capsys.readouterr().err == message
