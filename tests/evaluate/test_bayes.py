"""Bayes' rule with known likelihoods gives known answers, and nothing but a real test set takes them."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from caskit.evaluate.bayes import bayes_score
from caskit.evaluate.predict import read_predictions
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.shards.dataset import FrozenSet

CPU = torch.device("cpu")
GENERATOR = {"family": "stripes", "preset": "p", "checkpoint_id": "ab" * 32}


def stripes(images: np.ndarray) -> np.ndarray:
    """The class whose third of rows is brightest is likeliest; nats that would underflow as probabilities."""
    thirds = np.array_split(images[..., 0].astype(float).mean(axis=2), 3, axis=1)
    return 20 * np.stack([part.mean(axis=1) for part in thirds], axis=1) - 50_000


def test_the_likeliest_class_is_the_answer_and_bits_are_those_of_the_true_one(
    make_real: Callable[..., FrozenSet], tmp_path: Path
) -> None:
    data = make_real("test", num=36)
    record = bayes_score(stripes, data, generator=GENERATOR, out=tmp_path / "bayes", device=CPU, batch_size=10)
    images = np.stack([data.image(i) for i in range(36)])
    nats = stripes(images)
    assert record["top1"]["value"] == (nats.argmax(axis=1) == data.labels).mean() > 0.9
    expected = -nats[np.arange(36), data.labels].mean() / 64 / math.log(2)
    assert record["bits_per_dimension"] == pytest.approx(expected)
    rows = read_predictions(tmp_path / "bayes/predictions.parquet")
    posterior = np.exp(nats - nats.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    found = np.exp(rows.column("log_probability").to_numpy())
    assert found == pytest.approx(posterior[np.arange(36), data.labels])
    assert json.loads((tmp_path / "bayes/bayes.json").read_text()) == record


def test_it_is_done_once_and_of_one_generator(make_real: Callable[..., FrozenSet], tmp_path: Path) -> None:
    data, calls = make_real("test"), []

    def counted(images: np.ndarray) -> np.ndarray:
        calls.append(len(images))
        return stripes(images)

    flags = iter([False, False, True])
    with pytest.raises(NotFinished, match="stopped after 2 of 5 batches"):
        bayes_score(
            counted, data, generator=GENERATOR, out=tmp_path, device=CPU, batch_size=10, stop=lambda: next(flags)
        )
    assert not (tmp_path / "bayes.json").exists()
    first = bayes_score(counted, data, generator=GENERATOR, out=tmp_path, device=CPU, batch_size=10)
    before = len(calls)
    assert bayes_score(counted, data, generator=GENERATOR, out=tmp_path, device=CPU) == first and len(calls) == before
    other = {**GENERATOR, "checkpoint_id": "cd" * 32}
    with pytest.raises(InputError, match="holds the result of other inputs, differing in checkpoint_id"):
        bayes_score(counted, data, generator=other, out=tmp_path, device=CPU)


def test_what_it_does_not_take(
    make_real: Callable[..., FrozenSet], as_synthetic: Callable[[FrozenSet], FrozenSet], tmp_path: Path
) -> None:
    for data in (make_real("train"), as_synthetic(make_real("test"))):
        with pytest.raises(InputError, match="is no real test set"):
            bayes_score(stripes, data, generator=GENERATOR, out=tmp_path, device=CPU)
    with pytest.raises(RunFailed, match=r"the likelihood of key \S+ is not finite"):
        bayes_score(
            lambda images: stripes(images) * np.nan, make_real("test"), generator=GENERATOR, out=tmp_path, device=CPU
        )
    assert not (tmp_path / "bayes.json").exists()
