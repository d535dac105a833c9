import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from caskit.evaluate.metrics import summary
from caskit.evaluate.predict import PREDICTION_SCHEMA, predict, prediction_rows, read_predictions
from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.shards.dataset import FrozenSet
from caskit.train.classifier import build_model
from caskit.train.engine import Progress
from caskit.train.presets import get_recipe
from caskit.train.training import Classifier

MakeReal = Callable[..., FrozenSet]
CPU = torch.device("cpu")


@pytest.fixture
def classifier() -> Classifier:
    """A network with random weights and batch-norm statistics that matter."""
    recipe = get_recipe("digits")
    torch.manual_seed(0)
    model = build_model(recipe, 3, 1)
    model.train()
    with torch.no_grad():
        model(torch.randn(64, 1, 8, 8))
    return Classifier(
        path=Path("nowhere"),
        record={},
        recipe=recipe,
        classes=None,
        channels=1,
        model=model.eval(),
        device=CPU,  # type: ignore[arg-type]
    )


def test_rows_by_hand() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.05, 0.25, 0.15, 0.25]], dtype=torch.float64)
    table = prediction_rows(probabilities.log() + 7, np.array([4]), ["c04_000000"])
    assert table.schema.equals(PREDICTION_SCHEMA)
    row = table.to_pylist()[0]
    assert (row["key"], row["label"], row["rank"]) == ("c04_000000", 4, 3)
    assert row["top5_ids"] == [3, 5, 1, 4, 0]  # equal ones by label
    assert np.exp(row["log_probability"]) == pytest.approx(0.15)
    assert np.exp(row["top5_log_probabilities"]) == pytest.approx([0.25, 0.25, 0.2, 0.15, 0.1])
    assert row["sum_squared_probabilities"] == pytest.approx(float((probabilities**2).sum()))


def test_output_that_is_not_finite() -> None:
    with pytest.raises(RunFailed, match="output for key b is not finite"):
        prediction_rows(torch.tensor([[0.0, 1.0], [0.0, float("nan")]]), np.array([0, 1]), ["a", "b"])


def test_every_image_once_and_batch_size_does_not_matter(classifier: Classifier, make_real: MakeReal) -> None:
    data = make_real("test")
    tables = {size: predict(classifier, data, batch_size=size) for size in (1, 7, 48, 250)}
    reference = tables[48]
    assert reference.column("key").to_pylist() == data.keys
    assert reference.column("label").to_pylist() == data.labels.tolist()
    images = (
        torch.from_numpy(data.arrays()[0]).permute(0, 3, 1, 2) / 255 - classifier.recipe.mean
    ) / classifier.recipe.std
    with torch.no_grad():
        logits = classifier.model(images)
    by_hand = prediction_rows(logits, data.labels, data.keys)
    for table in (*tables.values(), by_hand):
        for name in ("rank", "top5_ids"):
            assert table.column(name).to_pylist() == reference.column(name).to_pylist()
        ours, theirs = summary(table, data.classes), summary(reference, data.classes)
        assert ours["top1"] == theirs["top1"]
        for name in ("nll", "brier", "ece"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5)


def test_progress_and_stop(classifier: Classifier, make_real: MakeReal) -> None:
    data = make_real("test")
    seen: list[Progress] = []
    predict(classifier, data, batch_size=20, progress=seen.append)
    assert [(p.step, p.num_steps) for p in seen] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(NotFinished, match="stopped after 2 of 3 batches"):
        predict(classifier, data, batch_size=20, stop=iter([False, False, True]).__next__)


def test_images_of_another_form(classifier: Classifier, make_real: MakeReal) -> None:
    with pytest.raises(InputError, match="images are 9x9"):
        predict(classifier, make_real("test", size=9))
    with pytest.raises(InputError, match="images have 1 channels, the classifier was trained on 3"):
        predict(dataclasses.replace(classifier, channels=3), make_real("test"))


def test_read_back(tmp_path: Path) -> None:
    table = prediction_rows(torch.eye(3), np.arange(3), ["a", "b", "c"])
    pq.write_table(table, tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet").equals(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["rank"]), "columns are not those"),
        (lambda t: t.set_column(1, "label", pa.array([0.0, 1.0, 2.0])), "columns are not those"),
        (lambda t: t.set_column(3, t.schema.field(3), pa.array([0.0, float("nan"), 0.0])), "not finite"),
    ],
)
def test_foreign_predictions(tmp_path: Path, change: Any, message: str) -> None:
    table = prediction_rows(torch.eye(3), np.arange(3), ["a", "b", "c"])
    pq.write_table(change(table), tmp_path / "p.parquet")
    with pytest.raises(IntegrityError, match=message):
        read_predictions(tmp_path / "p.parquet")


def test_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"PAR1 something else PAR1")
    with pytest.raises(IntegrityError, match="not readable as predictions.parquet"):
        read_predictions(tmp_path / "p.parquet")


def test_module_is_left_in_evaluation_mode(classifier: Classifier, make_real: MakeReal) -> None:
    before = {name: tensor.clone() for name, tensor in classifier.model.state_dict().items()}
    predict(classifier, make_real("test"))
    assert isinstance(classifier.model, nn.Module) and not classifier.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.model.state_dict().items())
