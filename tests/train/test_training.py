import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.train.engine import EngineConfig
from caskit.train.recipes import Recipe
from caskit.train.training import MODEL_NAME, RUN_NAME, load_classifier, train

CPU = torch.device("cpu")
RECIPE = Recipe(
    name="tiny",
    widths=(8, 8),
    num_poolings=2,
    resolution=8,
    num_steps=30,
    batch_size=16,
    bn_batch=16,
    learning_rate=0.2,
    dropout=0.1,
    ema_decay=0.9,
    shift=1,
    threads=1,
)
MakeSet = Callable[..., Any]


def test_a_classifier_learns_and_comes_back(tmp_path: Path, make_set: MakeSet) -> None:
    record = train(make_set(), RECIPE, seed=0, out=tmp_path, device=CPU)
    classifier = load_classifier(tmp_path, device=CPU)
    assert classifier.record == record == json.loads((tmp_path / RUN_NAME).read_text())
    assert classifier.recipe == RECIPE
    assert record["recipe_id"] == RECIPE.recipe_id
    assert record["data"]["replica_id"] == make_set().replica.replica_id
    assert record["data"]["split"] == "train"
    assert record["data"]["generator"] is None
    assert record["final"]["step"] == 30
    assert record["final"]["loss"] < 0.3
    assert not classifier.model.training
    assert set(safetensors.torch.load_file(tmp_path / MODEL_NAME)) == set(classifier.model.state_dict())


def test_the_record_says_how_fast_it_went_and_how_much_of_it_was_waiting(tmp_path: Path, make_set: MakeSet) -> None:
    record = train(make_set(), RECIPE, seed=0, out=tmp_path, device=CPU, config=EngineConfig(log_every=10))
    with open(tmp_path / "train.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["step"]) for row in table] == [10, 20, 30]
    measured = record["throughput"]
    assert measured["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in table), abs=0.1)
    assert measured["images_per_s"] == pytest.approx(30 * 16 / sum(float(row["seconds"]) for row in table), rel=0.01)
    assert 0 < measured["waiting"] < 1


@pytest.mark.parametrize("optimizer", ["nesterov", "muon", "adamw"])
def test_interrupted_training_ends_equal(tmp_path: Path, make_set: MakeSet, optimizer: str) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, learning_rate=0.02, num_steps=9)
    whole = train(make_set(), recipe, seed=4, out=tmp_path / "whole", device=CPU)
    config = EngineConfig(save_every=3, log_every=2)
    calls = 0

    def every_second_step() -> bool:
        nonlocal calls
        calls += 1
        return calls % 2 == 0

    for _ in range(4):
        with pytest.raises(NotFinished):
            train(make_set(), recipe, seed=4, out=tmp_path / "cut", device=CPU, config=config, stop=every_second_step)
        assert not (tmp_path / "cut" / RUN_NAME).exists()
    cut = train(make_set(), recipe, seed=4, out=tmp_path / "cut", device=CPU, config=config)
    assert cut["model_sha256"] == whole["model_sha256"]
    assert cut["classifier_id"] == whole["classifier_id"]


@pytest.mark.parametrize(("cores", "memory_bytes", "ahead"), [(1, 2**20, False), (2, 2**20, True), (1, 0, True)])
def test_a_thread_makes_images_where_a_core_is_free_or_a_disk_is_read_and_no_bit_depends_on_it(
    cores: int, memory_bytes: int, ahead: bool, tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(RECIPE, num_steps=4, bn_batch=8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {*range(64)}, raising=False)
    free = train(make_set(), recipe, seed=0, out=tmp_path / "free", device=CPU)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {*range(cores)}, raising=False)
    record = train(make_set(), recipe, seed=0, out=tmp_path / "here", device=CPU, memory_bytes=memory_bytes)
    assert (free["reading"]["ahead"], record["reading"]["ahead"]) == (True, ahead)
    assert record["reading"]["held"] == ("pixels" if memory_bytes else "nothing")
    assert record["model_sha256"] == free["model_sha256"]


def test_seeds_differ(tmp_path: Path, make_set: MakeSet) -> None:
    recipe = dataclasses.replace(RECIPE, num_steps=2)
    ids = {train(make_set(), recipe, seed=s, out=tmp_path / str(s), device=CPU)["model_sha256"] for s in range(3)}
    assert len(ids) == 3


def test_a_finished_folder_is_left_alone(tmp_path: Path, make_set: MakeSet) -> None:
    recipe = dataclasses.replace(RECIPE, num_steps=2)
    record = train(make_set(), recipe, seed=0, out=tmp_path, device=CPU)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert train(make_set(), recipe, seed=0, out=tmp_path, device=CPU) == record
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_a_folder_of_another_classifier(tmp_path: Path, make_set: MakeSet) -> None:
    recipe = dataclasses.replace(RECIPE, num_steps=2)
    train(make_set(), recipe, seed=0, out=tmp_path, device=CPU)
    with pytest.raises(InputError, match=r"another classifier, differing in seed \(1 here, 0 there\)"):
        train(make_set(), recipe, seed=1, out=tmp_path, device=CPU)
    with pytest.raises(InputError, match=r"data.content_root .*data.replica_id"):
        train(make_set(seed=1), recipe, seed=0, out=tmp_path, device=CPU)
    with pytest.raises(InputError, match=r"recipe.num_steps \(3 here, 2 there\)"):
        train(make_set(), dataclasses.replace(recipe, num_steps=3), seed=0, out=tmp_path, device=CPU)


def test_images_of_another_size(tmp_path: Path, make_set: MakeSet) -> None:
    with pytest.raises(InputError, match="images are 10x10, recipe tiny is for 8x8; --set resolution=N"):
        train(make_set(size=10), RECIPE, seed=0, out=tmp_path, device=CPU)
    assert not (tmp_path / "resume.pt").exists()


def test_no_finished_classifier(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no finished classifier \(run.json is not there\)"):
        load_classifier(tmp_path, device=CPU)


def test_changed_weights_and_records(tmp_path: Path, make_set: MakeSet) -> None:
    train(make_set(), dataclasses.replace(RECIPE, num_steps=2), seed=0, out=tmp_path, device=CPU)
    weights = (tmp_path / MODEL_NAME).read_bytes()
    (tmp_path / MODEL_NAME).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="model.safetensors: sha256 differs from run.json"):
        load_classifier(tmp_path, device=CPU)
    (tmp_path / MODEL_NAME).write_bytes(weights)
    text = (tmp_path / RUN_NAME).read_text()
    (tmp_path / RUN_NAME).write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(IntegrityError, match="classifier_id does not follow"):
        load_classifier(tmp_path, device=CPU)
    (tmp_path / RUN_NAME).write_text(text.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(InputError, match="format_version is 2"):
        load_classifier(tmp_path, device=CPU)
    (tmp_path / RUN_NAME).write_text("{}")
    with pytest.raises(InputError, match="not the record of a classifier"):
        load_classifier(tmp_path, device=CPU)
