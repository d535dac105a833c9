"""Real images with synthetic ones beside them: what a mixture is, what is trained on it, what is said of it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.evaluate.nas import mixture, naive_augmentation_score
from caskit.evaluate.report.curve import augmentation_curve
from caskit.evaluate.score import read_score
from caskit.manifests.errors import InputError, NotFinished
from caskit.shards.dataset import FrozenSet
from caskit.shards.mixture import Mixture
from caskit.train.presets import cas_resnet50
from caskit.train.recipes import Recipe
from caskit.train.training import read_run, train

CPU = torch.device("cpu")
RECIPE = Recipe(
    name="tiny", widths=(8, 8), num_poolings=2, resolution=8, num_steps=4, batch_size=16, learning_rate=0.2, threads=1,
    bn_batch=16,
)  # fmt: skip


@dataclasses.dataclass
class Sets:
    real: FrozenSet
    synthetic: FrozenSet
    test: FrozenSet


@pytest.fixture
def sets(make_real: Callable[..., FrozenSet], as_synthetic: Callable[[FrozenSet], FrozenSet]) -> Sets:
    return Sets(make_real("train", seed=1), as_synthetic(make_real("train", seed=2)), make_real("test"))


def nas(sets: Sets, out: Path, **options: Any) -> dict[str, Any]:
    options = {"recipe": RECIPE, "seeds": (0, 1), "shares": (0.5, 0.0), "device": CPU, **options}
    return naive_augmentation_score(sets.real, sets.synthetic, sets.test, out=out, **options)


def test_a_mixture_is_one_set_after_the_other(sets: Sets) -> None:
    mixed = mixture(sets.real, sets.synthetic, 0.25)
    assert isinstance(mixed, Mixture) and len(mixed) == 48 + 12
    assert mixed.labels.tolist() == [*sets.real.labels, *sets.synthetic.labels[:12]]
    images, labels = mixed.arrays()
    assert labels.tolist() == mixed.labels.tolist()
    assert np.array_equal(images, np.concatenate([sets.real.arrays()[0], sets.synthetic.arrays()[0][:12]]))
    for sample in (0, 47, 48, 59):
        assert np.array_equal(mixed.image(sample), images[sample])
    with pytest.raises(IndexError):
        mixed.image(60)
    sources = mixed.expression.to_json()["sources"]
    assert [source["select"] for source in sources] == ["all", "first:12"]
    assert mixture(sets.real, sets.synthetic, 0) is sets.real


def test_what_cannot_be_mixed(sets: Sets, make_real: Callable[..., FrozenSet]) -> None:
    refused: list[tuple[tuple[FrozenSet, ...], str]] = [
        ((sets.real, make_real("train", seed=3)), "sets of kind real, real; several --data are real images with"),
        ((sets.synthetic, sets.synthetic), "sets of kind synthetic, synthetic"),
        ((sets.real, sets.synthetic, sets.synthetic), "a set stands in a mixture once"),
        ((make_real("train", names=("a", "b", "d")), sets.synthetic), "class list differs from that of"),
    ]
    for parts, message in refused:
        with pytest.raises(InputError, match=message):
            Mixture(parts)


def test_a_classifier_names_the_parts_of_its_mixture(sets: Sets, tmp_path: Path) -> None:
    mixed = mixture(sets.real, sets.synthetic, 0.5)
    record = train(mixed, RECIPE, seed=0, out=tmp_path / "classifier", device=CPU)
    assert record == read_run(tmp_path / "classifier")
    assert record["data"]["set_id"] == mixed.expression.set_id and record["data"]["num"] == 72
    assert [part["kind"] for part in record["data"]["parts"]] == ["real", "synthetic"]
    assert [part["num"] for part in record["data"]["parts"]] == [48, 24]
    assert len(record["data_location"]) == 2
    with pytest.raises(InputError, match=r"differing in data"):
        train(mixture(sets.real, sets.synthetic, 0.25), RECIPE, seed=0, out=tmp_path / "classifier", device=CPU)


def test_every_number_is_that_of_its_training(sets: Sets, tmp_path: Path) -> None:
    result = nas(sets, tmp_path)
    alone, half = result["rows"]
    assert (alone["share"], alone["num"], half["share"], half["num"]) == (0, 48, 0.5, 72)
    assert json.loads((tmp_path / "nas.json").read_text()) == result
    for row, metric in ((alone, "real"), (half, "NAS")):
        for entry in row["scores"]:
            record = read_score(tmp_path / entry["location"])
            assert (record["metric"], record["score_id"]) == (metric, entry["score_id"])
            assert record["top1"]["value"] == entry["top1"]
    for ours, theirs in zip(half["scores"], alone["scores"], strict=True):
        assert ours["gain_points"] == pytest.approx(100 * (ours["top1"] - theirs["top1"]))
    assert any("Naive Augmentation Score, not CAS" in text for text in record["caveats"])
    svg = augmentation_curve(result, title="NAS")
    assert "+50 %" in svg and "NAS, top-1 in %" in svg and "fixed steps" in svg
    assert nas(sets, tmp_path) == result
    with pytest.raises(InputError, match="holds the score of other inputs, differing in fixed"):
        nas(sets, tmp_path, fixed="epochs")


def test_fixed_epochs_are_as_many_looks_at_each_image(sets: Sets, tmp_path: Path) -> None:
    alone, whole = nas(sets, tmp_path, fixed="epochs", shares=(0, 1), seeds=(0,))["rows"]
    assert (alone["num_steps"], whole["num_steps"]) == (4, 8)
    assert alone["recipe_id"] == RECIPE.recipe_id != whole["recipe_id"]
    paper = cas_resnet50().stretched(1.25)
    assert paper.drops == tuple(round(1.25 * drop) for drop in cas_resnet50().drops)
    assert paper.num_steps == round(1.25 * 112_590) and paper.warmup == cas_resnet50().warmup


def test_it_goes_on_where_it_stopped(sets: Sets, tmp_path: Path) -> None:
    steps = iter([False] * 6 + [True])
    with pytest.raises(NotFinished):
        nas(sets, tmp_path / "parts", stop=lambda: next(steps))
    assert not (tmp_path / "parts/nas.json").exists()
    assert nas(sets, tmp_path / "parts")["rows"] == nas(sets, tmp_path / "whole")["rows"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": (0.5, 0.5)}, "shares are .* allowed: different numbers from 0 to 1"),
        ({"shares": (1.5,)}, "shares are"),
        ({"shares": (0.5, 0.501)}, "of 48 images two of them are the same number"),
        ({"seeds": ()}, "seeds are"),
        ({"fixed": "images"}, "fixed is 'images', allowed: steps, epochs"),
    ],
)
def test_what_cannot_be_asked_for(sets: Sets, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nas(sets, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
