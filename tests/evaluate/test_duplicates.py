"""Copies are found and told from likeness: a copycat, a leak, a collapsed class, a set that is not what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit import cli
from caskit.evaluate.duplicates.folder import RECORD_NAME, duplicates_id, faults, read_inspection, read_sheet
from caskit.evaluate.duplicates.inspection import DuplicatesConfig, inspect_duplicates
from caskit.evaluate.duplicates.neighbours import nearest
from caskit.evaluate.duplicates.pixels import largest_side, reduced
from caskit.evaluate.duplicates.writing import write_inspection
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import import_source
from caskit.shards.ingest import ingest
from caskit.shards.sources.recognise import Options, recognise
from caskit.shards.sources.source import ArraySource

CPU = torch.device("cpu")
CLASSES = ClassList.from_names(("left", "middle", "right"))
NUM = 240


def pictures(num: int, seed: int) -> np.ndarray:
    """Smooth random images, each with a strong stripe that tells its class."""
    generator = np.random.default_rng(seed)
    images = generator.normal(60, 25, (num, 8, 8, 1))
    for axis in (1, 2):
        images = (images + np.roll(images, 1, axis)) / 2
    images += generator.normal(0, 12, (num, 1, 8, 1))
    images[np.arange(num), :, 1 + 2 * (np.arange(num) % 3)] += 110
    return images.clip(0, 255).astype(np.uint8)


def real(folder: Path, split: str, images: np.ndarray) -> FrozenSet:
    source = ArraySource(
        dataset="stripes", split=split, classes=CLASSES, files={}, labels=np.arange(len(images)) % 3, pixels=images,
        numbers=np.arange(len(images)), file="stripes",
    )  # fmt: skip
    ingest(source, folder)
    return open_set(str(folder))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("duplicates")
    train, test = pictures(NUM, 1), pictures(120, 2)
    return {
        "root": root,
        "train": train,
        "test": test,
        "options": {
            "real_train": real(root / "train", "train", train),
            "real_test": real(root / "test", "test", test),
            "device": CPU,
        },
    }


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[[np.ndarray], FrozenSet]:
    """Return a function that makes a set of images, labels in turn, that says it is some program's."""

    def make(images: np.ndarray) -> FrozenSet:
        np.savez(tmp_path / "images.npz", images[..., 0], np.arange(len(images)) % 3)
        import_source(recognise(tmp_path / "images.npz", Options(classes=CLASSES)), tmp_path / "images")
        return open_set(str(tmp_path / "images"))

    return make


def codes(record: dict[str, Any], level: str = "fault") -> list[str]:
    return [one["code"] for one in record["findings"] if one["level"] == level]


def test_neighbours_are_those_of_all_distances_whatever_the_blocks() -> None:
    generator = np.random.default_rng(0)
    others = generator.integers(0, 256, (70, 1024)).astype(np.uint8)
    others[40], others[41:43] = others[3], np.array([[0], [255]])
    queries = np.concatenate([generator.integers(0, 256, (20, 1024)).astype(np.uint8), others[:5], others[41:43]])
    apart = queries[:, None].astype(np.int64) - others[None].astype(np.int64)
    squares = (apart**2).sum(axis=2)
    due = np.argsort(squares, axis=1, kind="stable")[:, :4]
    for block in ((1, 7), (100, 100), (4, 33)):
        distances, places = nearest(queries, others, num=4, device=CPU, block=block)
        assert np.array_equal(places, due)
        assert np.array_equal(distances, np.sqrt(np.take_along_axis(squares, due, 1) / 1024))
    itself = nearest(others, others, num=1, same=np.arange(70), device=CPU, block=(8, 9))
    assert itself[1][3, 0] == 40 and itself[1][40, 0] == 3 and (itself[1][:, 0] != np.arange(70)).all()


def test_an_image_is_reduced_by_averaging_areas() -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    means = image.reshape(8, 4, 8, 6, 3).mean(axis=(1, 3))
    assert np.abs(reduced(image, 8).astype(float) - means).max() <= 1
    assert reduced(image[:, :32], 32) is not None and np.array_equal(reduced(image[:, :32], 32), image[:, :32])
    assert [largest_side(channels) for channels in (1, 3, 4)] == [32, 18, 16]


def test_images_of_the_same_law_are_nobodys_copies(sets: dict[str, Any], synthetic: Any) -> None:
    record = inspect_duplicates(synthetic(pictures(NUM, 3)), **sets["options"]).record
    assert codes(record) == codes(record, "note") == []
    assert record["train"]["exact"]["count"] == record["test"]["leaked"]["count"] == 0
    assert record["train"]["null"]["close"]["share"] == pytest.approx(0.01, abs=0.01)
    nearer = record["test"]["nearer_than_train"]
    assert nearer["low"] < nearer["expected"] < nearer["high"]
    assert [row["collapsed"] for row in record["classes"]] == [False] * 3


@pytest.mark.parametrize(("noise", "name"), [(0, "exact"), (1.5, "near"), (6, "close")])
def test_a_copycat_is_called_out(sets: dict[str, Any], synthetic: Any, noise: float, name: str) -> None:
    generator = np.random.default_rng(5)
    images = pictures(NUM, 3)
    copied = (sets["train"] + generator.normal(0, noise, sets["train"].shape)).clip(0, 255).astype(np.uint8)
    images[:60] = copied[:60]
    found = inspect_duplicates(synthetic(images), **sets["options"])
    assert codes(found.record) == ["memorised"] * len(found.record["train"]["memorised"])
    assert found.record["train"]["memorised"][0] == name
    assert found.record["train"][name]["count"] >= 58
    pair = found.record["train"]["pairs"][0]
    ours, theirs = found.pairs["train"][0]
    assert np.abs(ours.astype(int) - theirs.astype(int)).mean() <= 1.5 * noise
    assert pair["distance"] == pytest.approx(np.sqrt(((ours.astype(float) - theirs) ** 2).mean()))


def test_a_whole_set_of_real_images_is_said_to_pose(sets: dict[str, Any], synthetic: Any) -> None:
    record = inspect_duplicates(synthetic(sets["train"]), **sets["options"]).record
    assert codes(record) == ["posing", "memorised", "memorised", "memorised"]
    assert (
        "100.00 % (240 of 240) of the images are real ones" in faults(record)[0] and "import.json" in faults(record)[0]
    )


def test_a_leak_is_what_no_training_image_explains(sets: dict[str, Any], synthetic: Any, tmp_path: Path) -> None:
    images = pictures(NUM, 3)
    images[:6] = sets["test"][:6]
    images[6:9] = np.clip(sets["test"][6:9].astype(int) + 1, 0, 255).astype(np.uint8)
    images[9] = images[8]
    record = inspect_duplicates(synthetic(images), **sets["options"]).record
    assert codes(record)[0] == "leaked"
    assert (record["test"]["leaked"]["count"], record["test"]["leaked"]["test_images"]) == (10, 9)
    known = real(tmp_path / "known", "train", np.concatenate([sets["train"], sets["test"][:9]]))
    record = inspect_duplicates(open_set(str(tmp_path / "images")), **{**sets["options"], "real_train": known}).record
    assert (record["test"]["near"]["count"], record["test"]["leaked"]["count"]) == (10, 0)
    assert "leaked" not in codes(record)


def test_a_collapsed_class_is_named(sets: dict[str, Any], synthetic: Any) -> None:
    generator = np.random.default_rng(7)
    images = pictures(NUM, 3)
    one = images[1:2] + generator.normal(0, 1, (NUM // 3, 8, 8, 1))
    images[1::3] = one.clip(0, 255).astype(np.uint8)
    record = inspect_duplicates(synthetic(images), **sets["options"]).record
    assert "collapsed" in codes(record) and [row["collapsed"] for row in record["classes"]] == [False, True, False]
    assert any("One class has collapsed: middle" in fault for fault in faults(record))


def test_blank_and_repeated_images_are_counted(sets: dict[str, Any], synthetic: Any) -> None:
    images = pictures(NUM, 3)
    images[:4], images[6:24:3] = 200, images[5]
    record = inspect_duplicates(synthetic(images), device=CPU).record
    assert record["images"]["blank"] == 4 and codes(record) == ["blank"]
    assert codes(record, "note") == ["no-test", "no-train", "duplicates"]
    assert record["within"]["exact"]["count"] == 3 + 6


def test_the_first_images_alone_may_be_looked_at(sets: dict[str, Any], synthetic: Any) -> None:
    data = synthetic(pictures(NUM, 3))
    record = inspect_duplicates(data, config=DuplicatesConfig(first=90, side=4), **sets["options"]).record
    assert record["images"]["num"] == record["set"]["num"] == 90 and record["method"]["side"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": DuplicatesConfig(side=33)}, r"side is 33, allowed: 1\.\.32 for images of 1 channels"),
        ({"config": DuplicatesConfig(first=999)}, "the first 999 were asked for"),
        ({"real_train": "test"}, "is a test split, wanted is the real train set"),
        ({"real_test": "made"}, "is imported, wanted is the real test set"),
    ],
)
def test_sets_that_do_not_fit_are_refused(
    sets: dict[str, Any], synthetic: Any, change: dict[str, Any], message: str
) -> None:
    data = synthetic(pictures(30, 3))
    places = {"test": sets["options"]["real_test"], "made": data}
    change = {name: places.get(value, value) if isinstance(value, str) else value for name, value in change.items()}
    with pytest.raises(InputError, match=message):
        inspect_duplicates(data, **{**sets["options"], **change})
    with pytest.raises(NotFinished, match="images of the set were read"):
        inspect_duplicates(data, device=CPU, stop=lambda: True)
    with pytest.raises(InputError, match="tolerance is -1 grey levels"):
        DuplicatesConfig(tolerance=-1)


def test_a_record_is_whole_or_refused(sets: dict[str, Any], synthetic: Any, tmp_path: Path) -> None:
    images = pictures(NUM, 3)
    images[:20] = sets["train"][:20]
    found = inspect_duplicates(synthetic(images), **sets["options"])
    written = write_inspection(found, tmp_path / "out")
    again = write_inspection(inspect_duplicates(synthetic(images), **sets["options"]), tmp_path / "again")
    assert written == again == read_inspection(tmp_path / "out")
    sheet = read_sheet(tmp_path / "out", written, "train")
    assert sheet is not None and sheet.startswith(b"\x89PNG")
    path = tmp_path / "out" / RECORD_NAME
    record = json.loads(path.read_bytes())
    record["train"]["exact"]["count"] = 0
    path.write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match="duplicates_id does not follow"):
        read_inspection(tmp_path / "out")
    record["findings"] = []
    record["duplicates_id"] = duplicates_id(record)
    path.write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match="findings do not follow from the numbers"):
        read_inspection(tmp_path / "out")
    path.write_text('{"format_version": 1, "duplicates_version": 1}')
    with pytest.raises(InputError, match="is no record of `caskit duplicates`"):
        read_inspection(tmp_path / "out")
    (tmp_path / "out" / "pairs-train.png").write_bytes(b"other")
    assert read_sheet(tmp_path / "out", written, "train") is None


def test_the_command_tells_faults_by_its_exit_code(
    sets: dict[str, Any], synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pictures(NUM, 3)
    images[:20] = sets["train"][:20]
    synthetic(images)
    arguments = ["duplicates", str(tmp_path / "images"), "--device", "cpu", "--out", str(tmp_path / "out")]
    beside = ["--real-train", str(sets["root"] / "train"), "--real-test", str(sets["root"] / "test")]
    assert cli.main([*arguments, *beside]) == 1
    shown = capsys.readouterr()
    assert "Training images were copied: 8.33 % (20 of 240) of the images are equal" in shown.err
    assert "FAIL: " in shown.out and (tmp_path / "out" / RECORD_NAME).is_file()
    assert cli.main(arguments) == 0
    assert "note  Nobody looked for training images" in capsys.readouterr().out
