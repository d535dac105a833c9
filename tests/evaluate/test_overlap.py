"""Test images among those trained on: found by their pixels, whatever the file, and the end of the name CAS."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit import cli
from caskit.evaluate.check import check_folder
from caskit.evaluate.check.sources import Sources
from caskit.evaluate.compare.runs import read_run_of
from caskit.evaluate.duplicates.inspection import inspect_duplicates
from caskit.evaluate.duplicates.writing import write_inspection
from caskit.evaluate.overlap import find_overlap, is_blank, pixel_digests
from caskit.evaluate.report import write_report
from caskit.evaluate.score import SCORE_NAME, score, score_id
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, NotFinished
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import import_source
from caskit.shards.ingest import ingest
from caskit.shards.sources.recognise import Options, recognise
from caskit.shards.sources.source import ArraySource
from caskit.train.recipes import Recipe
from caskit.train.training import train

CPU = torch.device("cpu")
CLASSES = ClassList.from_names(("left", "middle", "right"))
RECIPE = Recipe(
    name="tiny", widths=(8, 8), num_poolings=2, resolution=8, num_steps=3, batch_size=16, learning_rate=0.2, threads=1,
    bn_batch=16,
)  # fmt: skip


def noise(num: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, 8, 8, 1)).astype(np.uint8)


def real(folder: Path, split: str, images: np.ndarray) -> FrozenSet:
    source = ArraySource(
        dataset="noise", split=split, classes=CLASSES, files={}, labels=np.arange(len(images)) % len(CLASSES),
        pixels=images, numbers=np.arange(len(images)), file="noise",
    )  # fmt: skip
    ingest(source, folder)
    return open_set(str(folder))


def synthetic(folder: Path, images: np.ndarray) -> FrozenSet:
    np.savez(folder.with_suffix(".npz"), images[..., 0], np.arange(len(images)) % len(CLASSES))
    import_source(recognise(folder.with_suffix(".npz"), Options(classes=CLASSES)), folder)
    return open_set(str(folder))


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, Any]:
    """A test set, a generator that copied two of its images, one of its own memory of the training set, and blanks."""
    test, trained, made = noise(24, 1), noise(30, 2), noise(30, 3)
    test[5], trained[7] = 0, test[4]  # a blank test image; a real training image that the test set holds as well
    made[3], made[9], made[12], made[6], made[0] = test[3], test[9], test[9], test[4], 0
    return {
        "test": real(tmp_path / "test", "test", test),
        "train": real(tmp_path / "train", "train", trained),
        "made": synthetic(tmp_path / "made", made),
        "honest": synthetic(tmp_path / "honest", noise(30, 4)),
    }


def test_copies_of_test_images_are_found_and_blank_ones_are_nobodys(sets: dict[str, Any]) -> None:
    found = find_overlap([sets["made"]], sets["test"])
    assert (found["train_images"], found["test_images"], found["leaked"]) == (4, 3, 3)
    assert found["in_real_train"] is None
    assert len(found["pairs"]) == 4
    made, test = sets["made"], sets["test"]
    for pair in found["pairs"]:
        ours, theirs = made.image(made.keys.index(pair["train"])), test.image(test.keys.index(pair["test"]))
        assert np.array_equal(ours, theirs)
    assert find_overlap([sets["honest"]], test)["test_images"] == 0
    assert is_blank(pixel_digests(made)).sum() == 1


def test_an_image_of_the_real_training_set_is_no_leak(sets: dict[str, Any]) -> None:
    found = find_overlap([sets["made"]], sets["test"], real_train=sets["train"])
    assert (found["test_images"], found["in_real_train"], found["leaked"]) == (3, 1, 2)
    memorised = find_overlap([sets["train"]], sets["test"], real_train=sets["train"])
    assert (memorised["test_images"], memorised["leaked"]) == (1, 0)


def test_real_images_beside_synthetic_ones_are_not_the_generators(sets: dict[str, Any]) -> None:
    assert find_overlap([sets["train"], sets["honest"]], sets["test"])["test_images"] == 0
    assert find_overlap([sets["train"], sets["honest"]], sets["test"])["images"] == len(sets["honest"])


def test_a_search_stops_on_request(sets: dict[str, Any]) -> None:
    with pytest.raises(NotFinished, match="looked for in the test set"):
        find_overlap([sets["honest"]], sets["test"], stop=lambda: True)


def test_a_leaked_score_is_no_cas(sets: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, place in (("made", tmp_path / "a"), ("honest", tmp_path / "b"), ("train", tmp_path / "c")):
        train(sets[name], RECIPE, seed=0, out=place, device=CPU)
    score(tmp_path / "c", sets["test"], out=tmp_path / "baseline", device=CPU)
    arguments = ["score", "--real", str(tmp_path / "test"), "--device", "cpu", "--baseline", str(tmp_path / "baseline")]
    assert cli.main([*arguments, "--classifier", str(tmp_path / "b"), "--out", str(tmp_path / "clean")]) == 0
    assert json.loads((tmp_path / "clean" / SCORE_NAME).read_text())["metric"] == "CAS"
    capsys.readouterr()
    assert cli.main([*arguments, "--classifier", str(tmp_path / "a"), "--out", str(tmp_path / "dirty")]) == 1
    assert "no CAS: 2 images of the test set are among those trained on" in capsys.readouterr().err
    record = json.loads((tmp_path / "dirty" / SCORE_NAME).read_text())
    assert (record["metric"], record["overlap"]["leaked"], record["overlap"]["in_real_train"]) == ("leaked", 2, 1)
    assert any(caveat.startswith("This is no CAS: 3 of the test images") for caveat in record["caveats"])
    with pytest.raises(InputError, match="is a leaked score, generators are compared by CAS"):
        read_run_of(tmp_path / "dirty")
    assert check_folder(tmp_path / "dirty", Sources()).passed
    assert cli.main(["report", str(tmp_path / "dirty"), "--out", str(tmp_path / "page.html")]) == 0
    assert "Not a CAS" in (tmp_path / "page.html").read_text()

    record["metric"] = "CAS"
    record["overlap"] |= {"leaked": 0, "test_images": 0, "train_images": 0, "pairs": []}
    record["score_id"] = score_id(record)
    (tmp_path / "dirty" / SCORE_NAME).write_text(json.dumps(record))
    faults = check_folder(tmp_path / "dirty", Sources()).of("differs")
    assert any("overlap.leaked is 0, the sets gives 2" in str(fault) for fault in faults)


def test_sets_that_are_gone_are_said_not_to_have_been_looked_at(sets: dict[str, Any], tmp_path: Path) -> None:
    train(sets["honest"], RECIPE, seed=0, out=tmp_path / "classifier", device=CPU)
    (tmp_path / "honest").rename(tmp_path / "moved")
    record = score(tmp_path / "classifier", sets["test"], out=tmp_path / "score", device=CPU)
    assert record["overlap"] is None and record["metric"] == "CAS"
    assert any("nobody has looked" in caveat for caveat in record["caveats"])
    given = score(
        tmp_path / "classifier",
        sets["test"],
        out=tmp_path / "again",
        trained=open_set(str(tmp_path / "moved")),
        device=CPU,
    )
    assert given["overlap"]["leaked"] == 0


def test_near_copies_of_test_images_are_known_from_the_search(
    sets: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = noise(30, 4)
    images[:3] = np.clip(noise(24, 1)[:3].astype(int) + 1, 0, 255).astype(np.uint8)
    near = synthetic(tmp_path / "near", images)
    train(near, RECIPE, seed=0, out=tmp_path / "classifier", device=CPU)
    assert score(tmp_path / "classifier", sets["test"], out=tmp_path / "unaware", device=CPU)["metric"] == "CAS"
    beside = {"real_train": sets["train"], "real_test": sets["test"], "device": CPU}
    write_inspection(inspect_duplicates(near, **beside), tmp_path / "search")
    write_inspection(inspect_duplicates(sets["honest"], **beside), tmp_path / "other")
    write_inspection(inspect_duplicates(near, device=CPU), tmp_path / "blind")

    arguments = ["score", "--classifier", str(tmp_path / "classifier"), "--real", str(tmp_path / "test")]
    arguments += ["--device", "cpu", "--out", str(tmp_path / "aware"), "--duplicates"]
    capsys.readouterr()
    assert cli.main([*arguments, str(tmp_path / "search")]) == 1
    assert "copies of 3 images of the test set are among those trained on" in capsys.readouterr().err
    record = json.loads((tmp_path / "aware" / SCORE_NAME).read_text())
    assert (record["metric"], record["overlap"]["leaked"], record["duplicates"]["leaked"]) == ("leaked", 0, 3)
    assert any("copies of 3 test images" in caveat for caveat in record["caveats"])
    assert check_folder(tmp_path / "aware", Sources()).passed
    page = write_report([tmp_path / "aware"], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Images of the set above the test images" in page and "copies of 3 test images" in page

    for name, message in (
        ("other", "which the classifier was not trained on"),
        ("blind", "run caskit duplicates with"),
    ):
        with pytest.raises(InputError, match=message):
            score(
                tmp_path / "classifier",
                sets["test"],
                out=tmp_path / "refused",
                duplicates=tmp_path / name,
                device=CPU,
            )
    record["duplicates"] |= {"leaked": 0, "faults": []}
    record["metric"] = "CAS"
    record["score_id"] = score_id(record)
    (tmp_path / "aware" / SCORE_NAME).write_text(json.dumps(record))
    faults = check_folder(tmp_path / "aware", Sources()).of("differs")
    assert any("duplicates.leaked is 0, the search for copies gives 3" in str(fault) for fault in faults)
