import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn import metrics as reference

from caskit.evaluate.metrics import brier, calibration_error, negative_log_likelihood, per_class, summary, top_k
from caskit.evaluate.predict import prediction_rows
from caskit.manifests.classes import ClassList

NUM, NUM_CLASSES = 400, 12
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, NUM_CLASSES, NUM)
LOGITS = torch.from_numpy(GENERATOR.normal(0, 2, (NUM, NUM_CLASSES)) + 3 * np.eye(NUM_CLASSES)[LABELS])
PROBABILITIES = torch.softmax(LOGITS, dim=1).numpy()
KEYS = [f"c_{i:06d}" for i in range(NUM)]
CLASSES = ClassList.from_names([f"class {label}" for label in range(NUM_CLASSES)])


@pytest.fixture
def predictions() -> pa.Table:
    return prediction_rows(LOGITS, LABELS, KEYS)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_equals_sklearn(predictions: pa.Table, k: int) -> None:
    expected = reference.top_k_accuracy_score(LABELS, PROBABILITIES, k=k)
    value = top_k(predictions, k)
    assert value["value"] == pytest.approx(expected)
    assert value["low"] < value["value"] < value["high"]


def test_likelihood_and_brier_equal_sklearn(predictions: pa.Table) -> None:
    assert negative_log_likelihood(predictions) == pytest.approx(reference.log_loss(LABELS, PROBABILITIES))
    expected = reference.brier_score_loss(LABELS, PROBABILITIES, scale_by_half=False, labels=range(NUM_CLASSES))
    assert brier(predictions) == pytest.approx(expected)


def test_per_class_equals_recall(predictions: pa.Table) -> None:
    expected = reference.recall_score(LABELS, PROBABILITIES.argmax(axis=1), average=None)
    rows = per_class(predictions, CLASSES)
    assert [row["top1"] for row in rows] == pytest.approx(expected)
    assert [row["num"] for row in rows] == np.bincount(LABELS).tolist()
    assert [(row["label"], row["id"], row["name"]) for row in rows[:1]] == [(0, "c00", "class 0")]


def test_calibration_error_equals_its_definition(predictions: pa.Table) -> None:
    confidence, hit = PROBABILITIES.max(axis=1), PROBABILITIES.argmax(axis=1) == LABELS
    total = 0.0
    for i in range(15):
        inside = (confidence >= i / 15) & (confidence < (i + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert calibration_error(predictions) == pytest.approx(total)


def test_closed_forms_of_a_sure_and_of_a_blind_classifier() -> None:
    sure = prediction_rows(torch.from_numpy(1e4 * np.eye(NUM_CLASSES)[LABELS]), LABELS, KEYS)
    numbers = summary(sure, CLASSES)
    assert numbers["top1"]["value"] == numbers["top5"]["value"] == numbers["top1"]["high"] == 1.0
    assert numbers["nll"] == numbers["brier"] == numbers["ece"] == 0.0
    blind = prediction_rows(torch.zeros(NUM, NUM_CLASSES), LABELS, KEYS)
    numbers = summary(blind, CLASSES)
    assert numbers["top1"]["value"] == (LABELS == 0).mean()  # ties go to the lowest label
    assert numbers["top5"]["value"] == (LABELS < 5).mean()
    assert numbers["nll"] == pytest.approx(np.log(NUM_CLASSES))
    assert numbers["brier"] == pytest.approx(1 - 1 / NUM_CLASSES)
    assert numbers["ece"] == pytest.approx(abs((LABELS == 0).mean() - 1 / NUM_CLASSES))


def test_metrics_do_not_depend_on_the_order_of_rows(predictions: pa.Table) -> None:
    shuffled = predictions.take(np.random.default_rng(1).permutation(NUM))
    ours, theirs = summary(predictions, CLASSES), summary(shuffled, CLASSES)
    assert ours["per_class"] == theirs["per_class"]
    for name in ("nll", "brier", "ece"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-12)
    assert summary(predictions.slice(7, 100), CLASSES) == summary(predictions.slice(7, 100).combine_chunks(), CLASSES)


def test_few_classes_have_no_top5_and_an_absent_class_no_top1() -> None:
    classes = ClassList.from_names(["a", "b", "c"])
    numbers = summary(prediction_rows(torch.eye(3)[[0, 1, 1]], np.array([0, 1, 0]), KEYS[:3]), classes)
    assert numbers["top5"] is None
    absent = numbers["per_class"][2]
    assert (absent["num"], absent["top1"], absent["low"], absent["high"]) == (0, None, 0.0, 1.0)
