"""What a score says about its uncertainty follows from its answers, whatever their order."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from caskit.evaluate.answers import Answers, check_same_images
from caskit.evaluate.bootstrap import Bootstrap
from caskit.evaluate.intervals import newcombe
from caskit.evaluate.numbers import score_numbers
from caskit.evaluate.predict import prediction_rows
from caskit.evaluate.statistics import PAIRED, UNPAIRED, class_decisions, score_statistics
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

NUM_CLASSES, EACH = 8, 40
CLASSES = ClassList.from_names([f"class {label}" for label in range(NUM_CLASSES)])
LABELS = np.repeat(np.arange(NUM_CLASSES), EACH)
KEYS = [f"c{label:02d}_{ordinal % EACH:06d}" for ordinal, label in enumerate(LABELS)]
FEW = Bootstrap(replicates=200)


def predictions(rates: list[float], seed: int = 0) -> pa.Table:
    """A classifier that is right at these rates, by class."""
    generator = np.random.default_rng(seed)
    right = generator.random(len(LABELS)) < np.array(rates)[LABELS]
    logits = torch.from_numpy(generator.normal(0, 1, (len(LABELS), NUM_CLASSES)))
    logits[torch.arange(len(LABELS)), torch.from_numpy(np.where(right, LABELS, (LABELS + 1) % NUM_CLASSES))] += 6
    return prediction_rows(logits, LABELS, KEYS)


REAL = predictions([0.9] * NUM_CLASSES)
OURS = predictions([0.95, 0.9, 0.85, 0.8, 0.8, 0.7, 0.05, 0.0], seed=1)


def record_of(table: pa.Table) -> dict[str, Any]:
    return {
        **score_numbers(table, CLASSES, bootstrap=FEW),
        "score_id": "1" * 64,
        "location": "real",
        "classifier": {
            "classifier_id": "2" * 64,
            "recipe": "r",
            "recipe_id": "3" * 64,
            "seed": 0,
            "train": {"replica_id": "4" * 64},
        },
    }


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    return score_numbers(OURS, CLASSES, real=record_of(REAL), real_predictions=REAL, bootstrap=FEW)


def test_intervals_hold_their_values(numbers: dict[str, Any]) -> None:
    found = numbers["statistics"]["test_images"]
    for name in ("top1", "top5", "nll", "brier", "ece"):
        value = numbers[name]["value"] if isinstance(numbers[name], dict) else numbers[name]
        assert found[name]["low"] <= value <= found[name]["high"] and found[name]["se"] > 0
    for name in ("gap_points", "gap_relative"):
        gap = numbers["statistics"][name]
        assert gap["low"] < numbers[name] < gap["high"] and gap["method"] == PAIRED
    assert numbers["statistics"]["bootstrap"] == {"replicates": 200, "seed": 0, "strata": "classes"}


def test_mcnemar_counts_the_images_that_one_of_both_gets_right(numbers: dict[str, Any]) -> None:
    ours, real = (table.column("rank").to_numpy() == 0 for table in (OURS, REAL))
    found = numbers["statistics"]["mcnemar"]
    assert (found["only_this"], found["only_real"]) == ((ours & ~real).sum(), (real & ~ours).sum())
    assert found["p"] < 1e-6
    assert 100 * (found["only_real"] - found["only_this"]) / len(LABELS) == pytest.approx(numbers["gap_points"])


def test_collapsed_classes_are_named_and_counted(numbers: dict[str, Any]) -> None:
    counts, rows = numbers["statistics"]["classes"], numbers["per_class"]
    assert counts["failed"] == ["c06", "c07"] == [row["id"] for row in rows if row["failed"]]
    assert counts["at_zero"] == sum(row["top1"] == 0 for row in rows) >= 1
    assert counts["above_real"] + counts["equal_real"] + counts["below_real"] == counts["num"] == NUM_CLASSES
    assert counts["above_real"] == sum(row["difference"] > 0 for row in rows)
    assert 2 <= counts["credibly_below_real"] < NUM_CLASSES and counts["credibly_above_real"] == 0


def test_the_order_of_rows_decides_nothing(numbers: dict[str, Any]) -> None:
    shuffled = [table.take(np.random.default_rng(s).permutation(len(LABELS))) for s, table in enumerate((OURS, REAL))]
    again = score_numbers(
        shuffled[0], CLASSES, real=record_of(shuffled[1]), real_predictions=shuffled[1], bootstrap=FEW
    )
    assert again["statistics"]["gap_points"] == pytest.approx(numbers["statistics"]["gap_points"])
    assert again["statistics"]["classes"] == numbers["statistics"]["classes"]


def test_without_real_predictions_the_gap_is_unpaired_and_wider(numbers: dict[str, Any]) -> None:
    alone = score_numbers(OURS, CLASSES, real=record_of(REAL), bootstrap=FEW)
    gap, block = numbers["top1"], alone["statistics"]["gap_points"]
    real = record_of(REAL)["top1"]
    expected = newcombe((real["value"], real["low"], real["high"]), (gap["value"], gap["low"], gap["high"]))
    assert (block["low"], block["high"]) == pytest.approx((100 * expected[0], 100 * expected[1]))
    assert block["method"] == UNPAIRED and "mcnemar" not in alone["statistics"]
    assert alone["statistics"]["classes"]["credibly_below_real"] is None
    assert alone["statistics"]["classes"]["failed"] == ["c06", "c07"]


def test_newcombe_equals_the_worked_example() -> None:
    # Newcombe 1998, table II, example (a): 56/70 against 48/80, method 10.
    from caskit.evaluate.intervals import wilson

    found = newcombe((56 / 70, *wilson(56, 70)), (48 / 80, *wilson(48, 80)))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_without_real_nothing_is_decided_and_few_classes_have_no_top5() -> None:
    block = score_statistics(Answers.of(OURS), num_classes=NUM_CLASSES, bootstrap=FEW)
    assert not {"gap_points", "mcnemar", "classes"} & set(block)
    assert score_statistics(Answers.of(OURS), num_classes=5, bootstrap=FEW)["test_images"]["top5"] is None


def test_a_class_without_images_is_not_tested() -> None:
    row = {"label": 0, "id": "a", "num": 0, "top1": None, "real_top1": None, "difference": None}
    full = {"label": 1, "id": "b", "num": 50, "top1": 0.0, "real_top1": 0.9, "difference": -0.9}
    rows, counts = class_decisions([row, full])
    assert rows[0]["failed"] is None and rows[1]["failed"] is True
    assert counts["num"] == 1 and counts["failed"] == ["b"]


def test_other_images_are_refused() -> None:
    ours = Answers.of(OURS)
    with pytest.raises(InputError, match="a has 320 predictions, b 319: not the same test images"):
        check_same_images(ours, Answers.of(OURS.slice(1)), names=("a", "b"))
    renamed = OURS.set_column(0, OURS.schema.field(0), pa.array([*KEYS[:-1], "c07_000099"]))
    with pytest.raises(InputError, match="label 7 key c07_000039 there, label 7 key c07_000099 here"):
        check_same_images(ours, Answers.of(renamed), names=("a", "b"))
