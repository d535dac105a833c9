"""The intervals hold a known truth about as often as they say; the long simulation is benchmarks/coverage.py."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caskit.evaluate.bootstrap import Bootstrap


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"))


def rates(tally: Any) -> dict[str, float]:
    return {name: float(np.mean(held)) for name, held in tally.held.items()}


def test_one_score_over_other_test_images(script: dict[str, Any]) -> None:
    tally, world = script["Tally"](), script["World"](per_class=50)
    script["one_classifier"](world, 150, Bootstrap(replicates=200), tally, np.random.default_rng(0))
    found = rates(tally)
    assert 0.9 <= found["gap, paired bootstrap"] <= 0.99 and 0.9 <= found["top-1, stratified bootstrap"] <= 0.99
    assert found["gap, unpaired (Newcombe)"] >= 0.95  # answers to the same images agree, which it does not know
    paired, unpaired = (np.mean(tally.widths[f"gap, {name}"]) for name in ("paired bootstrap", "unpaired (Newcombe)"))
    assert paired < 0.9 * unpaired


def test_the_mean_of_three_trainings(script: dict[str, Any]) -> None:
    tally, world = script["Tally"](), script["World"](per_class=60)
    script["several_trainings"](world, 200, 3, tally, np.random.default_rng(1))
    assert all(0.9 <= rate <= 0.99 for rate in rates(tally).values()), rates(tally)
    assert len(rates(tally)) == 3


def test_the_mean_of_several_replicas(script: dict[str, Any]) -> None:
    tally, world = script["Tally"](), script["World"](per_class=60, by_sampling=0.2)
    script["several_replicas"](world, 200, 4, tally, np.random.default_rng(2))
    assert all(0.9 <= rate <= 0.99 for rate in rates(tally).values()), rates(tally)


def test_calibration_measures(script: dict[str, Any]) -> None:
    tally, names = script["Tally"](), script["calibration"].__globals__
    names["NUM_TRUTH"] = 200_000
    script["calibration"](60, 600, Bootstrap(replicates=200), tally, np.random.default_rng(3))
    assert all(0.87 <= rate <= 1 for rate in rates(tally).values()), rates(tally)


def test_few_classes_are_called_failed_wrongly_and_most_collapsed_ones_are_called_so(script: dict[str, Any]) -> None:
    found = script["discoveries"](4, np.random.default_rng(4))
    assert found["false"] <= 0.05 and found["found"] >= 0.5 and found["mcnemar"] <= 0.06
