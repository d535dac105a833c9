"""Correlations equal their references and the paper's, families are resampled whole, pairs share their test images."""

import csv
import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from caskit import cli
from caskit.evaluate.cas import classification_accuracy_score
from caskit.evaluate.compare import compare, read_table, write_comparison
from caskit.evaluate.compare.correlation import Entry, coefficients, correlate, correlations
from caskit.evaluate.compare.pairs import compare_pairs
from caskit.evaluate.compare.runs import Run, read_run_of
from caskit.evaluate.crossed import parts_of
from caskit.evaluate.hypotheses import mcnemar
from caskit.evaluate.report.scatter import nice_ticks
from caskit.evaluate.rows import Hits
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet
from caskit.train.recipes import Recipe

TABLE_2 = Path(__file__).resolve().parents[2] / "examples" / "biggan_deep_truncation.csv"
RECIPE = Recipe(
    name="tiny", widths=(8, 8), num_poolings=2, resolution=8, num_steps=3, batch_size=16, learning_rate=0.2, threads=1,
    bn_batch=16,
)  # fmt: skip


def test_the_papers_table_2() -> None:
    found = {one["metric"]: one for one in correlations(read_table(TABLE_2))}
    assert round(found["is"]["pearson"]["value"], 3) == -0.859
    assert round(found["fid"]["pearson"]["value"], 3) == -0.164
    assert found["is"]["num"] == 8 and found["is"]["num_families"] == 1
    assert found["is"]["pearson"]["low"] is None  # one model at eight truncations says nothing of other models
    assert found["is"]["interval"] == "none: 1 of at least 5 families"


def test_coefficients_equal_scipy_with_and_without_ties() -> None:
    generator = np.random.default_rng(0)
    for x, y in (
        (generator.normal(size=30), generator.normal(size=30)),
        (generator.integers(0, 4, 25).astype(float), generator.integers(0, 3, 25).astype(float)),
    ):
        found = coefficients(x, y, np.ones((1, len(x))))
        assert found["pearson"][0] == pytest.approx(stats.pearsonr(x, y).statistic)
        assert found["spearman"][0] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert found["kendall"][0] == pytest.approx(stats.kendalltau(x, y).statistic)


def test_a_row_that_occurs_twice_counts_as_two_rows() -> None:
    generator = np.random.default_rng(1)
    x, y, times = generator.normal(size=9), generator.integers(0, 5, 9).astype(float), generator.integers(0, 4, 9)
    found = coefficients(x, y, times[None].astype(float))
    repeated = coefficients(np.repeat(x, times), np.repeat(y, times), np.ones((1, times.sum())))
    for name, values in found.items():
        assert values == pytest.approx(repeated[name])


def test_rows_of_one_family_move_together() -> None:
    generator = np.random.default_rng(2)
    models = generator.normal(size=(8, 2))
    many = np.repeat(models, 10, axis=0) + generator.normal(0, 0.01, (80, 2))
    families = [f"model {number}" for number in np.repeat(np.arange(8), 10)]
    by_family = correlate(many[:, 0], many[:, 1], families)["pearson"]
    by_row = correlate(many[:, 0], many[:, 1], [f"row {number}" for number in range(80)])["pearson"]
    assert by_family["value"] == by_row["value"]
    assert by_family["high"] - by_family["low"] > 2 * (by_row["high"] - by_row["low"])
    assert correlate(many[:, 0], many[:, 1], families) == correlate(many[:, 0], many[:, 1], families)


def test_a_constant_metric_has_no_correlation() -> None:
    entries = [Entry(name=str(i), family=str(i), cas=float(i), metrics={"flat": 0.1, "few": None}) for i in range(6)]
    flat, few = correlations(entries)
    assert flat["pearson"]["value"] is None and flat["kendall"]["value"] is None and flat["num"] == 6
    assert few["num"] == 0 and few["spearman"]["value"] is None


def run_of(name: str, ours: np.ndarray, labels: np.ndarray) -> Run:
    entry = Entry(name=name, family=name, cas=100 * float(ours.mean()), metrics={})
    return Run(
        entry=entry, folder=Path(name), recipe_id="r", test="t", seeds=tuple(range(len(ours))),
        hits=Hits(labels=labels, ours=ours.astype(float), reals=None),
    )  # fmt: skip


def test_pairs_are_paired_and_the_better_run_stands_first() -> None:
    generator, labels = np.random.default_rng(3), np.repeat(np.arange(5), 60)
    easy = generator.random(300)
    runs = [run_of(name, (easy < rate)[None].repeat(3, 0), labels) for name, rate in (("a", 0.6), ("b", 0.7))]
    runs.append(run_of("c", generator.random((3, 300)) < 0.7, labels))
    found = {(pair["first"], pair["second"]): pair for pair in compare_pairs(runs)}
    assert all(pair["points"] >= 0 for pair in found.values()) and len(found) == 3
    nested = found["b", "a"]  # b gets right what a does, and more: answers go together
    apart = next(pair for names, pair in found.items() if "c" in names)
    assert nested["test_images"]["se"] < 0.8 * apart["test_images"]["se"]
    test = nested["mcnemar"][1]
    assert (test["only_second"], test["p"]) == (0, mcnemar(test["only_first"], 0)) and test["q"] >= test["p"]
    difference = 100 * (runs[1].hits.ours - runs[0].hits.ours)  # type: ignore[union-attr]
    assert nested["all"]["se"] == pytest.approx(parts_of(difference, labels).variance ** 0.5)


@pytest.fixture
def folders(
    tmp_path: Path, make_real: Callable[..., FrozenSet], as_synthetic: Callable[[FrozenSet], FrozenSet]
) -> list[Path]:
    """Two folders of `caskit cas` on one test set."""
    test, made = make_real("test"), []
    for name, seed in (("first", 2), ("second", 3)):
        synthetic = as_synthetic(make_real("train", seed=seed))
        classification_accuracy_score(
            synthetic, test, recipe=RECIPE, seeds=2, out=tmp_path / name, device=torch.device("cpu")
        )
        made.append(tmp_path / name)
    return made


def test_folders_and_a_table_on_one_page(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.csv").write_text("name,family,cas,nll,notes\nelse,other,50,0.7,\nnone,third,40,,text\n")
    out = tmp_path / "out"
    assert (
        cli.main(["compare", f"ours={folders[0]}", str(folders[1]), f"--table={tmp_path / 'more.csv'}", f"--out={out}"])
        == 0
    )
    record = json.loads((out / "compare.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["ours", str(folders[1]), "else", "none"]
    nll = next(found for found in record["correlations"] if found["metric"] == "nll")
    assert nll["num"] == 3 and not any(found["metric"] == "notes" for found in record["correlations"])
    (pair,) = record["pairs"]
    assert {pair["first"], pair["second"]} == {"ours", str(folders[1])} and len(pair["mcnemar"]) == 2
    assert pair["all"] is not None
    assert "4 rows compared" in capsys.readouterr().out
    again = read_table(out / "table.csv")  # what was written can be read
    assert [(row.name, row.family, row.cas) for row in again] == [
        (row["name"], row["family"], row["cas"]) for row in record["rows"]
    ]
    marks = ElementTree.parse(out / "scatter-nll.svg").findall("{http://www.w3.org/2000/svg}path")
    assert len(marks) == 3


def test_what_cannot_be_compared(folders: list[Path], tmp_path: Path, make_real: Callable[..., FrozenSet]) -> None:
    runs = [read_run_of(folder) for folder in folders]
    with pytest.raises(InputError, match="two rows are named"):
        compare([], [runs[0], runs[0]])
    with pytest.raises(InputError, match="two rows or more"):
        compare([], runs[:1])
    with pytest.raises(InputError, match="holds neither score.json nor cas.json"):
        read_run_of(tmp_path)
    classification_accuracy_score(
        make_real("train", seed=2), make_real("test", seed=9), recipe=RECIPE, seeds=1, out=tmp_path / "elsewhere",
        device=torch.device("cpu"),
    )  # fmt: skip
    with pytest.raises(InputError, match="is a real score, generators are compared by CAS"):
        read_run_of(tmp_path / "elsewhere")
    shutil.copytree(folders[0], tmp_path / "leaving")
    record = json.loads((tmp_path / "leaving/cas.json").read_text())
    record["rows"][0]["scores"][0]["location"] = "../first/synthetic/seed-0/score"
    (tmp_path / "leaving/cas.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="leaves the folder"):
        read_run_of(tmp_path / "leaving")


def test_another_test_set_is_no_comparison(folders: list[Path]) -> None:
    runs = [read_run_of(folder) for folder in folders]
    changed: Any = Run(**{**vars(runs[1]), "test": "f" * 64})
    with pytest.raises(InputError, match="is of another test set"):
        compare([], [runs[0], changed])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,fid\na,1\nb,2\n", "cas among them: 'name, fid'"),
        ("cas,cas\n1,2\n3,4\n", "different columns"),
        ("cas,fid\n1,2\n", "has 1 rows below its header, allowed: 2 to 5000"),
        ("cas,fid\n1,2\n3\n", "line 3 has 1 cells, the header 2"),
        ("cas,fid\n1,2\n3,low\n", "line 3: fid is 'low', must be a number or empty"),
        ("cas,fid\n1,2\n3,nan\n", "line 3: fid is 'nan'"),
        ("cas,fid\n,2\n3,4\n", "line 2: cas is empty"),
        ("name,cas\na,1\na,2\n", "two rows are named 'a'"),
        ("\x00\xff", "CSV file in UTF-8|cas among them"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_table(path)
    assert cli.main(["compare", "--table", str(path), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_names_from_anywhere_stay_text(tmp_path: Path) -> None:
    hostile = ["<script>", "a\"b'c", "../../x", "=1+1"]
    entries = [
        Entry(name=name, family=name, cas=float(i), metrics={"../<fid>": float(-i), "¿": float(i)})
        for i, name in enumerate(hostile)
    ]
    plots = write_comparison(compare(entries), tmp_path / "out")
    assert {plot.parent for plot in plots} == {tmp_path / "out"} and len(set(plots)) == 2
    for plot in plots:
        assert "<script>" not in plot.read_text() and "script" in "".join(ElementTree.parse(plot).getroot().itertext())
    table = csv.DictReader((tmp_path / "out/table.csv").read_text().splitlines())
    assert [row["name"] for row in table] == hostile


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [-3.0, 4.0], [5.11, 42.65], [49.5, 339.1], [1e-6, 2e-6], [1e9, 1]]
)
def test_ticks_hold_all_values(values: list[float]) -> None:
    ticks = nice_ticks(values)
    assert ticks[0] <= min(values) <= max(values) <= ticks[-1] and 2 <= len(ticks) <= 9
