"""Classifiers trained by several processes, forked by rank_runs.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

RANK_RUNS = Path(__file__).with_name("rank_runs.py")
# A folder that stands here twice is gone on with, by as many processes as its second line says.
FORKED = {
    "one/classifier:1": "0",
    "two/classifier:2": "0 0",
    "four/classifier:4": "0 0 0 0",
    "again/classifier:2:7": "-9 -9",
    "again/classifier:2": "0 0",
    "fewer/classifier:2:8": "-9 -9",
    "fewer/classifier:1": "0",
    "more/classifier:1:6": "-9",
    "more/classifier:3": "0 0 0",
}
NUM_STEPS, NUM_PARTS, BN_BATCH, NUM = 12, 4, 4, 54


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    command = [sys.executable, str(RANK_RUNS), *(str(folder / word) for word in FORKED)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr
    assert dict(zip(FORKED, done.stdout.splitlines(), strict=True)) == FORKED, done.stderr
    return folder


def weights(out: Path) -> dict[str, Tensor]:
    states = [torch.load(path, weights_only=True) for path in sorted(out.glob("rank*.pt"))]
    assert all(state["id"] == states[0]["id"] for state in states)
    found: dict[str, Tensor] = states[0]["weights"]
    return found


def seen(out: Path) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """What counted: (epoch, sample) by (step, part), a part twice only where the run went back to its saved state."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for path in sorted(out.glob("seen*.jsonl")):
        for line in path.read_text().splitlines():
            _, step, part, ids = json.loads(line)
            samples = [(epoch, sample) for epoch, sample in ids]
            assert found.setdefault((step, part), samples) == samples
    return found


@pytest.mark.timeout(900)
def test_one_two_and_four_processes_see_the_same_parts_and_train_the_same_network(runs: Path) -> None:
    one = seen(runs / "one/classifier")
    assert sorted(one) == [(step, part) for step in range(NUM_STEPS) for part in range(NUM_PARTS)]
    assert {len(samples) for samples in one.values()} == {BN_BATCH}
    in_order = [sample for place in sorted(one) for sample in one[place]]
    assert len(set(in_order)) == len(in_order) == NUM_STEPS * NUM_PARTS * BN_BATCH
    for epoch in range(3):
        assert sorted(sample for e, sample in in_order if e == epoch) == [*range(NUM)]
    ours = weights(runs / "one/classifier")
    for name in ("two", "four"):
        assert seen(runs / name / "classifier") == one
        theirs = weights(runs / name / "classifier")
        for tensor in ours:
            torch.testing.assert_close(theirs[tensor], ours[tensor], rtol=1e-3, atol=1e-5)


def test_no_part_is_seen_by_two_processes(runs: Path) -> None:
    for name, size in (("two", 2), ("four", 4)):
        lines = [
            (json.loads(line)[1:3], path.name)
            for path in (runs / name / "classifier").glob("seen*.jsonl")
            for line in path.read_text().splitlines()
        ]
        assert len(lines) == NUM_STEPS * NUM_PARTS
        assert len({path for _, path in lines}) == size


def test_killed_and_gone_on_with_by_as_many_ends_with_equal_tensors(runs: Path) -> None:
    ours, theirs = weights(runs / "again/classifier"), weights(runs / "two/classifier")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", ["fewer", "more"])
def test_another_number_goes_on_with_the_same_samples_in_the_same_batch_norm_batches(name: str, runs: Path) -> None:
    out = runs / name / "classifier"
    assert seen(out) == seen(runs / "one/classifier")
    ours, theirs = weights(out), weights(runs / "one/classifier")
    for tensor in ours:
        torch.testing.assert_close(ours[tensor], theirs[tensor], rtol=1e-3, atol=1e-5)
    record = json.loads((out / "run.json").read_text())
    assert record["num_processes"] == {"fewer": 1, "more": 3}[name]


def test_the_last_two_states_stay(runs: Path) -> None:
    for folder in (runs / "two/classifier", runs / "fewer/classifier"):
        steps = [torch.load(folder / name, weights_only=True)["step"] for name in ("resume.previous.pt", "resume.pt")]
        assert steps == [10, 12]
        assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]
