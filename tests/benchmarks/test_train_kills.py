"""Trainings killed at a few steps by benchmarks/train_kills.py, which does it twenty times."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "train_kills.py"


@pytest.mark.timeout(600)
def test_killed_trainings_end_with_equal_tensors_and_other_numbers_see_the_same_samples() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "3", "--steps", "30", "--moments", "5"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "passed": True,
        "kills": {"1 -> 1": 3, "2 -> 2": 3, "2 -> 1 -> 4 -> 2 ...": 3},
        "equal_tensors": {"1 -> 1": True, "2 -> 2": True},
    }
    assert "NO" not in done.stdout and done.stdout.startswith("# Trainings killed at random steps")
