"""`caskit fit` under torchrun: two processes, one checkpoint, one voice."""

import os
import subprocess
import sys
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


def test_a_command_for_one_process_refuses_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--recipe", "digits", "--data", str(GOLDEN), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "caskit: error: rank 1: caskit train works in one process, torchrun started 2; it is for caskit fit\n"
    )
    assert not (tmp_path / "out").exists()
