"""The examples run as they are."""

import ast
import os
import subprocess
import sys
from pathlib import Path


def test_cas_of_a_folder(repository: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "error", "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(repository / "examples" / "cas_of_a_folder.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    score = ast.literal_eval(done.stdout.splitlines()[-1])
    assert 0.5 < score["top1"]["min"] <= score["top1"]["mean"] <= score["top1"]["max"] <= 1
    assert score["gap_points"]["mean"] < 30
    assert not list(tmp_path.glob("tmp*")), "the example left its folder behind"
