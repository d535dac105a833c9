"""A score over several seeds is that of its trainings, is made once, and refuses what does not fit together."""

import copy
import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from caskit.evaluate.cas import classification_accuracy_score
from caskit.evaluate.cost import cost_line, images_per_s
from caskit.evaluate.rows import spread
from caskit.evaluate.score import read_score, score
from caskit.evaluate.trainings import plan_trainings
from caskit.manifests.errors import InputError, NotFinished
from caskit.shards.dataset import FrozenSet
from caskit.train.engine import Progress
from caskit.train.recipes import Recipe
from caskit.train.training import read_run, train

CPU = torch.device("cpu")
RECIPE = Recipe(
    name="tiny", widths=(8, 8), num_poolings=2, resolution=8, num_steps=4, batch_size=16, learning_rate=0.2, threads=1,
    bn_batch=16,
)  # fmt: skip


@dataclasses.dataclass
class Sets:
    synthetic: FrozenSet
    real_train: FrozenSet
    test: FrozenSet


@pytest.fixture
def sets(make_real: Callable[..., FrozenSet], as_synthetic: Callable[[FrozenSet], FrozenSet]) -> Sets:
    return Sets(as_synthetic(make_real("train", seed=2)), make_real("train", seed=1), make_real("test"))


def cas(sets: Sets, out: Path, **options: Any) -> dict[str, Any]:
    options = {"real_train": sets.real_train, "recipe": RECIPE, "seeds": 2, **options}
    return classification_accuracy_score(sets.synthetic, sets.test, out=out, device=CPU, **options)


def test_every_number_is_that_of_its_training(sets: Sets, tmp_path: Path) -> None:
    result = cas(sets, tmp_path / "cas")
    real, synthetic = result["rows"]
    assert (real["metric"], synthetic["metric"], real["num"], synthetic["num"]) == ("real", "CAS", 48, 48)
    for row in (real, synthetic):
        assert [entry["seed"] for entry in row["scores"]] == [0, 1]
        for entry in row["scores"]:
            record = read_score(tmp_path / "cas" / entry["location"])
            assert record["score_id"] == entry["score_id"] and record["top1"]["value"] == entry["top1"]
            assert read_run(tmp_path / "cas" / entry["location"] / "../classifier")["seed"] == entry["seed"]
        assert row["top1"]["mean"] == pytest.approx(statistics.fmean(e["top1"] for e in row["scores"]))
    for ours, theirs in zip(synthetic["scores"], real["scores"], strict=True):
        assert ours["gap_points"] == pytest.approx(100 * (theirs["top1"] - ours["top1"]))
    assert result["gap_points"] == synthetic["gap_points"] and real["gap_points"] is None
    assert json.loads((tmp_path / "cas/cas.json").read_text()) == result


def test_the_same_call_does_nothing_twice_and_goes_on_where_it_stopped(sets: Sets, tmp_path: Path) -> None:
    whole = cas(sets, tmp_path / "whole")
    steps = iter([False] * 6 + [True])
    with pytest.raises(NotFinished):
        cas(sets, tmp_path / "parts", stop=lambda: next(steps))
    assert not (tmp_path / "parts/cas.json").exists()
    trained: list[Progress] = []
    again = cas(sets, tmp_path / "parts", progress=trained.append)
    assert again["rows"] == whole["rows"] and trained
    before = len(trained)
    assert cas(sets, tmp_path / "parts", progress=trained.append) == again
    assert len(trained) == before
    assert {at.stage.split(":")[0] for at in trained} >= {"Real, seed 1", "synthetic, seed 0", "synthetic, seed 1"}


def test_seeds_may_be_added_and_nothing_else_changed(
    sets: Sets, tmp_path: Path, make_real: Callable[..., FrozenSet]
) -> None:
    first = cas(sets, tmp_path / "cas", seeds=1)
    assert first["top1"]["sd"] is None
    more = cas(sets, tmp_path / "cas", seeds=(0, 5))
    assert more["rows"][1]["scores"][0] == first["rows"][1]["scores"][0] and more["top1"]["sd"] is not None
    changes: list[tuple[dict[str, Any], str]] = [
        ({"recipe": dataclasses.replace(RECIPE, num_steps=5)}, "recipe_id"),
        ({"real_train": None}, "real_train"),
        ({"real_train": make_real("train", seed=9)}, "real_train"),
    ]
    for change, field in changes:
        with pytest.raises(InputError, match=f"holds the score of other inputs, differing in {field}"):
            cas(sets, tmp_path / "cas", **change)


def test_a_baseline_stands_for_every_seed(sets: Sets, tmp_path: Path) -> None:
    train(sets.real_train, RECIPE, seed=7, out=tmp_path / "real", device=CPU)
    record = score(tmp_path / "real", sets.test, out=tmp_path / "baseline", device=CPU)
    result = cas(sets, tmp_path / "cas", real_train=None, baseline=tmp_path / "baseline")
    assert [row["metric"] for row in result["rows"]] == ["CAS"]
    for entry in result["rows"][0]["scores"]:
        assert entry["gap_points"] == pytest.approx(100 * (record["top1"]["value"] - entry["top1"]))
    assert cas(sets, tmp_path / "alone", real_train=None)["gap_points"] is None
    with pytest.raises(InputError, match="one kind of Real row"):
        cas(sets, tmp_path / "both", baseline=tmp_path / "baseline")


def test_real_rows_of_an_earlier_call_stand_beside_the_same_seeds(sets: Sets, tmp_path: Path) -> None:
    first = cas(sets, tmp_path / "first", seeds=2)
    second = cas(sets, tmp_path / "second", seeds=2, real_train=None, baseline=tmp_path / "first")
    assert [row["metric"] for row in second["rows"]] == ["CAS"]
    gaps = [[score["gap_points"] for score in result["rows"][-1]["scores"]] for result in (first, second)]
    assert gaps[0] == gaps[1] and None not in gaps[0]
    assert not (tmp_path / "second/real").exists()
    with pytest.raises(InputError, match=r"first: has no Real row of seed 2; ask for fewer seeds"):
        cas(sets, tmp_path / "third", seeds=3, real_train=None, baseline=tmp_path / "first")
    with pytest.raises(InputError, match=r"second: has no Real rows of its own"):
        cas(sets, tmp_path / "third", seeds=1, real_train=None, baseline=tmp_path / "second")
    assert not (tmp_path / "third").exists()


def test_sizes_are_whole_shards_from_the_first_on(
    sets: Sets,
    tmp_path: Path,
    make_real: Callable[..., FrozenSet],
    as_synthetic: Callable[[FrozenSet], FrozenSet],
) -> None:
    sets.synthetic = as_synthetic(make_real("train", seed=2, samples_per_shard=18))
    result = cas(sets, tmp_path / "cas", sizes=(48, 18))
    assert [(row["name"], row["num"]) for row in result["rows"]] == [
        ("real", 48),
        ("first-shards-1", 18),
        ("synthetic", 48),
    ]
    small = read_run(tmp_path / "cas/first-shards-1/seed-0/classifier")["data"]
    assert (small["num"], small["expression"]["sources"][0]["select"]) == (18, "first-shards:1")
    with pytest.raises(InputError, match="size 20: .* up to 48 images, nearest 18 and 36; a size is a whole number"):
        cas(sets, tmp_path / "cas", sizes=(20,))


@pytest.mark.parametrize("seeds", [(), (1, 1), tuple(range(101))])
def test_seeds_that_cannot_be_are_refused(sets: Sets, tmp_path: Path, seeds: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="seeds are .*allowed: 1 to 100 different whole numbers"):
        cas(sets, tmp_path / "cas", seeds=seeds)
    assert not (tmp_path / "cas").exists()


def test_the_cost_is_told_before_and_counts_what_is_left(sets: Sets, tmp_path: Path) -> None:
    trainings = plan_trainings(sets.synthetic, tmp_path / "cas", real_train=sets.real_train, seeds=(0, 1))
    assert cost_line(trainings, RECIPE) == "4 trainings of 4 steps of 16 images, 256 images in all"
    cas(sets, tmp_path / "cas", seeds=1)
    assert cost_line(trainings, RECIPE) == "2 trainings of 4 steps of 16 images, 128 images in all; 2 done before"
    assert images_per_s(trainings[0], RECIPE, CPU) > 0
    with pytest.raises(InputError, match="recipe tiny is for 9x9"):
        images_per_s(trainings[0], dataclasses.replace(RECIPE, resolution=9), CPU)


def test_a_spread_is_mean_deviation_and_range() -> None:
    assert spread([2.0]) == {"mean": 2.0, "sd": None, "min": 2.0, "max": 2.0}
    assert spread([1.0, 2.0, 3.0]) == {"mean": 2.0, "sd": 1.0, "min": 1.0, "max": 3.0}


def replica(sets: Sets, real: FrozenSet, seed: int, **changes: Any) -> FrozenSet:
    """Another replica of the plan of `sets.synthetic`, with these images."""
    made = copy.copy(sets.synthetic)
    other = copy.copy(real)
    assert made.plan is not None
    other.kind, other.split, other.ingest = "synthetic", None, None
    other.plan = dataclasses.replace(made.plan, seed=seed, **changes)
    return other


def test_every_spread_has_its_name_and_all_together_is_the_widest(
    sets: Sets, tmp_path: Path, make_real: Callable[..., FrozenSet]
) -> None:
    other = replica(sets, make_real("train", seed=4), 8)
    result = cas(sets, tmp_path / "cas", resampled=[other], gan_test=True)
    assert [row["name"] for row in result["rows"]] == ["real", "synthetic", "sampling-seed-8", "gan-test"]
    real, synthetic, second, fidelity = result["rows"]
    for row in (synthetic, second):
        for name in ("top1", "gap_points"):
            found = row["intervals"][name]
            assert set(found) == {"test_images", "training_seeds", "all"}
            assert found["all"]["se"] >= max(found["test_images"]["se"] * 0.9, found["training_seeds"]["se"])
            assert found["all"]["low"] <= row[name]["mean"] <= found["all"]["high"]
    assert real["intervals"]["gap_points"] is None and fidelity["gap_points"] is None
    assert result["row"] == "synthetic" and result["intervals"] == synthetic["intervals"]
    seeds = result["sampling_seeds"]
    means = [row["top1"]["mean"] for row in (synthetic, second)]
    assert seeds["seeds"] == [3, 8] and seeds["top1"] == spread(means)
    expected = max(0.0, statistics.variance(means) - seeds["training_sd"] ** 2 / 2) ** 0.5
    assert seeds["sampling_sd"] == pytest.approx(expected, abs=1e-12)
    assert set(seeds["intervals"]["gap_points"]) == {"test_images", "sampling_seeds", "all"}


def test_label_fidelity_is_of_the_real_classifiers(sets: Sets, tmp_path: Path) -> None:
    result = cas(sets, tmp_path / "cas", gan_test=True)
    row = result["rows"][-1]
    assert (row["metric"], row["num"]) == ("GAN-test", 48)
    for entry, seed in zip(row["scores"], (0, 1), strict=True):
        record = read_score(tmp_path / "cas" / entry["location"])
        real = read_run(tmp_path / f"cas/real/seed-{seed}/classifier")
        assert record["metric"] == "GAN-test" and record["classifier"]["classifier_id"] == real["classifier_id"]
        assert record["test"]["replica_id"] == sets.synthetic.replica.replica_id
        assert len(record["per_class"]) == 3
    again = cas(sets, tmp_path / "other", real_train=None, baseline=tmp_path / "cas", gan_test=True)
    assert [one["top1"] for one in again["rows"][-1]["scores"]] == [one["top1"] for one in row["scores"]]
    with pytest.raises(InputError, match="GAN-test is of a classifier trained on real images"):
        cas(sets, tmp_path / "alone", real_train=None, gan_test=True)


def test_one_training_has_no_spread_of_trainings(sets: Sets, tmp_path: Path) -> None:
    result = cas(sets, tmp_path / "cas", seeds=1)
    found = result["intervals"]["gap_points"]
    assert found["training_seeds"] is None and result["sampling_seeds"] is None
    assert found["all"]["se"] == pytest.approx(
        found["test_images"]["se"], rel=0.1
    )  # a bootstrap beside its closed form


def test_real_rows_without_predictions_leave_the_gap_without_an_interval(sets: Sets, tmp_path: Path) -> None:
    train(sets.real_train, RECIPE, seed=7, out=tmp_path / "real", device=CPU)
    score(tmp_path / "real", sets.test, out=tmp_path / "baseline", device=CPU)
    (tmp_path / "baseline/predictions.parquet").unlink()
    result = cas(sets, tmp_path / "cas", real_train=None, baseline=tmp_path / "baseline")
    assert result["gap_points"] is not None and result["intervals"]["gap_points"] is None
    assert result["intervals"]["top1"]["all"] is not None


def test_what_is_no_other_sampling_seed(sets: Sets, tmp_path: Path, make_real: Callable[..., FrozenSet]) -> None:
    images = make_real("train", seed=4)
    cases = [
        ([replica(sets, images, 3)], "is another replica of sampling seed 3"),
        ([replica(sets, images, 8), replica(sets, images, 8)], "is another replica of sampling seed 8"),
        ([replica(sets, images, 8, preset="other")], "differs from .* in more than its seed: preset"),
        ([sets.real_train], "of synthetic replicas with a plan"),
    ]
    for resampled, message in cases:
        with pytest.raises(InputError, match=message):
            cas(sets, tmp_path / "cas", resampled=resampled)
    assert not (tmp_path / "cas").exists()
