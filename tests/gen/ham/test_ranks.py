"""A fit by two processes: equal state on both, exact resume, every stage; in bfloat16, activations recomputed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("tiny_ham.py")


def fit_with_two_processes(out: Path, *more: str) -> str:
    """Run the script under torchrun; the engine fails the run if the states of the ranks differ when it saves."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(out), *more], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(900)
def test_two_processes_fit_all_stages_and_resume_exactly(tmp_path: Path) -> None:
    assert "stopped" not in fit_with_two_processes(tmp_path / "whole")
    # 20 steps of each stage, the encoding of the codes between: the stop falls into the second level's encoder.
    assert "stopped" in fit_with_two_processes(tmp_path / "stopped", "50")
    assert not (tmp_path / "stopped/checkpoint.json").exists()
    fit_with_two_processes(tmp_path / "stopped")
    for name in ("checkpoint.json", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
