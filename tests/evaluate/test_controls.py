"""Generators that are wrong on purpose, each found by what is there to find it: copying, wrong labels, collapse."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.evaluate.duplicates.folder import faults
from caskit.evaluate.duplicates.inspection import inspect_duplicates
from caskit.evaluate.score import score
from caskit.manifests.classes import ClassList
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import import_source
from caskit.shards.ingest import ingest
from caskit.shards.sources.recognise import Options, recognise
from caskit.shards.sources.source import ArraySource
from caskit.train.recipes import Recipe
from caskit.train.training import train

CPU = torch.device("cpu")
CLASSES = ClassList.from_names(("left", "middle", "right"))
NUM = 300
RECIPE = Recipe(
    name="tiny", widths=(8, 8), num_poolings=2, resolution=8, num_steps=60, batch_size=32, learning_rate=0.1, threads=1,
    bn_batch=32,
)  # fmt: skip


def pictures(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random images with a stripe whose place is the class."""
    generator, labels = np.random.default_rng(seed), np.arange(num) % len(CLASSES)
    images = generator.normal(60, 25, (num, 8, 8, 1))
    for axis in (1, 2):
        images = (images + np.roll(images, 1, axis)) / 2
    images += generator.normal(0, 12, (num, 1, 8, 1))
    images[np.arange(num), :, 1 + 2 * labels] += 110
    return images.clip(0, 255).astype(np.uint8), labels


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """The Frechet distance of Gaussians with the moments of pixels [N, ...]: what FID is with another extractor."""
    moments = [
        (flat.mean(axis=0), np.cov(flat.T)) for flat in (one.reshape(len(one), -1) / 255 for one in (first, second))
    ]
    (mean_a, cov_a), (mean_b, cov_b) = moments
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


@dataclasses.dataclass(frozen=True)
class Bench:
    """Real sets, and the Real row."""

    root: Path
    real_train: FrozenSet
    real_test: FrozenSet

    def replica(self, name: str, images: np.ndarray, labels: np.ndarray) -> FrozenSet:
        np.savez(self.root / f"{name}.npz", images[..., 0], labels)
        import_source(recognise(self.root / f"{name}.npz", Options(classes=CLASSES)), self.root / name)
        return open_set(str(self.root / name))

    def score(self, name: str, data: FrozenSet) -> dict[str, Any]:
        train(data, RECIPE, seed=0, out=self.root / f"{name}-classifier", device=CPU)
        beside = None if data.kind == "real" else self.root / "real-score"
        folder = self.root / f"{name}-classifier"
        return score(folder, self.real_test, out=self.root / f"{name}-score", baseline=beside, device=CPU)

    def search(self, data: FrozenSet) -> dict[str, Any]:
        found = inspect_duplicates(data, real_train=self.real_train, real_test=self.real_test, device=CPU)
        return found.record


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("controls")
    for split, num, seed in (("train", NUM, 1), ("test", 150, 2)):
        images, labels = pictures(num, seed)
        source = ArraySource(
            dataset="stripes", split=split, classes=CLASSES, files={}, labels=labels, pixels=images,
            numbers=np.arange(num), file="stripes",
        )  # fmt: skip
        ingest(source, root / split)
    made = Bench(root, open_set(str(root / "train")), open_set(str(root / "test")))
    real = made.score("real", made.real_train)
    assert real["metric"] == "real" and real["top1"]["value"] > 0.9
    return made


def test_an_honest_generator_passes(bench: Bench) -> None:
    data = bench.replica("honest", *pictures(NUM, 3))
    record = bench.score("honest", data)
    assert record["metric"] == "CAS" and record["gap_points"] < 10 and record["statistics"]["classes"]["failed"] == []
    assert faults(bench.search(data)) == []


def test_a_copycat_has_the_real_score_and_is_called_out(bench: Bench) -> None:
    images, labels = bench.real_train.arrays()
    turn = np.random.default_rng(0).permutation(NUM)
    data = bench.replica("copycat", images[turn], labels[turn])
    record = bench.score("copycat", data)
    assert record["metric"] == "CAS" and abs(record["gap_points"]) < 10  # by its number it is a good generator
    found = bench.search(data)
    assert found["train"]["memorised"] == ["exact", "near", "close"] and found["train"]["exact"]["share"] == 1
    assert any("Training images were copied: 100.00 %" in fault for fault in faults(found))


def test_shuffled_labels_score_at_chance_with_good_moments(bench: Bench) -> None:
    images, labels = pictures(NUM, 3)
    data = bench.replica("shuffled", images, np.random.default_rng(0).permutation(labels))
    record = bench.score("shuffled", data)
    assert record["top1"]["value"] < 0.5 and record["metric"] == "CAS"
    test, _ = bench.real_test.arrays()
    due = frechet(bench.real_train.arrays()[0], test)
    assert frechet(images, test) < 1.25 * due < 0.25 * frechet(255 - images, test)


def test_a_collapsed_class_is_named_by_score_and_search(bench: Bench) -> None:
    images, labels = pictures(NUM, 3)
    middle = np.flatnonzero(labels == 1)
    black = images[middle[:1]] // 8  # one image, again and again, and not a good one
    images[middle] = (black + np.random.default_rng(0).integers(0, 3, (len(middle), 8, 8, 1))).astype(np.uint8)
    data = bench.replica("collapsed", images, labels)
    record = bench.score("collapsed", data)
    assert record["statistics"]["classes"]["failed"] == [CLASSES.ids[1]]
    assert [row["name"] for row in bench.search(data)["classes"] if row["collapsed"]] == ["middle"]
