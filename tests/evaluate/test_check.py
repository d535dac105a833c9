"""An honest score passes; one edited answer, one edited number and one exchanged replica are found and named."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from caskit import cli
from caskit.evaluate.cas import classification_accuracy_score
from caskit.evaluate.check import Report, check_folder
from caskit.evaluate.check.rows import contradictions
from caskit.evaluate.check.sources import Sources
from caskit.evaluate.nas import mixture
from caskit.evaluate.predict import PREDICTION_SCHEMA, prediction_rows, read_predictions
from caskit.evaluate.score import score, score_id
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.shards.dataset import open_set
from caskit.shards.imports import import_source
from caskit.shards.ingest import ingest
from caskit.shards.sources.recognise import Options, recognise
from caskit.shards.sources.source import ArraySource
from caskit.train.recipes import Recipe
from caskit.train.training import train

CPU = torch.device("cpu")
NAMES = tuple(f"stripe {i}" for i in range(6))
RECIPE = Recipe(
    name="tiny", widths=(8, 8), num_poolings=2, resolution=8, num_steps=3, batch_size=16, learning_rate=0.2, threads=1,
    bn_batch=16,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bench:
    """A folder of `caskit cas` over two seeds with GAN-test, and a second replica that is not the one scored."""

    root: Path

    @property
    def cas(self) -> Path:
        return self.root / "cas"

    def copy(self, to: Path) -> Path:
        """Return a copy of one score folder, whose record still names the sets and the classifier."""
        shutil.copytree(self.cas / "synthetic/seed-0/score", to)
        return to


def pictures(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(num) % len(NAMES)
    images = np.random.default_rng(seed).integers(0, 150, (num, 8, 8, 1)).astype(np.uint8)
    images[np.arange(num), labels] += 100
    return images, labels


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root, classes = tmp_path_factory.mktemp("check"), ClassList.from_names(NAMES)
    for split, num, seed in (("train", 60, 1), ("test", 48, 2)):
        images, labels = pictures(num, seed)
        source = ArraySource(
            dataset="stripes", split=split, classes=classes, files={}, labels=labels, pixels=images,
            numbers=np.arange(num), file="stripes",
        )  # fmt: skip
        ingest(source, root / split)
    for name, seed in (("replica", 3), ("other", 4)):
        images, labels = pictures(60, seed)
        np.savez(root / f"{name}.npz", images[..., 0], labels)
        import_source(recognise(root / f"{name}.npz", Options(classes=classes)), root / name)
    classification_accuracy_score(
        str(root / "replica"), str(root / "test"), real_train=str(root / "train"), recipe=RECIPE, seeds=2,
        out=root / "cas", device=CPU, gan_test=True,
    )  # fmt: skip
    return Bench(root)


def faults(report: Report) -> list[str]:
    return [str(finding) for finding in report.of("differs")]


def edit(folder: Path, change: Callable[[dict[str, Any]], None], *, cover: bool = False) -> Path:
    """Edit score.json; an editor who covers the traces computes digest and score_id again."""
    record = json.loads((folder / "score.json").read_text())
    change(record)
    if cover:
        record["predictions_sha256"] = hashlib.sha256((folder / "predictions.parquet").read_bytes()).hexdigest()
        record["score_id"] = score_id({k: v for k, v in record.items() if k != "score_id"})
    (folder / "score.json").write_text(json.dumps(record))
    return folder


def edit_prediction(folder: Path, row: int, **values: Any) -> None:
    rows = read_predictions(folder / "predictions.parquet").to_pylist()
    rows[row] |= values
    pq.write_table(pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA), folder / "predictions.parquet")


def test_an_honest_folder_passes_with_everything_at_hand(bench: Bench) -> None:
    report = check_folder(bench.cas, Sources(), again=CPU)
    assert report.passed and not report.of("not at hand"), [str(finding) for finding in report.findings]
    said = " ".join(str(finding) for finding in report.findings)
    assert "the classifier gives all 48 answers again, 0 with another rank" in said
    assert "the classifier gives all 60 answers again" in said  # GAN-test
    assert "cas.json" in said and "values are what the score folders gives" in said


def test_one_edited_number_is_found_whatever_else_was_made_to_fit(bench: Bench, tmp_path: Path) -> None:
    def better(record: dict[str, Any]) -> None:
        record["statistics"]["gap_points"]["low"] -= 0.5

    report = check_folder(edit(bench.copy(tmp_path / "plain"), better), Sources())
    assert any("score_id does not follow from the record, it was edited" in fault for fault in faults(report))
    assert any("statistics.gap_points.low is" in fault for fault in faults(report))
    report = check_folder(edit(bench.copy(tmp_path / "covered"), better, cover=True), Sources())
    assert len(faults(report)) == 1 and "statistics.gap_points.low is" in faults(report)[0]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("top1.value", 0.999), ("num_test", 47), ("per_class.2.failed", "no"), ("real.top1.value", 0.5), ("nll", 0),
        ("metric", "GAN-test"), ("statistics.classes.failed", ["c01", "c02", "c03", "c04", "c05", "c00"]),
        ("inputs.test", "0" * 64), ("class_list_sha256", "0" * 64), ("classifier.seed", 9), ("test.num", 50),
    ],
)  # fmt: skip
def test_any_number_and_any_id_is_compared(bench: Bench, tmp_path: Path, path: str, value: object) -> None:
    def change(record: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        at: Any = record
        for name in parents:
            at = at[int(name)] if isinstance(at, list) else at[name]
        at[last] = value

    report = check_folder(edit(bench.copy(tmp_path / "x"), change, cover=True), Sources())
    assert any(path.split(".")[-1] in fault for fault in faults(report)), faults(report)


def test_one_edited_answer_is_found_by_digest_by_numbers_by_itself_and_by_the_classifier(
    bench: Bench, tmp_path: Path
) -> None:
    folder = bench.copy(tmp_path / "plain")
    rows = read_predictions(folder / "predictions.parquet").to_pylist()
    row = next(number for number, one in enumerate(rows) if one["rank"] > 0)
    edit_prediction(folder, row, rank=0)
    report = check_folder(folder, Sources())
    assert any("predictions.parquet: sha256 differs from score.json" in fault for fault in faults(report))
    key = rows[row]["key"]
    assert any(f"key {key}: the rank is not the label's place" in fault for fault in faults(report))
    # An edit that fits: the row of another image, whole. Numbers change, and the classifier knows.
    folder = bench.copy(tmp_path / "fits")
    best = max(rows, key=lambda one: one["log_probability"] if one["label"] == rows[row]["label"] else -np.inf)
    edit_prediction(folder, row, **{name: value for name, value in best.items() if name != "key"})
    edit(folder, lambda record: None, cover=True)
    report = check_folder(folder, Sources(), again=CPU)
    assert any("nll is" in fault for fault in faults(report))
    assert any(f"1 of 48 answers are not the classifier's, the first key {key}" in fault for fault in faults(report))


def test_answers_to_other_images_are_found(bench: Bench, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "x")
    edit_prediction(folder, 5, key="c09_000099")
    report = check_folder(edit(folder, lambda record: None, cover=True), Sources())
    assert any("row 5: key c09_000099, label 5; the test set has key c05_000000" in fault for fault in faults(report))


def test_one_exchanged_replica_is_found(bench: Bench, tmp_path: Path) -> None:
    folder = bench.copy(tmp_path / "x")
    scored, other = (open_set(str(bench.root / name)).replica.replica_id for name in ("replica", "other"))
    report = check_folder(folder, Sources({scored: str(bench.root / "other")}))
    assert any(f"other: replica_id is {other}, the reference asks for sha256:{scored}" in one for one in faults(report))

    def renamed(record: dict[str, Any]) -> None:
        record["classifier"]["train"]["replica_id"] = other
        record["classifier"]["train"]["location"] = str(bench.root / "other")

    report = check_folder(edit(bench.copy(tmp_path / "y"), renamed, cover=True), Sources())
    assert any(f"train.replica_id is '{other}', run.json gives '{scored}'" in fault for fault in faults(report))
    assert any("content_root is" in fault and "training set" in fault for fault in faults(report))


def test_a_mixture_is_checked_part_by_part(bench: Bench, tmp_path: Path) -> None:
    real, replica = (open_set(str(bench.root / name)) for name in ("train", "replica"))
    train(mixture(real, replica, 0.5), RECIPE, seed=0, out=tmp_path / "classifier", device=CPU)
    score(tmp_path / "classifier", open_set(str(bench.root / "test")), out=tmp_path / "score", device=CPU)
    report = check_folder(tmp_path / "score", Sources())
    assert report.passed and not report.of("not at hand"), faults(report)
    others = Sources({replica.replica.replica_id: str(bench.root / "other")})
    assert any("training set" in fault for fault in faults(check_folder(tmp_path / "score", others)))
    record = json.loads((tmp_path / "score/score.json").read_text())["classifier"]["train"]
    assert record["parts"][1]["expression"]["sources"][0]["select"] == "first:30"

    def fewer(record: dict[str, Any]) -> None:
        record["classifier"]["train"]["num"] = 89

    found = faults(check_folder(edit(tmp_path / "score", fewer, cover=True), Sources()))
    assert any("num" in fault for fault in found)


def test_what_is_not_at_hand_is_said_and_the_rest_is_checked(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def moved(record: dict[str, Any]) -> None:
        for described in (record["classifier"], record["classifier"]["train"], record["test"], record["real"]):
            described["location"] = "/nowhere"

    folder = edit(bench.copy(tmp_path / "x"), moved)
    report = check_folder(folder, Sources())
    assert report.passed and len(report.of("not at hand")) == 6
    assert cli.main(["check", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "PASS" in out and "training set" in out and "6 not at hand" in out
    assert cli.main(["check", str(folder), "--strict"]) == 1
    capsys.readouterr()
    record = json.loads((folder / "score.json").read_text())
    places = [f"--set={record['test']['replica_id']}={bench.root / 'test'}"]
    assert cli.main(["check", str(folder), *places]) == 0
    assert "48 keys and labels are the test set's" in capsys.readouterr().out


def test_scores_and_totals_of_several_seeds_belong_together(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "cas"
    shutil.copytree(bench.cas, root)
    record = json.loads((root / "cas.json").read_text())
    record["rows"][1]["intervals"]["top1"]["all"]["low"] += 0.01
    (root / "cas.json").write_text(json.dumps(record))
    found = faults(check_folder(root, Sources()))
    assert len(found) == 1 and "rows[1].intervals.top1.all.low is" in found[0]
    shutil.rmtree(root / "synthetic/seed-1/score")
    shutil.copytree(root / "synthetic/seed-0/score", root / "synthetic/seed-1/score")
    assert any("synthetic/seed-1/score is score" in fault for fault in faults(check_folder(root, Sources())))


def test_no_score_and_bad_flags_are_one_line(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = bench.copy(tmp_path / "hostile")
    (hostile / "score.json").write_text(json.dumps({"format_version": 1, "per_class": 7}))
    cases = [
        ([str(tmp_path)], "holds no finished score"),
        ([str(tmp_path / "none")], "no such folder"),
        ([str(hostile)], "not a score"),
        ([str(bench.cas), "--set", "abc=here"], "is not of the form REPLICA_ID=PATH"),
    ]
    for arguments, message in cases:
        assert cli.main(["check", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    (tmp_path / "cas.json").write_text(
        json.dumps({"format_version": 1, "rows": [{"name": "a", "scores": [{"location": "../x", "score_id": "1"}]}]})
    )
    with pytest.raises(InputError, match="location '../x' leaves the folder"):
        check_folder(tmp_path, Sources())


def test_rows_that_no_classifier_gives() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 8
    table = prediction_rows(torch.from_numpy(generator.normal(0, 2, (40, 8))), labels, [f"k{i}" for i in range(40)])
    assert not list(contradictions(table, 8))
    rows = table.to_pylist()
    ranked = next(number for number, one in enumerate(rows) if one["rank"] >= 5)
    first = rows[3]["top5_log_probabilities"]
    cases: list[tuple[int, dict[str, Any], str]] = [
        (3, {"log_probability": -0.001, "rank": 7}, "not the label's place|higher probability"),
        (3, {"top5_log_probabilities": first[::-1]}, "not in the order"),
        (3, {"top5_log_probabilities": [0.0, *first[1:]]}, "add up to more than 1|two log-probabilities"),
        (3, {"sum_squared_probabilities": 0.9999}, "does not fit"),
        (3, {"top5_ids": [0, 1]}, "does not hold the 5 classes"),
        (3, {"label": 8}, "outside the 8 classes"),
        (ranked, {"log_probability": -0.0001}, "higher probability than its rank"),
    ]
    for row, change, message in cases:
        changed = [dict(one) for one in rows]
        changed[row] |= change
        found = list(contradictions(pa.Table.from_pylist(changed, schema=PREDICTION_SCHEMA), 8))
        assert found and all(key == f"k{row}" for key, _ in found)
        assert any(part in said for _, said in found for part in message.split("|")), found
