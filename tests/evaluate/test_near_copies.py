"""Copies that were moved: no pixel tells, features do; real images that copied nothing are the measure."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit import cli
from caskit.evaluate.duplicates.folder import RECORD_NAME, faults, read_inspection, read_sheet
from caskit.evaluate.duplicates.inspection import inspect_duplicates
from caskit.evaluate.duplicates.judging import read_judgement
from caskit.evaluate.duplicates.neighbours import nearest
from caskit.evaluate.duplicates.spectrum import Spectrum
from caskit.evaluate.duplicates.writing import write_inspection
from caskit.evaluate.fidelity.extractor import Identity, Outputs
from caskit.evaluate.report.copies import copies_section
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import import_source
from caskit.shards.ingest import ingest
from caskit.shards.sources.recognise import Options, recognise
from caskit.shards.sources.source import ArraySource
from caskit.train.images import Images
from caskit.train.recipes import Recipe
from caskit.train.training import train

CPU = torch.device("cpu")
CLASSES = ClassList.from_names(("left", "middle", "right"))
NUM = 240


def pictures(num: int, seed: int) -> np.ndarray:
    """Bright specks on a dark ground, as many as there are places for: nothing is where it is in another image."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 30, (num, 16, 16, 1))
    for image in images:
        for _ in range(4):
            y, x = generator.integers(3, 13, 2)
            image[y - 1 : y + 2, x - 1 : x + 2, 0] += generator.integers(0, 200, (3, 3))
    return images.clip(0, 255).astype(np.uint8)


def moved(images: np.ndarray) -> np.ndarray:
    """The same images, two pixels to the right and two down."""
    return np.roll(images, (2, 2), axis=(1, 2))


class Specks:
    """A random convolution, pooled over the whole image: the features of a moved image are nearly the same."""

    one_size = True
    identity = Identity(name="specks", digest="cd" * 32, resize="none", usual_resize="none")

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.kernel = torch.randn(48, 1, 3, 3, generator=generator) / 3

    def check(self, images: Images, location: str) -> None:
        """Take any images."""

    def __call__(self, images: Sequence[np.ndarray]) -> Outputs:
        """Return features."""
        batch = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).float() / 64
        maps = torch.relu(torch.conv2d(torch.nn.functional.pad(batch, (1, 1, 1, 1), mode="circular"), self.kernel))
        return Outputs(features=maps.square().mean(dim=(2, 3)).numpy(), logits=None)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root, found = tmp_path_factory.mktemp("near"), {}
    for split, num, seed in (("train", NUM, 1), ("test", 150, 2)):
        found[split] = pictures(num, seed)
        source = ArraySource(
            dataset="specks", split=split, classes=CLASSES, files={}, labels=np.arange(num) % 3, pixels=found[split],
            numbers=np.arange(num), file="specks",
        )  # fmt: skip
        ingest(source, root / split)
    real = {f"real_{split}": open_set(str(root / split)) for split in found}
    return {"root": root, **found, "options": {**real, "extractor": Specks(), "device": CPU}}


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[[np.ndarray], FrozenSet]:
    """Return a function that makes a set that says it is some program's."""

    def make(images: np.ndarray) -> FrozenSet:
        np.savez(tmp_path / "images.npz", images[..., 0], np.arange(len(images)) % 3)
        import_source(recognise(tmp_path / "images.npz", Options(classes=CLASSES)), tmp_path / "images")
        return open_set(str(tmp_path / "images"))

    return make


def test_moved_copies_of_training_images_are_found_by_features_and_not_by_pixels(
    sets: dict[str, Any], synthetic: Any
) -> None:
    images = pictures(NUM, 3)
    images[:60] = moved(sets["train"][60:120])
    found = inspect_duplicates(synthetic(images), **sets["options"])
    record = found.record
    assert record["train"]["memorised"] == [] and record["train"]["exact"]["count"] == 0
    train = record["features"]["train"]
    assert train["memorised"] and train["close"]["count"] >= 55 and train["null"]["close"]["share"] < 0.02
    assert [one["code"] for one in record["findings"] if one["level"] == "fault"] == ["memorised"]
    assert "by features of specks@cdcdcdcd; of real test images" in faults(record)[0]
    for (ours, theirs), pair in zip(found.pairs["features-train"], train["pairs"], strict=True):
        assert np.array_equal(moved(theirs[None])[0], ours) and pair["distance"] < 0.05
    assert not record["features"]["test"]["copied"]


def test_images_of_the_same_law_are_nobodys_near_copies(sets: dict[str, Any], synthetic: Any) -> None:
    record = inspect_duplicates(synthetic(pictures(NUM, 3)), **sets["options"]).record
    assert faults(record) == []
    assert record["features"]["train"]["close"]["share"] < 0.05 and record["features"]["dim"] == 48


def test_moved_copies_of_test_images_are_a_leak(sets: dict[str, Any], synthetic: Any, tmp_path: Path) -> None:
    images = pictures(NUM, 3)
    images[:40] = moved(sets["test"][:40])
    data = synthetic(images)
    found = inspect_duplicates(data, **sets["options"])
    assert found.record["test"]["leaked"]["count"] == 0 and found.record["features"]["test"]["copied"]
    leaked = found.record["features"]["test"]["leaked"]
    assert leaked["count"] >= 36 and leaked["test_images"] >= 36
    assert "a score on that test set is no CAS" in faults(found.record)[0]
    record = write_inspection(found, tmp_path / "out")
    trained = {"replica_id": data.replica.replica_id}
    judged = read_judgement(tmp_path / "out", trained, record["real_test"]["replica_id"])
    assert judged["leaked"] == leaked["test_images"] and judged["memorised"] == []
    sheet = read_sheet(tmp_path / "out", record, "features-test")
    assert sheet is not None and sheet.startswith(b"\x89PNG")
    section = str(copies_section([(tmp_path / "out", record)]))
    assert "by features of specks@cdcdcdcd" in section and section.count("data:image/png") == 5
    stored = json.loads((tmp_path / "out" / RECORD_NAME).read_bytes())
    assert read_inspection(tmp_path / "out") == stored


@pytest.mark.parametrize("size", [16, 40])
def test_a_spectrum_does_not_say_where_an_object_is(size: int) -> None:
    images = np.full((3, size, size, 3), 20, dtype=np.uint8)
    images[0, 8:14, 4:12], images[1, 4:10, 2:10] = 200, 200
    images[2, 4:12, 2:8] = 200
    features = Spectrum()(list(images)).features.astype(np.float64)
    apart = [np.linalg.norm(features[0] - one) / np.linalg.norm(features[0]) for one in features[1:]]
    assert features.shape == (3, 3 * 32 * 17) and apart[1] > 0.1 and apart[0] < (1e-5 if size == 16 else apart[1] / 2)


def test_a_spectrum_finds_moved_copies_without_weights(sets: dict[str, Any], synthetic: Any) -> None:
    images = pictures(NUM, 3)
    images[:40] = moved(sets["train"][:40])
    record = inspect_duplicates(synthetic(images), **{**sets["options"], "extractor": Spectrum()}).record
    assert record["features"]["title"].startswith("spectrum@") and record["train"]["memorised"] == []
    assert record["features"]["train"]["memorised"] and record["features"]["train"]["close"]["count"] >= 30


def test_directions_are_compared_exactly_whatever_the_blocks() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(300, 2048))
    vectors = np.rint(4000 * values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.int16)
    vectors[7] = vectors[200]
    squares = ((vectors[:20, None].astype(np.int64) - vectors[None]) ** 2).sum(axis=2)
    squares[np.arange(20), np.arange(20)] = 2**60
    due = np.argsort(squares, axis=1, kind="stable")[:, :5]
    for block in ((20, 300), (3, 37)):
        distances, places = nearest(
            vectors[:20], vectors, num=5, unit=4000, same=np.arange(20), device=CPU, block=block
        )
        assert np.array_equal(places, due)
        np.testing.assert_allclose(distances, np.sqrt(np.take_along_axis(squares, due, 1)) / 4000, rtol=1e-15)


def test_a_trained_classifier_finds_moved_copies_from_the_command_line(
    sets: dict[str, Any], synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(
        name="tiny", widths=(48,), num_poolings=0, resolution=16, num_steps=2, batch_size=32, learning_rate=0.05,
        threads=1, bn_batch=32, mean=0.06, std=0.1,
    )  # fmt: skip
    train(sets["options"]["real_train"], recipe, seed=0, out=tmp_path / "classifier", device=CPU)
    images = pictures(NUM, 3)
    images[:80] = moved(sets["train"][:80])
    synthetic(images)
    words = ["duplicates", str(tmp_path / "images"), "--device", "cpu", "--out", str(tmp_path / "out")]
    beside = ["--real-train", str(sets["root"] / "train"), "--real-test", str(sets["root"] / "test")]
    by = ["--extractor", "classifier", "--weights", str(tmp_path / "classifier")]
    assert cli.main([*words, *beside, *by]) == 1
    shown = capsys.readouterr()
    assert "by features, to a training image" in shown.out and "some of them moved or changed" in shown.err
    assert shown.err.count("fault") == 1
    for wrong, message in (
        ([*words, *by], "needs both real sets"),
        ([*words, *beside, *by[2:]], "--weights are of an --extractor, which is not named"),
        ([*words, *beside, "--extractor", "classifier"], "needs --weights, the folder of a trained classifier"),
    ):
        assert cli.main(wrong) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    with pytest.raises(InputError, match="extractor specks: needs both real sets, for features have no other null"):
        inspect_duplicates(open_set(str(tmp_path / "images")), extractor=Specks(), device=CPU)
