import base64
import hashlib
import html
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from caskit.evaluate.bootstrap import Bootstrap
from caskit.evaluate.numbers import score_numbers
from caskit.evaluate.predict import PREDICTION_SCHEMA, prediction_rows, read_predictions
from caskit.evaluate.report import contact_sheet, write_report
from caskit.evaluate.report.chart import Interval, RankPoint, axis_around, dot_row, rank_chart
from caskit.evaluate.report.confusion import Confusions, read_confusions
from caskit.evaluate.report.groups import group_scores
from caskit.evaluate.report.record import read_score
from caskit.evaluate.report.text import Html, escape, name_tag, position, shorten, signed, tag, visible
from caskit.evaluate.score import score_id
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.ingest import ingest
from caskit.shards.sources.source import ArraySource

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><svg onload=alert(1)>",
    "<!-- --></main>]]>",
    "&lt;b&gt; &amp;amp;",
    "right\N{RIGHT-TO-LEFT OVERRIDE}tfel",
    "nul\x00 escape\x1b[31m line\nbreak",
    "formfeed\x0c and delete\x7f",
    "x" * 1000,
    "",
)


class Page(HTMLParser):
    """What a browser would see: elements, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.pieces: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def values(self, tag: str, name: str) -> list[str]:
        return [value or "" for element, key, value in self.attributes if (element, key) == (tag, name)]


def make_set(
    out: Path, names: tuple[str, ...], *, each: int = 12, side: int = 8, split: str = "test"
) -> dict[str, Any]:
    """A real set on disk, image values telling class and ordinal; returns what a score records of it."""
    labels = np.repeat(np.arange(len(names)), each)
    pixels = np.zeros((len(labels), side, side, 1), np.uint8)
    pixels[:] = (labels * 20 + np.tile(np.arange(each), len(names))).astype(np.uint8)[:, None, None, None]
    source = ArraySource(
        dataset="blocks",
        split=split,
        classes=ClassList.from_names(names),
        files={},
        labels=labels,
        pixels=pixels,
        numbers=np.arange(len(labels)),
        file="blocks",
    )
    replica = ingest(source, out, samples_per_shard=50)
    return described(replica.replica_id, replica.content_root, "real", len(labels), str(out), "blocks", split)


def described(
    replica_id: str,
    content_root: str,
    kind: str,
    num: int,
    location: str | None,
    dataset: str | None,
    split: str | None,
) -> dict[str, Any]:
    generator = {"family": "cvae", "preset": "blocks", "checkpoint_id": "c" * 64, "seed": 7, "sampler": {"scale": 1.0}}
    return {
        "replica_id": replica_id,
        "content_root": content_root,
        "set_id": "d" * 64,
        "kind": kind,
        "num": num,
        "dataset": dataset,
        "split": split,
        "location": location,
        "generator": generator if kind in ("synthetic", "reconstruction") else None,
    }


def make_score(
    out: Path,
    names: tuple[str, ...],
    *,
    train: dict[str, Any] | None = None,
    test: dict[str, Any] | None = None,
    real: bool = True,
    each: int = 50,
) -> Path:
    """A score folder as `score` writes it, its baseline's folder beside it."""
    generator = np.random.default_rng(len(names))
    test = test or described("1" * 64, "2" * 64, "real", len(names) * each, None, "blocks", "test")
    train = train or described("a" * 64, "b" * 64, "synthetic", 600, None, None, None)
    baseline = None
    if real:
        trained = described("3" * 64, "4" * 64, "real", 600, None, "blocks", "train")
        hits = generator.beta(9, 2, len(names))
        baseline = write_folder(out.with_name(f"{out.name}-real"), names, hits, "real", trained, test, each)
    write_folder(out, names, generator.beta(4, 3, len(names)), "CAS", train, test, each, baseline)
    return out


def write_folder(
    out: Path,
    names: tuple[str, ...],
    hits: np.ndarray,
    metric: str,
    train: dict[str, Any],
    test: dict[str, Any],
    each: int,
    baseline: dict[str, Any] | None = None,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    classes = ClassList.from_names(names)
    labels = np.repeat(np.arange(len(names)), each)
    right = np.tile(np.arange(each), len(names)) < np.round(hits * each)[labels]
    logits = torch.zeros(len(labels), len(names))
    logits[torch.arange(len(labels)), torch.from_numpy(np.where(right, labels, (labels + 1) % len(names)))] = 5
    keys = [f"{classes.ids[label]}_{number % each:06d}" for number, label in enumerate(labels)]
    predictions = prediction_rows(logits, labels, keys)
    real = None if baseline is None else read_predictions(Path(baseline["location"]) / "predictions.parquet")
    numbers = score_numbers(
        predictions, classes, real=baseline, real_predictions=real, bootstrap=Bootstrap(replicates=100)
    )
    out.mkdir(parents=True)
    pq.write_table(predictions, out / "predictions.parquet")
    record = {
        "format_version": 1,
        "metric": metric,
        **numbers,
        "classifier": {
            "classifier_id": "9" * 64,
            "recipe": "blocks",
            "recipe_id": "e" * 64,
            "seed": seed,
            "train": train,
        },
        "test": test,
        "class_list_sha256": classes.digest,
        "predictions_sha256": hashlib.sha256((out / "predictions.parquet").read_bytes()).hexdigest(),
        "caveats": ["A caveat of this score."],
        "versions": {"caskit": "0.1.0", "torch": "2.0"},
        "git_commit": "abcdef",
        "hardware": {"device": "cpu", "threads": 2},
    }
    return {**write_score(out, record), "location": str(out)}


def write_score(out: Path, record: dict[str, Any]) -> dict[str, Any]:
    record = {**record, "score_id": score_id(record)}
    (out / "score.json").write_text(json.dumps(record))
    return record


def edit_score(folder: Path, **changes: Any) -> None:
    write_score(folder, {**json.loads((folder / "score.json").read_text()), **changes})


def report(folders: list[Path], out: Path, **options: Any) -> Page:
    return Page(write_report(folders, out, **options).read_text(encoding="utf-8"))


def names_of(num: int) -> tuple[str, ...]:
    return tuple(f"class {label}" for label in range(num))


def test_report_says_score_real_and_gap(tmp_path: Path) -> None:
    folder = make_score(tmp_path / "cvae", names_of(10))
    score = json.loads((folder / "score.json").read_text())
    page = report([folder], tmp_path / "report.html")
    assert "cvae:blocks on blocks" in page.text
    for value in (score["top1"]["value"], score["real"]["top1"]["value"]):
        assert f"{100 * value:.2f}" in page.text
    assert f"{score['gap_points']:.2f} points" in page.text
    assert f"below Real, {100 * score['gap_relative']:.1f} % relative" in page.text
    assert "A caveat of this score." in page.text
    for caveat in ("learnt p(x|y)", "memorises its training set", "no proper scoring rule"):
        assert caveat in page.text
    for identity in ("a" * 64, "b" * 64, "c" * 64, "e" * 64, "1" * 64, "2" * 64):
        assert identity in page.text
    assert f"caskit verify PATH@sha256:{'a' * 64} --level full" in page.text


def test_report_needs_no_network_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    page = report([make_score(tmp_path / "cvae", names_of(10))], tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    script = source[source.index("<script>") + 8 : source.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert page.elements.count("script") == 1 and "fetch" not in script and "http" not in script
    assert not {"link", "iframe", "object", "a", "form"} & set(page.elements)
    assert not [name for _, name, _ in page.attributes if name in ("href", "srcset", "action")]
    assert all(source.startswith("data:image/png;base64,") for source in page.values("img", "src"))
    policy = next(value for value in page.values("meta", "content") if "default-src" in value)
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'; ")
    assert "url(" not in "".join(page.pieces)


def test_same_folders_give_the_same_bytes(tmp_path: Path) -> None:
    folder = make_score(tmp_path / "cvae", names_of(10))
    first = write_report([folder], tmp_path / "a.html").read_bytes()
    assert write_report([folder], tmp_path / "b.html").read_bytes() == first


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    ordinary = report([make_score(tmp_path / "ordinary", names_of(len(HOSTILE)))], tmp_path / "ordinary.html")
    folder = make_score(tmp_path / "hostile", HOSTILE)
    page = report([folder], tmp_path / "hostile.html")
    assert page.elements.count("script") == 1
    assert sorted(set(page.elements)) == sorted(set(ordinary.elements))
    assert {(e, n) for e, n, _ in page.attributes} == {(e, n) for e, n, _ in ordinary.attributes} | {("bdi", "title")}
    assert page.text.count("<script>alert(1)</script>") >= 2
    assert "&lt;b&gt; &amp;amp;" in page.text
    raw = (tmp_path / "hostile.html").read_text(encoding="utf-8")
    assert not [character for character in "\x00\x1b\N{RIGHT-TO-LEFT OVERRIDE}" if character in raw]
    assert "x" * 61 not in page.text  # cut; the whole name is in the tooltip
    assert "x" * 1000 in page.values("bdi", "title")


def test_hostile_settings_stay_text(tmp_path: Path) -> None:
    train = described("a" * 64, "b" * 64, "synthetic", 600, "runs/<b>it's & more</b>", None, None)
    train["generator"] |= {"family": HOSTILE[0], "preset": HOSTILE[1], "sampler": {HOSTILE[2]: HOSTILE[3]}}
    folder = make_score(tmp_path / "cvae", names_of(4), train=train)
    edit_score(folder, caveats=list(HOSTILE), versions={HOSTILE[0]: HOSTILE[1]})
    page = report([folder], tmp_path / "report.html")
    assert "b<" not in page.elements and page.elements.count("script") == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE[3] in page.text
    quoted = f"caskit verify 'runs/<b>it'\"'\"'s & more</b>@sha256:{'a' * 64}' --level full"
    assert quoted in page.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top1": {"value": "<b>", "low": 0, "high": 1}}, "top1: value is '<b>', must be a number"),
        ({"top1": {"value": 92.1, "low": 0, "high": 1}}, "value is 92.1, must lie between 0 and 1"),
        ({"nll": "0"}, "nll is '0', must be a number"),
        ({"num_test": True}, "num_test is True, must be an integer"),
        ({"metric": "FID"}, "metric is 'FID', allowed: CAS, real, reconstructions, GAN-test"),
        ({"per_class": []}, "no class with test images"),
        ({"per_class": [{"label": 1, "id": "a", "name": "a", "num": 0}]}, "lists the labels 0, 1, 2"),
        ({"classifier": None}, "classifier: must be a JSON object"),
        ({"format_version": 2}, "a newer set needs a newer caskit"),
        ({"caveats": [1]}, "caveats must be a list of texts"),
    ],
)
def test_wrong_score_is_refused_by_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = make_score(tmp_path / "cvae", names_of(3))
    out = tmp_path / "report.html"
    out.write_text("the report of yesterday")
    edit_score(folder, **changes)
    with pytest.raises(InputError, match=message.replace("(", "[(]")):
        write_report([folder], out)
    assert out.read_text() == "the report of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cvae", "cvae-real", "report.html"]


def test_folder_without_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished score"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(InputError, match="at least one"):
        write_report([], tmp_path / "report.html")


def test_images_are_the_first_of_each_class(tmp_path: Path) -> None:
    names = names_of(3)
    real = make_set(tmp_path / "sets" / "test", names)
    other = make_set(tmp_path / "sets" / "other", names, each=14, split="train")
    train = {
        **other,
        "kind": "synthetic",
        "generator": {"family": "cvae", "preset": "blocks", "checkpoint_id": "c" * 64},
    }
    folder = make_score(tmp_path / "cvae", names, train=train, test=real)
    page = report([folder], tmp_path / "report.html")
    assert len(page.values("img", "src")) == 6  # real and synthetic row of three classes
    keys = page.values("img", "title")
    assert all(len(row.split()) == 10 for row in keys)
    assert keys.count(" ".join(f"c01_{ordinal:06d}" for ordinal in range(10))) == 2
    assert "first 10 images of each by ordinal: nothing was picked" in page.text
    assert "not shown" not in page.text


def test_set_that_is_not_at_hand_is_said(tmp_path: Path) -> None:
    names = names_of(3)
    real = make_set(tmp_path / "test", names)
    other = make_set(tmp_path / "other", names, each=14)
    folder = make_score(tmp_path / "cvae", names, test=real)
    page = report([folder], tmp_path / "report.html")
    assert "Synthetic images are not shown: the score does not say where the set is" in page.text
    assert len(page.values("img", "src")) == 3

    shutil.rmtree(tmp_path / "test")
    page = report([folder], tmp_path / "gone.html")
    assert "Real images are not shown:" in page.text
    assert "img" not in page.elements

    shutil.move(tmp_path / "other", tmp_path / "test")
    page = report([folder], tmp_path / "exchanged.html")
    assert f"replica_id is {other['replica_id']}" in page.text
    assert "img" not in page.elements


def test_damaged_set_is_said(tmp_path: Path) -> None:
    names = names_of(3)
    real = make_set(tmp_path / "test", names)
    folder = make_score(tmp_path / "cvae", names, test=real)
    shard = next((tmp_path / "test" / "shards").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[1600] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(bytes(data))
    page = report([folder], tmp_path / "report.html")
    assert "Real images are not shown:" in page.text
    assert "img" not in page.elements


def test_sets_may_have_moved(tmp_path: Path) -> None:
    names = names_of(3)
    real = make_set(tmp_path / "test", names)
    folder = make_score(tmp_path / "cvae", names, test=real)
    shutil.move(tmp_path / "test", tmp_path / "moved")
    sets = {real["replica_id"]: str(tmp_path / "moved")}
    page = report([folder], tmp_path / "report.html", sets=sets)
    assert len(page.values("img", "src")) == 3
    assert f"caskit verify {tmp_path / 'moved'}@sha256:{real['replica_id']} --level full" in page.text


def test_paths_below_the_current_folder_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real = make_set(tmp_path / "sets" / "test", names_of(3))
    folder = make_score(tmp_path / "cvae", names_of(3), test=real)
    page = report([folder], tmp_path / "report.html")
    assert f"caskit verify sets/test@sha256:{real['replica_id']} --level full" in page.text
    assert len(page.values("img", "src")) == 3


def test_a_thousand_classes_stay_readable(tmp_path: Path) -> None:
    names = names_of(1000)
    out = tmp_path / "report.html"
    page = report([make_score(tmp_path / "big", names, each=5)], out)
    assert out.stat().st_size < 2_000_000
    assert "The best 12 classes" in page.text
    assert "The worst 12 classes" in page.text
    assert "All 1,000 classes in numbers" in page.text
    assert "The 20 most frequent confusions" in page.text
    assert page.elements.count("rect") == 2000  # a tooltip per class in each of two panels


def seeds_of(root: Path, *, num: int = 3) -> list[Path]:
    """Scores of one replica by several trainings, each beside a Real row of its own."""
    generator = np.random.default_rng(0)
    test = described("1" * 64, "2" * 64, "real", 400, None, "blocks", "test")
    trained = described("3" * 64, "4" * 64, "real", 600, None, "blocks", "train")
    made = described("a" * 64, "b" * 64, "synthetic", 600, None, None, None)
    folders = []
    for seed in range(num):
        hits = np.clip(np.linspace(0.9, 0.5, 8) + generator.normal(0, 0.02, (2, 8)), 0, 1)
        real = write_folder(root / f"real-{seed}", names_of(8), hits[0] / 2 + 0.5, "real", trained, test, 50, seed=seed)
        write_folder(root / f"cas-{seed}", names_of(8), hits[1], "CAS", made, test, 50, real, seed=seed)
        folders.append(root / f"cas-{seed}")
    return folders


def test_several_trainings_have_a_mean_with_an_interval_over_both(tmp_path: Path) -> None:
    folders = seeds_of(tmp_path)
    page = report(folders, tmp_path / "report.html")
    scores = [json.loads((folder / "score.json").read_text()) for folder in folders]
    mean = float(np.mean([score["top1"]["value"] for score in scores]))
    gap = float(np.mean([score["gap_points"] for score in scores]))
    assert "cvae:blocks on blocks, 3 trainings" in page.text
    assert "cvae:blocks, mean of 3" in page.text and f"{100 * mean:.2f}" in page.text
    assert f"{gap:.2f}" in page.text and "not for another replica" in page.text
    (group,) = group_scores([read_score(folder) for folder in folders])
    assert group.top1 is not None and group.top1.low < mean < group.top1.high
    assert group.gap_bounds is not None and group.gap_bounds[0] < gap < group.gap_bounds[1]
    shutil.rmtree(tmp_path / "real-1")
    (group,) = group_scores([read_score(folder) for folder in folders])
    assert group.top1 is not None and group.gap == pytest.approx(gap) and group.gap_bounds is None
    (folders[0] / "predictions.parquet").unlink()
    (group,) = group_scores([read_score(folder) for folder in folders])
    assert group.top1 is None and group.mean == pytest.approx(mean)
    assert group_scores([read_score(folder) for folder in folders[:1]]) == []


def test_failed_classes_are_named_and_counts_are_beyond_chance(tmp_path: Path) -> None:
    test = described("1" * 64, "2" * 64, "real", 400, None, "blocks", "test")
    trained = described("3" * 64, "4" * 64, "real", 600, None, "blocks", "train")
    made = described("a" * 64, "b" * 64, "synthetic", 600, None, None, None)
    names = names_of(8)
    real = write_folder(tmp_path / "real", names, np.full(8, 0.9), "real", trained, test, 50)
    hits = np.array([0.92, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5, 0.02])
    write_folder(tmp_path / "cas", names, hits, "CAS", made, test, 50, real)
    page = report([tmp_path / "cas"], tmp_path / "report.html")
    assert "credibly below half of Real's (failed) in 1 class: class 7 ." in page.text
    assert "it is above Real in 0 classes and below it in 2." in page.text
    assert "Real is ahead by" in page.text


def test_both_directions_of_one_replica_share_a_plot(tmp_path: Path) -> None:
    test = described("1" * 64, "2" * 64, "real", 400, None, "blocks", "test")
    trained = described("3" * 64, "4" * 64, "real", 600, None, "blocks", "train")
    made = described("a" * 64, "b" * 64, "synthetic", 400, None, None, None)
    names, hits = names_of(8), np.linspace(0.2, 0.9, 8)
    write_folder(tmp_path / "cas", names, hits, "CAS", made, test, 50)
    write_folder(tmp_path / "fidelity", names, hits[::-1], "GAN-test", trained, made, 50)
    page = report([tmp_path / "cas", tmp_path / "fidelity"], tmp_path / "report.html")
    assert "Both directions" in page.text and "class 0: CAS 20.0 %, GAN-test 90.0 %" in page.text
    assert "taken for their label in 3 classes: class 7 , class 6 , class 5 ." in page.text
    assert "different recipes or test sets" not in page.text
    assert "Both directions" not in report([tmp_path / "cas"], tmp_path / "alone.html").text


def test_score_without_baseline_says_so(tmp_path: Path) -> None:
    for num in (10, 60):
        page = report([make_score(tmp_path / f"cvae{num}", names_of(num), real=False)], tmp_path / "report.html")
        assert "There is no Real row" in page.text
        assert "Real, same recipe" not in page.text


def test_several_scores_share_one_page(tmp_path: Path) -> None:
    first, second = (make_score(tmp_path / name, names_of(5)) for name in ("one", "two"))
    page = report([first, second], tmp_path / "report.html")
    assert "2 scores on blocks" in page.text
    assert page.text.count("Per class:") == 2
    assert "different recipes" not in page.text
    classifier = json.loads((second / "score.json").read_text())["classifier"]
    edit_score(second, classifier={**classifier, "recipe_id": "f" * 64})
    assert "different recipes or test sets" in report([first, second], tmp_path / "report.html").text


@pytest.mark.parametrize(
    ("metric", "heading", "label"),
    [
        ("real", "Real on blocks", "Real, top-1"),
        ("GAN-test", "GAN-test of cvae:blocks", "GAN-test, top-1"),
        ("reconstructions", "cvae:blocks reconstructions on blocks", "Reconstructions, top-1"),
    ],
)
def test_other_metrics_go_by_their_own_name(tmp_path: Path, metric: str, heading: str, label: str) -> None:
    real = described("3" * 64, "4" * 64, "real", 600, None, "blocks", "train")
    test = described("1" * 64, "2" * 64, "real", 200, None, "blocks", "test")
    synthetic = described("a" * 64, "b" * 64, "synthetic", 600, None, None, None)
    hits = np.array([0.9, 0.8, 0.7])
    made = described("a" * 64, "b" * 64, "reconstruction", 600, None, "blocks", "train")
    train = made if metric == "reconstructions" else real
    write_folder(tmp_path / "x", names_of(3), hits, metric, train, synthetic if metric == "GAN-test" else test, 50)
    page = report([tmp_path / "x"], tmp_path / "report.html")
    assert heading in page.text
    assert label in page.text
    assert "CAS, top-1" not in page.text
    source = (tmp_path / "report.html").read_text()
    assert "CAS" not in source[source.index("<title>") : source.index("</title>")]
    assert '<p class="eyebrow">Classification Accuracy Score' not in source


def test_classes_are_ranked_by_difference(tmp_path: Path) -> None:
    score = read_score(make_score(tmp_path / "cvae", names_of(8)))
    differences = [one.difference for one in score.ranked()]
    assert differences == sorted((one.score.value - one.real.value for one in score.classes if one.real), reverse=True)


def test_confusions_count_pairs() -> None:
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 2, 2, 1, 1])
    confusions = Confusions.from_labels(labels, predicted, 3)
    assert confusions.pairs == {0: [(2, 2), (0, 1)], 1: [(1, 2)]}
    assert confusions.share(0, 2) == 2 / 3
    assert confusions.share(2, 0) == 0


def test_predictions_outside_the_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    assert read_confusions(tmp_path, 3) is None
    row = {"key": "a_0", "label": 0, "rank": 0, "log_probability": 0.0, "sum_squared_probabilities": 1.0}
    for top5_ids, message in (([7], "top5_ids holds values outside the 3 classes"), ([], "holds an empty list")):
        rows = [{**row, "top5_ids": top5_ids, "top5_log_probabilities": [0.0] * len(top5_ids)}]
        pq.write_table(pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA), path)
        with pytest.raises(InputError, match=message):
            read_confusions(tmp_path, 3)


def test_changed_score_is_refused(tmp_path: Path) -> None:
    folder = make_score(tmp_path / "cvae", names_of(3))
    text = (folder / "score.json").read_text()
    (folder / "score.json").write_text(text.replace('"A caveat of this score."', '"No caveat."'))
    with pytest.raises(IntegrityError, match="it was edited"):
        write_report([folder], tmp_path / "report.html")


def test_confusions_of_real_are_those_of_the_baseline(tmp_path: Path) -> None:
    folder = make_score(tmp_path / "cvae", names_of(4))
    assert report([folder], tmp_path / "a.html").elements.count("caption") == 2
    edit_score(tmp_path / "cvae-real", caveats=["another score"])
    page = report([folder], tmp_path / "b.html")
    assert page.elements.count("caption") == 1
    assert "The folder of the Real score is not at hand" in page.text
    shutil.rmtree(tmp_path / "cvae-real")
    assert report([folder], tmp_path / "b.html").elements.count("caption") == 1


def test_class_without_test_images_is_named(tmp_path: Path) -> None:
    folder = make_score(tmp_path / "cvae", names_of(4))
    classes = json.loads((folder / "score.json").read_text())["per_class"]
    classes[2] |= {"num": 0, "top1": None, "real_top1": None, "difference": None}
    edit_score(folder, per_class=classes)
    page = report([folder], tmp_path / "report.html")
    assert "There is no test image of 1 class: class 2 ." in page.text
    assert "of 3 classes" in page.text


def test_real_score_beside_its_own_baseline_is_one_row(tmp_path: Path) -> None:
    folder = make_score(tmp_path / "cvae", names_of(4))
    page = report([folder, tmp_path / "cvae-real"], tmp_path / "report.html")
    rows = [value for value in page.values("svg", "aria-label") if value.startswith("real ")]
    assert len([value for value in rows if "score" not in value]) == 1
    assert "blocks, train" in page.text


def test_tag_escapes_all_but_html() -> None:
    assert tag("p", {"title": '"<&'}, "<b>", Html("<i></i>"), ["a", None]) == (
        '<p title="&quot;&lt;&amp;">&lt;b&gt;<i></i>a</p>'
    )
    assert tag("img", {"alt": None}) == "<img/>"
    for name in HOSTILE:
        assert html.unescape(escape(name)) == visible(name)
        assert "<" not in escape(name)
    assert shorten("abcdef", 4) == "abc\N{HORIZONTAL ELLIPSIS}"
    assert "title" not in name_tag("short")


def test_numbers_are_spelled_for_people() -> None:
    assert (signed(-6.2), signed(6.2, 1), signed(-0.001)) == ("\N{MINUS SIGN}6.20", "+6.2", "0.00")
    assert (position(0.5, 0, 1), position(2, 0, 1), position(0.8, 0.75, 0.95)) == ("50.00%", "100.00%", "25.00%")


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.0, 1.0], [0.82, 0.93], [0.5, 0.5001], [0.05, 0.51, 0.7]])
def test_axis_holds_its_values(values: list[float]) -> None:
    axis = axis_around(values)
    assert 0 <= axis.low <= min(values) <= max(values) <= axis.high <= 1 + 1e-9
    assert 2 <= len(axis.ticks) <= 8
    assert dot_row(axis, real=None, score=Interval(value=values[0], low=values[0], high=values[0]))


def test_rank_chart_draws_zero_and_one() -> None:
    points = [RankPoint(name="a", score=1.0, real=0.0), RankPoint(name="b", score=0.0, real=1.0)]
    drawn = rank_chart(points)
    assert "1. a: 100.0 %, real 0.0 %, +100.0 points" in drawn
    assert "M0.5 0.0h" in drawn
    assert rank_chart([RankPoint(name="a", score=0.5, real=0.5)])
    assert "difference" not in rank_chart([RankPoint(name="a", score=0.5, real=None)])


def read_png(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return np.asarray(image)


def test_contact_sheet_keeps_pixels_and_order() -> None:
    images = [np.full((4, 4, 1), value, np.uint8) for value in (10, 20, 30)]
    sheet = read_png(contact_sheet(images, columns=2))
    assert sheet.shape == (9, 9, 2)  # two tiles of 4 and a gap of 1; grey and alpha
    assert (sheet[:4, :4, 0] == 10).all()
    assert (sheet[:4, 5:, 0] == 20).all()
    assert (sheet[5:, :4, 0] == 30).all()
    assert (sheet[4] == 0).all()
    assert (sheet[5:, 5:, 1] == 0).all()


def test_contact_sheet_mixes_sizes_and_colours() -> None:
    images = [np.zeros((4, 4), np.uint8), np.full((40, 20, 3), 200, np.uint8), np.full((2, 2, 4), 9, np.uint8)]
    sheet = read_png(contact_sheet(images, columns=3, tile=8, gap=2))
    assert sheet.shape == (8, 28, 4)
    assert (sheet[2:6, 2:6] == [0, 0, 0, 255]).all()
    assert (sheet[:, 12:16] == [200, 200, 200, 255]).all()
    assert (sheet[:, 10:12, 3] == 0).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [([], "0 images"), ([np.zeros((4, 4))], "float64"), ([np.zeros((4, 4, 2), np.uint8)], "takes uint8")],
)
def test_contact_sheet_refuses_what_is_no_image(images: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contact_sheet(images, columns=2)
