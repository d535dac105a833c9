"""Output that goes to a file on a full disk: the exit code says what happened, and nothing else is printed."""

import subprocess
import sys
from pathlib import Path

from caskit import cli

FULL = Path("/dev/full")


def call(*words: str | Path, **streams: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "caskit.cli", *map(str, words)]
    return subprocess.run(command, text=True, check=False, timeout=300, **streams)  # type: ignore[call-overload,no-any-return]


def test_an_error_that_cannot_be_told_keeps_its_exit_code(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        done = call("info", tmp_path / "nothing", stdout=subprocess.PIPE, stderr=full)
    assert (done.returncode, done.stdout) == (2, "")


def test_an_answer_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    assert cli.main(["data", "digits", "--out", str(tmp_path / "real")]) == 0
    words = ("info", tmp_path / "real" / "test", "--json")
    assert call(*words, capture_output=True).returncode == 0
    with FULL.open("w") as full:
        done = call(*words, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, "caskit: error: No space left on device\n")
