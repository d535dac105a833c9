"""Classifiers trained through torch.compile by several processes, forked by rank_runs.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

RANK_RUNS = Path(__file__).with_name("rank_runs.py")
# A folder that stands here twice is gone on with.
FORKED = {
    "two/compiled:2": "0 0",
    "again/compiled:2:7": "-9 -9",
    "again/compiled:2": "0 0",
    "eager/undropped:2": "0 0",
}


def call(folder: Path, *words: str) -> list[str]:
    """Do these runs; return how the ranks of each ended."""
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "kernels"),  # made here, not found where an earlier test left them
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes that help to compile: a killed rank would leave its own
    }
    command = [sys.executable, str(RANK_RUNS), *(str(folder / word) for word in words)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=850)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def runs(cxx: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert dict(zip(FORKED, call(folder, *FORKED), strict=True)) == FORKED
    return folder


def weights(out: Path) -> dict[str, Tensor]:
    """The classifier that a run left, after a look at whether every rank has the same."""
    first, *others = (torch.load(path, weights_only=True)["weights"] for path in sorted(out.glob("rank*.pt")))
    for other in others:
        assert equal(other, first)
    found: dict[str, Tensor] = first
    return found


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.timeout(900)
def test_two_compiled_ranks_train_what_two_eager_ones_do(runs: Path) -> None:
    ours, theirs = weights(runs / "two/compiled"), weights(runs / "eager/undropped")
    assert list((runs / "kernels").rglob("*.so")), "kernels were made"
    assert json.loads((runs / "two/compiled/run.json").read_text())["recipe"]["compile"] is True
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-5)


@pytest.mark.timeout(900)
def test_killed_and_gone_on_with_by_as_many_ends_with_equal_tensors(runs: Path) -> None:
    assert equal(weights(runs / "again/compiled"), weights(runs / "two/compiled"))


@pytest.mark.timeout(900)
def test_one_machine_without_a_compiler_ends_all_ranks_with_the_same_line(tmp_path: Path) -> None:
    assert call(tmp_path, "bereft_of_a_compiler:2") == ["0 0"]
    first, last = (
        (tmp_path / f"bereft_of_a_compiler/error{rank}").read_text().partition(" ")[2].splitlines() for rank in (0, 1)
    )
    assert last == [
        "recipe: compile needs a C++ compiler, no-such-compiler is not there; install it, name another one in CXX, or "
        "train without compile, which is another recipe"
    ]
    assert first == [f"{last[0]} (on rank 1)"]
