"""Which images are measured, what is kept between runs, what a record says, and what compare and check make of it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit import cli
from caskit.evaluate.check import Report, check_folder
from caskit.evaluate.check.sources import Sources
from caskit.evaluate.compare import compare, with_fidelity
from caskit.evaluate.compare.correlation import Entry
from caskit.evaluate.compare.runs import Run
from caskit.evaluate.fidelity import Settings, measure, read_metrics
from caskit.evaluate.fidelity.cache import default_folder
from caskit.evaluate.fidelity.distances import frechet
from caskit.evaluate.fidelity.manifold import prdc
from caskit.evaluate.fidelity.record import metrics_id
from caskit.evaluate.fidelity.statistics import Statistics, extract
from caskit.evaluate.fidelity.subset import measuring_order, number_text, take_subset
from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.shards.dataset import FrozenSet
from caskit.train.recipes import Recipe
from caskit.train.training import train

CPU = torch.device("cpu")
SMALL = Settings(num_features=150, kid_subset_size=50)
TITLE = "stand-in@abababab"
RECIPE = Recipe(
    name="tiny", widths=(8, 6), num_poolings=2, resolution=8, num_steps=2, batch_size=16, learning_rate=0.2, threads=1,
    bn_batch=16,
)  # fmt: skip
MakeSets = Callable[..., tuple[FrozenSet, FrozenSet]]


def faults(report: Report) -> list[str]:
    return [str(finding) for finding in report.of("differs")]


def test_the_first_images_of_a_real_set_stored_by_class_are_of_all_classes(make_sets: MakeSets) -> None:
    replica, real = make_sets(30, 100, size=8)
    assert np.bincount(real.labels[:10], minlength=3).tolist() == [10, 0, 0]
    order = measuring_order(real)
    assert sorted(order.tolist()) == list(range(100))
    for num in (3, 10, 50, 99):
        counts = np.bincount(real.labels[order[:num]], minlength=3)
        assert counts.max() - counts.min() <= 1, num
    assert measuring_order(replica).tolist() == list(range(30))
    whole, part = take_subset(real, None), take_subset(real, 40)
    np.testing.assert_array_equal(whole.ids[:40], part.ids)
    assert whole.sha256 != part.sha256 == take_subset(real, 40).sha256
    with pytest.raises(InputError, match="101 of 100 samples were asked for, allowed: 2 to all"):
        take_subset(real, 101)
    assert [number_text(num) for num in (50_000, 1000, 999, 1_281_167)] == ["50k", "1k", "999", "1281167"]


def test_a_record_names_extractor_and_n_and_says_what_was_not_measured(
    make_sets: MakeSets, stand_in: Any, tmp_path: Path
) -> None:
    replica, real = make_sets(320, 310, size=16)
    record = measure(replica, real, stand_in, out=tmp_path / "out", num=301, settings=SMALL, device=CPU)
    assert [(entry["name"], entry["num"], entry["num_reference"]) for entry in record["metrics"]] == [
        (f"cs[{TITLE}]@301", 301, None), (f"fd[{TITLE}]@301", 301, 310), (f"kd(size=50)[{TITLE}]@150", 150, 150),
        *((f"{name}[{TITLE}]@150", 150, 150) for name in ("precision", "recall", "density", "coverage")),
    ]  # fmt: skip
    assert record["omitted"] == [] and not any(entry["marks"] for entry in record["metrics"])
    assert (tmp_path / "out/metrics.json").read_bytes() == canonical_json(record)
    assert read_metrics(tmp_path / "out") == record and record["metrics_version"] == 1
    few = measure(replica, real, stand_in, out=tmp_path / "few", num=9, settings=Settings(nearest_k=9), device=CPU)
    assert [(entry["metric"], entry["marks"]) for entry in few["metrics"]] == [("fd", ["n-below-dimension"])]
    reasons = {entry["metric"]: entry["reason"] for entry in few["omitted"]}
    assert reasons["cs"] == "needs 10 images, 9 are there"
    assert reasons["kd"] == "its subsets are of 1000 images, 9 are there; --kid-subset-size changes it"
    assert reasons["coverage"] == "needs more than 9 images, 9 are there"
    assert any("fewer images than features" in caveat for caveat in few["caveats"])


def test_classes_have_numbers_where_they_have_images(make_sets: MakeSets, stand_in: Any, tmp_path: Path) -> None:
    replica, real = make_sets(330, 363, size=16)
    settings = Settings(num_features=320, kid_subset_size=50)
    record = measure(replica, real, stand_in, out=tmp_path / "out", settings=settings, device=CPU)
    rows = record["per_class"]
    assert [(row["id"], row["num"], row["num_reference"]) for row in rows] == [
        ("c00", 110, 121), ("c01", 110, 121), ("c02", 110, 121),
    ]  # fmt: skip
    assert sorted(row["num_features"] for row in rows) == [106, 107, 107]
    features = []
    for data in (replica, real):
        found = extract(stand_in, data, take_subset(data, None), num_features=320)
        features.append((found.features, found.labels))
    ours, theirs = (values[labels == 1] for values, labels in features)
    due = prdc(theirs, ours)
    assert {name: rows[1][name] for name in due} == due
    alone = [extract(stand_in, data, _of_class(data, 1), num_features=110) for data in (replica, real)]
    distance = frechet(*((one.mean, one.covariance) for one in alone)).value
    assert rows[1]["fd"] == pytest.approx(distance, rel=1e-6) and rows[1]["kd"] is not None and rows[1]["cs"] > 1
    small = measure(replica, real, stand_in, out=tmp_path / "small", num=290, settings=settings, device=CPU)
    assert {row["kd"] for row in small["per_class"]} == {None} and {row["cs"] for row in small["per_class"]} == {None}


def _of_class(data: FrozenSet, label: int) -> Any:
    whole = take_subset(data, None)
    mine = whole.labels == label
    return dataclasses.replace(whole, ids=whole.ids[mine], labels=whole.labels[mine])


def test_features_are_extracted_once(
    make_sets: MakeSets, stand_in: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replica, real = make_sets(128, 64, size=16)
    options: Any = {"settings": SMALL, "cache": tmp_path / "cache", "device": CPU}
    first = measure(replica, real, stand_in, out=tmp_path / "a", **options)
    assert stand_in.seen == 192
    again = measure(replica, real, stand_in, out=tmp_path / "b", **options)
    assert stand_in.seen == 192 and again["metrics"] == first["metrics"]
    assert again["metrics_id"] == first["metrics_id"]
    measure(replica, real, stand_in, out=tmp_path / "c", num=64, **options)  # another subset, the same real images
    assert stand_in.seen == 256
    for entry in (tmp_path / "cache").iterdir():
        data = entry.read_bytes()
        entry.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    damaged = measure(replica, real, stand_in, out=tmp_path / "d", **options)
    assert stand_in.seen == 448 and damaged["metrics"] == first["metrics"]
    assert "its bytes are not those that were written; the features are extracted again" in caplog.text
    assert measure(replica, real, stand_in, out=tmp_path / "a", **options) == first  # finished: nothing is done
    with pytest.raises(InputError, match="holds the metrics of other inputs, differing in replica_subset"):
        measure(replica, real, stand_in, out=tmp_path / "a", num=100, **options)


def test_statistics_pass_through_arrays(make_sets: MakeSets, stand_in: Any) -> None:
    replica, _ = make_sets(60, 30, size=16)
    found = extract(stand_in, replica, take_subset(replica, None), num_features=20)
    assert found.class_moments.keys() == {0, 1, 2} and len(found.features) == 20
    back = Statistics.from_arrays(found.to_arrays(), name="x")
    assert all(np.array_equal(back.to_arrays()[name], array) for name, array in found.to_arrays().items())
    with pytest.raises(IntegrityError, match="x: no statistics of features"):
        Statistics.from_arrays({"num": np.array([3])}, name="x")


def test_a_run_stops_and_refuses_what_is_not_finite_or_not_real(
    make_sets: MakeSets, stand_in: Any, tmp_path: Path
) -> None:
    replica, real = make_sets(40, 30, size=16)
    with pytest.raises(NotFinished, match="metrics: stopped after 0 of 1 batches"):
        measure(replica, real, stand_in, out=tmp_path / "out", device=CPU, stop=lambda: True)
    with pytest.raises(InputError, match="holds a set of kind imported; fidelity is measured beside real images"):
        measure(real, replica, stand_in, out=tmp_path / "out", device=CPU)
    stand_in.network.second[0] = float("nan")
    with pytest.raises(RunFailed, match="the features of key .* are not finite"):
        measure(replica, real, stand_in, out=tmp_path / "out", device=CPU)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def measured(make_sets: MakeSets, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, FrozenSet]:
    """A folder of `caskit metrics` by a classifier, from the command line, and its replica."""
    replica, real = make_sets(120, 130, size=8, channels=1)
    train(real, RECIPE, seed=0, out=tmp_path / "classifier", device=CPU)
    words = [
        *("metrics", replica.store.location, "--real", real.store.location, "--extractor", "classifier"),
        *("--weights", str(tmp_path / "classifier"), "--kid-subset-size", "60", "--out", str(tmp_path / "metrics")),
        *("--device", "cpu"),
    ]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "fd[classifier@" in out and "]@120" in out and " 120 " in out and " 130 " in out
    return tmp_path / "metrics", replica


def edit(folder: Path, to: Path, change: Callable[[dict[str, Any]], None], *, cover: bool = False) -> Path:
    record = json.loads((folder / "metrics.json").read_bytes())
    change(record)
    if cover:
        record["metrics_id"] = metrics_id(record)
    to.mkdir()
    (to / "metrics.json").write_bytes(canonical_json(record))
    return to


def test_check_makes_the_numbers_again(measured: tuple[Path, FrozenSet], tmp_path: Path) -> None:
    folder, _ = measured
    for again in (None, CPU):
        report = check_folder(folder, Sources(), again=again)
        assert report.passed and not report.of("not at hand"), [str(one) for one in report.findings]
    assert any("values are what the extractor gives" in str(one) for one in report.findings)

    def better(record: dict[str, Any]) -> None:
        record["metrics"][1]["value"] *= 0.9

    found = faults(check_folder(edit(folder, tmp_path / "plain", better), Sources()))
    assert any("metrics_id does not follow" in fault for fault in found)
    covered = edit(folder, tmp_path / "covered", better, cover=True)
    found = faults(check_folder(covered, Sources()))
    assert len(found) == 1 and "metrics[1].value is" in found[0] and "the features kept here gives" in found[0]
    for entry in default_folder().iterdir():
        entry.unlink()
    report = check_folder(covered, Sources())
    assert report.passed and any("--again extracts" in str(one) for one in report.of("not at hand"))
    assert any("the extractor gives" in fault for fault in faults(check_folder(covered, Sources(), again=CPU)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("metrics.1.name", "fid[inception-2015@6726825d]@50k", "metrics[1].name is"),
        ("metrics.1.marks", ["n-below-dimension"], "metrics[1].marks"),
        ("extractor.digest", "0" * 64, "digest"),
        ("inputs.replica", "0" * 64, "inputs.replica is"),
        ("inputs.replica_subset.sha256", "0" * 64, "replica_subset.sha256 is"),
        ("replica.content_root", "0" * 64, "content_root is"),
        ("per_class.0.num", 7, "per_class[0].num is"),
        ("settings.nearest_k", 3, "name is"),
    ],
)
def test_check_finds_any_edit(
    measured: tuple[Path, FrozenSet], tmp_path: Path, path: str, value: object, message: str
) -> None:
    def change(record: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        at: Any = record
        for name in parents:
            at = at[int(name)] if isinstance(at, list) else at[name]
        at[last] = value

    folder = edit(measured[0], tmp_path / "edited", change, cover=True)
    found = faults(check_folder(folder, Sources()))
    assert any(message in fault for fault in found), found


def test_a_record_of_another_form_is_one_line(
    measured: tuple[Path, FrozenSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (name, value) in enumerate(
        [
            ("metrics", 3),
            ("metrics_version", 2),
            ("extractor", {"name": "x"}),
            ("replica", None),
            ("settings", {"k": 1}),
        ]
    ):
        folder = edit(measured[0], tmp_path / str(number), lambda record, n=name, v=value: record.update({n: v}))  # type: ignore[misc]
        assert cli.main(["check", str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("caskit: error: ") and error.count("\n") == 1, error


def test_compare_takes_metrics_as_columns(measured: tuple[Path, FrozenSet], tmp_path: Path) -> None:
    folder, replica = measured
    record = read_metrics(folder)

    def run_of(name: str, train: str) -> Run:
        entry = Entry(name=name, family=name, cas=50.0, metrics={"nll": 1.0})
        return Run(entry=entry, folder=Path(name), recipe_id="r", test="t", seeds=(0,), hits=None, train=train)

    runs = [run_of("ours", replica.replica.content_root), run_of("other", "0" * 64)]
    marked = edit(folder, tmp_path / "marked", _mark, cover=True)
    found = with_fidelity(runs, [marked])
    name = record["metrics"][1]["name"]
    assert found[0].entry.metrics[name] == record["metrics"][1]["value"] and found[0].entry.metrics["nll"] == 1.0
    assert name not in found[1].entry.metrics and runs[0].entry.metrics == {"nll": 1.0}
    compared = compare([], found)
    assert compared["rows"][0]["marks"] == {name: ["n-below-dimension"]}
    assert {one["metric"]: one["num"] for one in compared["correlations"]}[name] == 1
    with pytest.raises(InputError, match="which none of the runs was trained on"):
        with_fidelity(runs[1:], [folder])
    with pytest.raises(InputError, match="ours has a value of .* already"):
        with_fidelity(runs, [folder, folder])

    def elsewhere(record: dict[str, Any]) -> None:
        record["replica"]["content_root"], record["reference"]["content_root"] = "0" * 64, "1" * 64

    with pytest.raises(InputError, match="is beside real content 1111"):
        with_fidelity(runs, [folder, edit(folder, tmp_path / "elsewhere", elsewhere, cover=True)])


def _mark(record: dict[str, Any]) -> None:
    record["metrics"][1]["marks"] = ["n-below-dimension"]


def test_mistakes_on_the_command_line(make_sets: MakeSets, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replica, real = make_sets(30, 30, size=8, channels=1)
    words = ["metrics", replica.store.location, "--real", real.store.location, "--out", str(tmp_path / "out")]
    for more, message in (
        (["--num", "1"], "--num '1' is neither a whole number of at least 2 nor all"),
        (["--num", "31", "--extractor", "classifier", "--weights", str(tmp_path)], "no finished classifier"),
        (["--extractor", "clip"], "extractor 'clip' is not known"),
        (["--cache", "x", "--no-cache"], "--cache and --no-cache exclude each other"),
        (["--kid-subset-size", "1"], "kid_subset_size is 1, must be a whole number from 2"),
    ):
        assert cli.main([*words, *more]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
