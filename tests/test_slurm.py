"""The job array of docs/clusters.md, run by bash with a caskit and an scontrol that write down how they were called."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

CASKIT = """#!/bin/bash
trap 'exit 75' USR1
echo "$@" > called
for i in $(seq "$STUB_NAPS"); do sleep 0.1; done
exit "$STUB_CODE"
"""
SCONTROL = '#!/bin/bash\necho "$@" > requeued\n'


def start(repository: Path, folder: Path, **stub: str) -> subprocess.Popen:
    """Start the script that follows the heading."""
    text = (repository / "docs/clusters.md").read_text().split("# Sampling on a cluster")[1]
    match = re.search(r"## Slurm.*?```bash\n(.*?)```", text, re.DOTALL)
    assert match is not None
    (folder / "job.sh").write_text(match[1])
    for name, program in (("caskit", CASKIT), ("scontrol", SCONTROL)):
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)
    path = os.pathsep.join([os.fspath(folder), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "77", **stub}
    return subprocess.Popen(["bash", "job.sh"], cwd=folder, env=variables)


def test_a_task_that_is_told_of_its_end_is_requeued(repository: Path, tmp_path: Path) -> None:
    job = start(repository, tmp_path, STUB_NAPS="6000", STUB_CODE="0")
    deadline = time.monotonic() + 120
    while not (tmp_path / "called").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(120) == 75
    assert (tmp_path / "requeued").read_text() == "requeue 77_3\n"
    assert "--part 3/64" in (tmp_path / "called").read_text()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_task_that_ends_is_not(code: int, repository: Path, tmp_path: Path) -> None:
    assert start(repository, tmp_path, STUB_NAPS="1", STUB_CODE=str(code)).wait(120) == code
    assert not (tmp_path / "requeued").exists()
