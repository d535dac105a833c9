"""What a page says over several sets, and report.json: every number of the page, made again by `caskit check`."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from caskit import cli
from caskit.evaluate.bootstrap import Bootstrap
from caskit.evaluate.check.report import check_report
from caskit.evaluate.fidelity.extractor import Identity
from caskit.evaluate.fidelity.numbers import BELOW_DIMENSION, Settings, metric_name
from caskit.evaluate.fidelity.record import metrics_id
from caskit.evaluate.numbers import score_numbers
from caskit.evaluate.predict import prediction_rows
from caskit.evaluate.report import write_report
from caskit.evaluate.report.contents import gather
from caskit.evaluate.score import score_id
from caskit.manifests.canonical import canonical_json
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.ingest import ingest
from caskit.shards.sources.source import ArraySource

NAMES = tuple(f"kind {letter}" for letter in "abcdefg")
CLASSES = ClassList.from_names(NAMES)
EACH = 30


def described(name: str, kind: str, settings: dict[str, Any] | None, location: str | None = None) -> dict[str, Any]:
    generator = None
    if settings is not None:
        family = name.split("-")[0]
        generator = {"family": family, "preset": "blocks", "checkpoint_id": "c" * 64, "seed": 7, "sampler": settings}
    digests = {field: hashlib.sha256(f"{name} {field}".encode()).hexdigest() for field in ("content_root", "set_id")}
    return {
        "replica_id": hashlib.sha256(name.encode()).hexdigest(),
        **digests,
        "kind": kind,
        "num": 600,
        "dataset": None if generator else "blocks",
        "split": None if generator else "test",
        "location": location,
        "generator": generator,
    }


def write(
    out: Path, share: float, train: dict[str, Any], test: dict[str, Any], *, metric: str = "CAS",
    real: dict[str, Any] | None = None, seed: int = 0,
) -> Path:  # fmt: skip
    """A score folder: the last images of each class are taken for the class after it."""
    labels = np.repeat(np.arange(len(NAMES)), EACH)
    hits = np.clip(share + np.linspace(-0.2, 0.2, len(NAMES)), 0, 1)
    right = np.tile(np.arange(EACH), len(NAMES)) < np.round(hits * EACH)[labels]
    logits = torch.zeros(len(labels), len(NAMES))
    logits[torch.arange(len(labels)), torch.from_numpy(np.where(right, labels, (labels + 1) % len(NAMES)))] = 3
    keys = [f"{CLASSES.ids[label]}_{place % EACH:06d}" for place, label in enumerate(labels)]
    predictions = prediction_rows(logits, labels, keys)
    out.mkdir(parents=True)
    pq.write_table(predictions, out / "predictions.parquet")
    record = {
        "format_version": 1,
        "metric": metric,
        **score_numbers(predictions, CLASSES, real=real, bootstrap=Bootstrap(replicates=100)),
        "classifier": {
            "classifier_id": "9" * 64, "recipe": "blocks", "recipe_id": "e" * 64, "seed": seed, "train": train,
        },
        "test": test,
        "class_list_sha256": CLASSES.digest,
        "predictions_sha256": hashlib.sha256((out / "predictions.parquet").read_bytes()).hexdigest(),
        "caveats": ["A caveat of 3.25 words."],
        "versions": {"caskit": "0.1.0"},
        "git_commit": None,
        "hardware": {"device": "cpu"},
    }  # fmt: skip
    record["score_id"] = score_id(record)
    (out / "score.json").write_text(json.dumps(record))
    return out


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A Real row, and a generator at three temperatures, the middle one with two training seeds."""
    labels = np.repeat(np.arange(len(NAMES)), EACH)
    pixels = np.arange(len(labels) * 64).reshape(-1, 8, 8, 1).astype(np.uint8)
    source = ArraySource(
        dataset="blocks", split="test", classes=CLASSES, files={}, labels=labels, pixels=pixels,
        numbers=np.arange(len(labels)), file="blocks",
    )  # fmt: skip
    replica = ingest(source, tmp_path / "set")
    test = described("test", "real", None, str(tmp_path / "set")) | {"replica_id": replica.replica_id}
    real = write(tmp_path / "real", 0.75, described("train", "real", None), test, metric="real")
    beside = {**json.loads((real / "score.json").read_text()), "location": str(real)}
    found = []
    for seed, temperature, share in ((0, 0.5, 0.4), (0, 1.0, 0.7), (1, 1.0, 0.64), (0, 1.5, 0.5)):
        train = described(f"cvae-{temperature}", "synthetic", {"temperature": temperature, "steps": 4, "law": "normal"})
        found.append(write(tmp_path / f"s{temperature}-{seed}", share, train, test, real=beside, seed=seed))
    return found


def write_metrics(
    out: Path, root: str, factor: float = 1.0, *, reference: str = "r", digest: str = "ab", num: int = 600
) -> Path:
    """A folder of `caskit metrics` by some classifier, the Frechet distance of fewer images than features."""
    identity = Identity(name="classifier", digest=digest * 32, resize="recipe", usual_resize="recipe")
    settings, per_class = Settings(), []
    values = {"cs": (5.25, 0.125, None), "fd": (1.625, None, 900), "kd": (0.012875, 0.00125, 900)}
    values |= {"precision": (0.875, None, 900), "recall": (0.625, None, 900)}
    metrics = [
        {
            "name": metric_name(metric, identity, num, settings), "metric": metric, "value": value * factor, "sd": sd,
            "num": num, "num_reference": beside, "marks": [BELOW_DIMENSION] if metric == "fd" and num < 512 else [],
        }
        for metric, (value, sd, beside) in values.items()
    ]  # fmt: skip
    for label, name in enumerate(NAMES):
        row = {"label": label, "id": CLASSES.ids[label], "name": name, "num": 120 + label, "num_reference": 130}
        row |= dict.fromkeys(("cs", "fd", "kd", "precision", "recall", "density", "coverage"))
        per_class.append({**row, "num_features": 0, "num_reference_features": 0, "recall": 0.5 + label / 64})
    record = {
        "format_version": 1, "metrics_version": 1, "metrics": metrics, "per_class": per_class,
        "omitted": [{"metric": "density", "reason": "needs more images"}], "extractor": identity.to_json(),
        "dim": 512, "settings": settings.to_json(), "inputs": {}, "caveats": [], "versions": {},
        "replica": {"content_root": root},
        "reference": {
            "content_root": hashlib.sha256(reference.encode()).hexdigest(), "dataset": "blocks", "split": "train",
        },
    }  # fmt: skip
    record["metrics_id"] = metrics_id(record)
    out.mkdir()
    (out / "metrics.json").write_bytes(canonical_json(record))
    return out


class Text(HTMLParser):
    """The words of a page, without titles and attributes, script and style, ids and the numbers of axes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            ticks = (dict(attrs).get("class") or "").startswith("rank-axis")
            self._open.append("ticks" if ticks else tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] in (tag, "ticks"):
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style", "dl", "pre", "footer", "svg", "ticks"} & set(self._open):
            self.words.append(data)


def test_a_sweep_is_drawn_by_rising_value_with_seeds_as_one(folders: list[Path], tmp_path: Path) -> None:
    contents = gather([folders[3], *folders[:3]])
    (sweep,) = contents.sweeps
    assert sweep.setting == "temperature" and [value for value, _ in sweep.points] == [0.5, 1.0, 1.5]
    tops = [score.top1.value for score in contents.scores]
    assert sweep.points[1][1].value == pytest.approx((tops[2] + tops[3]) / 2)
    assert sweep.real is not None
    page = write_report(folders, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "at 3 values of temperature: CAS is highest" in page and "Sweeps" in page


def test_sets_that_differ_by_more_than_one_setting_are_no_sweep(folders: list[Path], tmp_path: Path) -> None:
    record = json.loads((folders[0] / "score.json").read_text())
    record["classifier"]["train"]["generator"]["sampler"]["steps"] = 8
    record["score_id"] = score_id(record)
    (folders[0] / "score.json").write_text(json.dumps(record))
    assert gather(folders).sweeps == []
    assert gather(folders[1:]).sweeps[0].setting == "temperature"
    assert gather(folders[1:3]).sweeps == []


def test_measures_are_correlated_over_sets_and_not_over_trainings(folders: list[Path], tmp_path: Path) -> None:
    contents = gather(folders)
    assert [entry.family for entry in contents.entries] == ["cvae:blocks"] * 3
    found = {one["metric"]: one for one in contents.correlations}
    assert found["NLL, nats"]["num"] == 3 and found["NLL, nats"]["pearson"]["value"] < -0.99
    assert found["NLL, nats"]["pearson"]["low"] is None
    page = write_report(folders, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "How other measures go with CAS" in page and "say nothing about other generators" in page
    assert gather(folders[:3]).correlations == []


def test_the_first_images_behind_a_confusion_are_shown(folders: list[Path], tmp_path: Path) -> None:
    page = write_report(folders[:1], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Mistakes" in page
    wrong = 1 - round(EACH * 0.2) / EACH
    assert f"{round(EACH * wrong)} of {EACH}, {100 * wrong:.1f} %" in page
    first = round(EACH * 0.2)
    keys = " ".join(f"{CLASSES.ids[0]}_{place:06d}" for place in range(first, first + 10))
    assert f'title="{keys}"' in page


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers_of(inner)]
    if isinstance(value, list):
        return [len(value), *(number for inner in value for number in numbers_of(inner))]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def measured_of(folders: list[Path], tmp_path: Path) -> list[Path]:
    """Metrics of the three sets, each larger than the one before."""
    roots = dict.fromkeys(score.train.ids["content_root"] for score in gather(folders).scores)
    return [write_metrics(tmp_path / f"m{place}", root, 1 + place / 4) for place, root in enumerate(roots)]


def test_metrics_stand_beside_the_cas_of_their_set_under_their_whole_names(folders: list[Path], tmp_path: Path) -> None:
    measured = measured_of(folders, tmp_path)
    page = write_report(folders, tmp_path / "report.html", metrics=measured).read_text(encoding="utf-8")
    text = " ".join(" ".join(Text(page).words).split())
    assert "Fidelity metrics" in text and "ab" * 32 in text and "Beside 900 real images of blocks train" in text
    assert "kd [classifier@abababab]@600" in text and "cs [classifier@abababab]@600" in text
    row = text[text.index("metrics_id") :]
    assert re.match(r"metrics_id [0-9a-f]{16} 40\.\d\d 5\.250 \N{PLUS-MINUS SIGN} 0\.1250 1\.625 0\.012875", row), row[
        :120
    ]
    assert "By class: cvae:blocks" in text and "no density, needs more images" in text
    contents = gather(folders, metrics=measured)
    found = {one["metric"]: one for one in contents.correlations}
    assert found["fd[classifier@abababab]@600"]["num"] == 3
    assert "fd[classifier@abababab]@600" in page[page.index("How other measures go with CAS") :]
    assert "Fidelity metrics" not in write_report(folders, tmp_path / "plain.html").read_text(encoding="utf-8")


def test_a_marked_metric_says_so_and_is_compared_with_nothing(folders: list[Path], tmp_path: Path) -> None:
    root = gather(folders).scores[0].train.ids["content_root"]
    folder = write_metrics(tmp_path / "few", root, num=300)
    page = write_report(folders[:1], tmp_path / "report.html", metrics=[folder]).read_text(encoding="utf-8")
    assert "N below D" in page and "far too large; compare it with nothing" in page
    (entry,) = [
        one for one in gather(folders, metrics=[folder]).entries if "cs[classifier@abababab]@300" in one.metrics
    ]
    assert "fd[classifier@abababab]@300" not in entry.metrics


def test_metrics_of_other_sets_or_twice_are_refused(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, _ = measured_of(folders, tmp_path)
    roots = [json.loads((one / "metrics.json").read_bytes())["replica"]["content_root"] for one in (first, second)]
    cases = [
        ([write_metrics(tmp_path / "none", "0" * 64)], "measures content 0000000000000000, which none of the scores"),
        ([first, write_metrics(tmp_path / "twice", roots[0], 2.0)], "name one folder of them"),
        ([first, write_metrics(tmp_path / "other", roots[1], reference="s")], "is beside real content"),
        ([tmp_path], "run caskit metrics first"),
    ]
    for given, message in cases:
        words = [word for folder in given for word in ("--metrics", str(folder))]
        out = str(tmp_path / "refused.html")
        assert cli.main(["report", *map(str, folders), *words, "--out", out]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    text = (second / "metrics.json").read_text().replace("0.78125", "0.88125")
    (second / "metrics.json").write_text(text)
    with pytest.raises(IntegrityError, match="metrics_id does not follow"):
        gather(folders, metrics=[second])
    two = write_metrics(tmp_path / "classes", roots[0], digest="cd")
    assert "classifier@cdcdcdcd" in write_report(folders, tmp_path / "two.html", metrics=[first, two]).read_text(
        encoding="utf-8"
    )


def test_every_number_of_the_page_is_in_report_json(folders: list[Path], tmp_path: Path) -> None:
    measured = measured_of(folders, tmp_path)
    page = write_report(folders, tmp_path / "report.html", metrics=measured).read_text(encoding="utf-8")
    record = json.loads((tmp_path / "report.json").read_text())
    known = set()
    for number in numbers_of(record):
        for scaled in (number, 100 * number, 100 - 100 * number):
            known |= {f"{abs(scaled):.{digits}f}" for digits in range(7)}
    for score in record["scores"]:
        totals = {one["label"]: one["num"] for one in score["per_class"]}
        for pairs in (score["confusions"], score["real_confusions"] or []):
            known |= {f"{100 * images / totals[label]:.{d}f}" for label, _, images in pairs for d in (0, 1)}
    text = " ".join(Text(page).words)
    fractions = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", text)
    assert len(fractions) > 200
    assert [number for number in fractions if number not in known and number not in ("3.25",)] == []


def test_a_report_is_checked_and_edits_are_found(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = measured_of(folders, tmp_path)
    page = write_report(folders, tmp_path / "report.html", metrics=measured)
    numbers = tmp_path / "report.json"
    assert cli.main(["check", str(numbers)]) == 0
    assert "PASS" in capsys.readouterr().out
    record = json.loads(numbers.read_text())
    record["scores"][2]["per_class"][1]["top1"]["value"] += 0.01
    record["sweeps"][0]["points"][0]["value"] = 0.25
    record["metrics"][1]["metrics"][2]["value"] = 0.25
    numbers.write_text(json.dumps(record))
    page.write_bytes(page.read_bytes() + b" ")
    faults = [str(fault) for fault in check_report(numbers).of("differs")]
    assert len(faults) == 4 and "another page, or an edited one" in faults[0]
    found = "".join(faults)
    assert "scores[2].per_class[1].top1.value" in found and "sweeps[0].points[0].value is 0.25" in found
    assert "metrics[1].metrics[2].value is 0.25" in found
    folders[0].rename(tmp_path / "moved")
    assert [str(one) for one in check_report(numbers).of("not at hand")]
    numbers.write_text('{"report_version": 7}')
    with pytest.raises(InputError, match="report_version is 7, known is 1"):
        check_report(numbers)
    with pytest.raises(InputError, match="its numbers go into the file of that name with .json"):
        write_report(folders[1:], tmp_path / "page.json")
