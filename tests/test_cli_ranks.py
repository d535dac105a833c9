"""`caskit fit` under torchrun: two processes, one checkpoint, one voice."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from caskit.cli import main
from caskit.gen.family import FAMILIES

TESTS = Path(__file__).parent
GREY, GOLDEN = TESTS / "grey_family.py", TESTS / "gen" / "golden"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=800)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.timeout(900)
def test_two_processes_fit_one_checkpoint_and_one_of_them_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ("fit", "--gen", "grey:tiny", "--data", GOLDEN, "--device", "cpu", "--set", "precision=float32", "--out")
    done = call(*TORCHRUN, GREY, *fit, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["checkpoint", "next"]
    assert done.stderr.count("took") == 2, "one line for the check of the set and one for the fit"
    assert done.stderr.count("30/30 steps") == 1
    monkeypatch.syspath_prepend(TESTS)
    monkeypatch.setitem(FAMILIES, "grey", "grey_family")
    assert main([*map(str, fit), str(tmp_path / "one")]) == 0
    one, two = (safetensors.torch.load_file(tmp_path / name / "model.safetensors")["model"] for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)

    capsys.readouterr()
    assert main([*map(str, fit), str(tmp_path / "two")]) == 2
    assert "holds another run, differing in engine.world_size (None here, 2 there)" in capsys.readouterr().err


def started(out: Path, size: int) -> list[subprocess.Popen[str]]:
    """Start processes as docs/clusters.md does for Slurm: by torchrun's variables, without torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = ("bn_batch=32", "num_steps=100000", "save_every=100000", "crop=uniform-area", "shift=0")
    command = [sys.executable, "-m", "caskit", "train", "--data", str(GOLDEN), "--recipe", "digits", "--out", str(out)]
    command += ["--device", "cpu", *(word for setting in settings for word in ("--set", setting))]
    launch = {"TORCHELASTIC_RUN_ID": "7", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    return [
        subprocess.Popen(
            command,
            env={**os.environ, **launch, "RANK": str(r), "LOCAL_RANK": str(r), "LOCAL_WORLD_SIZE": str(size)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(size)
    ]


def stopped_by(number: int, processes: list[subprocess.Popen[str]], log: Path, *, lines: int) -> list[str]:
    """Wait for so many lines of the log, send the last process a signal and return what each one said."""
    deadline = time.monotonic() + 400
    while not log.exists() or len(log.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
        time.sleep(0.2)
    processes[-1].send_signal(number)
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [75] * len(processes), said
    return said


@pytest.mark.timeout(900)
def test_a_training_stops_on_signals_with_75_and_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "out/train.jsonl"
    said = stopped_by(signal.SIGUSR1, started(out, 2), log, lines=2)
    assert "stopped after step" in said[0] and "stopped after step" not in said[1]
    first = torch.load(out / "resume.pt", weights_only=True)["step"]
    before = log.read_text()
    stopped_by(signal.SIGTERM, started(out, 1), log, lines=len(before.splitlines()) + 1)
    assert log.read_text().startswith(before)
    assert torch.load(out / "resume.pt", weights_only=True)["step"] > first > 0


def test_a_command_for_one_process_refuses_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    assert main(["score", "--classifier", "x", "--real", str(GOLDEN), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "caskit: error: rank 1: caskit score works in one process, torchrun started 2; it is for caskit fit, train\n"
    )
    assert not (tmp_path / "out").exists()
