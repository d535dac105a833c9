"""Two processes: moments and gradients are those of the whole batch, states stay equal, resume is exact; bfloat16."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("tiny_gan.py")


def run_two(out: Path, *more: str) -> str:
    """Run the script under torchrun; the engine fails the run if the states of the ranks differ when it saves."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(out), *more], capture_output=True, text=True, env=environment, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(1600)
def test_two_processes_fit_as_one_batch_and_resume_exactly(tmp_path: Path) -> None:
    assert "stopped" not in run_two(tmp_path / "whole")
    assert "stopped" in run_two(tmp_path / "stopped", "5")
    assert not (tmp_path / "stopped/checkpoint.json").exists()
    run_two(tmp_path / "stopped")
    for name in ("checkpoint.json", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
