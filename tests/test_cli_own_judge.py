"""A generator that brings its judge: fitted with it, kept by it unless told otherwise, audited and repaired with it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from caskit import cli
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.own_judge import own_rejection
from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError
from caskit.train.training import copy_classifier, load_classifier, read_run

STEPS = [f"{stage}.num_steps=3" for stage in ("autoencoder", "top", "bottom")]
JUDGED = ["judge.recipe=digits", "judge.num_steps=5", "judge.candidates=3", "judge.threshold=0.2"]
FIT = ["fit", "--gen", "vqvae2:digits", "--data", "real/train"]
SAMPLE = ["sample", "--gen", "vqvae2:digits", "--num", "60", "--executor", "inline", "--set", "microbatch_size=20"]


def settings(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--set", text)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, a short fit with a judge, one without, and a replica of the first."""
    folder = tmp_path_factory.mktemp("own-judge")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for command in (
            ["data", "digits", "--out", "real"],
            [*FIT, "--out", "fit", *settings(*STEPS, *JUDGED)],
            [*FIT, "--out", "plain", *settings(*STEPS)],
            [*SAMPLE, "--checkpoint", "fit", "--out", "replica"],
        ):
            assert cli.main(command) == 0, command
    return folder


@pytest.fixture(autouse=True)
def _inside(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("XDG_CACHE_HOME", str(runs / "cache"))


def caskit(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


def rejection_of(replica: str) -> dict[str, object] | None:
    stated: dict[str, object] | None = json.loads(Path(replica, "plan.json").read_bytes())["rejection"]
    return stated


def tars(replica: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(replica, "shards").iterdir())]


def test_the_fit_trains_a_classifier_of_its_own_images_and_names_it() -> None:
    checkpoint = load_checkpoint(Path("fit"))
    classifier = load_classifier(Path("fit/judge"), device=torch.device("cpu"))
    content_root = json.loads(Path("real/train/replica.json").read_bytes())["content_root"]
    assert classifier.record["data"]["content_root"] == content_root
    assert (classifier.recipe.name, classifier.recipe.num_steps, classifier.record["seed"]) == ("digits", 5, 0)
    named = {"candidates": 3, "classifier_id": classifier.classifier_id, "threshold": 0.2}
    assert checkpoint.record["rejection"] == named
    assert checkpoint.record["config"]["judge"]["num_steps"] == 5
    assert classifier.record["data_location"] is None, "a path of one machine is nobody else's business"
    assert sorted(path.name for path in Path("fit/judge").iterdir()) == ["model.safetensors", "run.json"]


def test_it_is_a_classifier_like_any_other(tmp_path: Path) -> None:
    assert caskit("score", "--classifier", "fit/judge", "--real", "real/test", "--out", tmp_path / "score") == 0
    assert caskit("report", tmp_path / "score", "--out", tmp_path / "judge.html") == 0


def test_a_fit_without_one_says_nothing_of_it() -> None:
    record = load_checkpoint(Path("plain")).record
    assert "rejection" not in record and "judge" not in record["config"] and not Path("plain/judge").exists()
    assert own_rejection(load_checkpoint(Path("plain"))) is None
    judged, plain = (load_checkpoint(Path(name)) for name in ("fit", "plain"))
    assert judged.checkpoint_id != plain.checkpoint_id
    assert judged.record["tensors"] == plain.record["tensors"], "the judge is beside the generator, not in it"


def test_the_same_fit_again_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = load_checkpoint(Path("fit")).checkpoint_id
    written = Path("fit/judge/run.json").read_bytes()
    assert caskit(*FIT, "--out", "fit", *settings(*STEPS, *JUDGED)) == 0
    assert load_checkpoint(Path("fit")).checkpoint_id == before and Path("fit/judge/run.json").read_bytes() == written
    other = settings(*STEPS, "judge.recipe=digits", "judge.num_steps=6")
    assert caskit(*FIT, "--out", "fit", *other) == 2
    assert "holds another classifier, differing in recipe.num_steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("judge.recipe=fashion-mnist", "images are 8x8, recipe fashion-mnist is for 28x28"),
        ("judge.recipe=nobody", "recipe 'nobody' is not known, use one of"),
        ("judge.num_steps=-1", "judge.num_steps is -1, allowed: 0"),
        ("judge.candidates=1", "judge.candidates is 1, allowed: 2..64"),
        ("judge.threshold=1", "judge.threshold is 1.0, allowed: a number above 0 and below 1"),
        ("judge.threshold=0.6", "judge.threshold is 0.6 and judge.recipe names no judge, allowed then: 0.5"),
    ],
)
def test_judges_that_cannot_be(setting: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing a fit does, so nothing was trained for hours when it is told."""
    assert caskit(*FIT, "--out", "wrong", *settings(*STEPS, setting)) == 2
    assert message in capsys.readouterr().err
    assert not Path("wrong/_work/autoencoder").exists()


def test_samples_are_kept_by_it_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    named = load_checkpoint(Path("fit")).record["rejection"]
    assert rejection_of("replica") == named
    scored = Path("replica/README.md").read_text()
    words = "first of up to 3 candidates with a probability of 0.2 (else the best)"
    assert f"{words} by classifier `{named['classifier_id']}`" in scored
    capsys.readouterr()
    from_fit = [*SAMPLE, "--checkpoint", "fit"]
    assert caskit(*from_fit, "--dry-run", "--out", "x") == 0
    assert f"each image is the {words}, by the checkpoint's own judge; --best-of 1 takes the first" in (
        capsys.readouterr().out
    )
    assert caskit(*from_fit, "--best-of", "1", "--out", "first") == 0
    assert rejection_of("first") is None and "own judge" not in capsys.readouterr().out
    assert caskit(*SAMPLE, "--checkpoint", "plain", "--out", "none") == 0
    assert tars("none") == tars("first"), "without its judge it is the generator that was fitted without one"
    assert caskit(*from_fit, "--best-of", "2", "--out", "two") == 0
    assert rejection_of("two") == {"candidates": 2, "classifier_id": named["classifier_id"]}
    assert tars("two") != tars("first")


def test_given_or_its_own_it_is_the_same_judge() -> None:
    flags = ["--best-of", "3", "--accept", "0.2", "--classifier", "fit/judge"]
    assert caskit(*SAMPLE, "--checkpoint", "fit", *flags, "--out", "given") == 0
    assert Path("given/plan.json").read_bytes() == Path("replica/plan.json").read_bytes()
    assert tars("given") == tars("replica")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--best-of", "2"], "this generator brings no judge of its own"),
        (["--best-of", "1", "--classifier", "fit/judge"], "--classifier DIR goes with --best-of K, from 2"),
        (["--best-of", "1", "--accept", "0.5"], "--accept P goes with --best-of K, from 2"),
    ],
)
def test_a_generator_without_one(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert caskit(*SAMPLE, "--checkpoint", "plain", *options, "--out", "wrong-replica") == 2
    assert message in capsys.readouterr().err and not Path("wrong-replica").exists()


def test_audit_and_repair_take_it_from_the_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert caskit("audit", "replica", "--checkpoint", "fit", "--redraw") == 0
    assert "PASS" in capsys.readouterr().out
    shutil.copytree("replica", "damaged")
    (tar,) = Path("damaged/shards").glob("*.tar")
    whole = tar.read_bytes()
    tar.write_bytes(whole[:1000] + b"?" + whole[1001:])
    assert caskit("repair", "damaged", "--resample", "--checkpoint", "fit") == 0
    assert tar.read_bytes() == whole


def test_another_judge_than_the_checkpoints_has_to_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "--data", "real/train", "--recipe", "digits", "--set", "num_steps=4", "--out", "other"]
    assert caskit(*train) == 0
    flags = ["--checkpoint", "fit", "--best-of", "2", "--classifier", "other", "--out", "by-other"]
    assert caskit(*SAMPLE, *flags) == 0
    assert (rejection_of("by-other") or {})["classifier_id"] == read_run(Path("other"))["classifier_id"]
    capsys.readouterr()
    assert caskit("audit", "by-other", "--checkpoint", "fit", "--redraw") == 2
    assert re.search(r"by classifier [0-9a-f]{64}; its folder has to be given", capsys.readouterr().err)
    assert caskit("audit", "by-other", "--checkpoint", "fit", "--redraw", "--classifier", "other") == 0


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the fit, to break its judge."""
    shutil.copytree("fit", tmp_path / "copied", ignore=shutil.ignore_patterns("_work"))
    return tmp_path / "copied"


def lose_folder(judge: Path) -> None:
    shutil.rmtree(judge)


def lose_weights(judge: Path) -> None:
    (judge / "model.safetensors").unlink()


def edit_record(judge: Path) -> None:
    text = (judge / "run.json").read_text()
    (judge / "run.json").write_text(text.replace('"num_steps": 5', '"num_steps": 7'))


def no_json(judge: Path) -> None:
    (judge / "run.json").write_text("[" * 100_000)


def a_list(judge: Path) -> None:
    (judge / "run.json").write_text("[]")


def another(judge: Path) -> None:
    train = ["train", "--data", "real/train", "--recipe", "digits", "--set", "num_steps=4", "--out", "another"]
    assert cli.main(train) == 0
    for name in ("run.json", "model.safetensors"):
        shutil.copy(Path("another", name), judge / name)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lose_folder, "judge: missing, the checkpoint names a judge of its own"),
        (lose_weights, "model.safetensors: no such file, the classifier is not whole"),
        (edit_record, "classifier_id does not follow from the record, it was edited"),
        (no_json, "run.json: not the record of a classifier"),
        (a_list, "run.json: not the record of a classifier"),
        (another, ", the checkpoint names "),
    ],
)
def test_a_checkpoint_whose_judge_is_not_its_own(
    copied: Path, break_it: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it(copied / "judge")
    capsys.readouterr()
    from_copy = [*SAMPLE, "--checkpoint", copied, "--out", tmp_path / "r"]
    assert caskit(*from_copy) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists(), "told before anything is written, so that --best-of 1 can go there"
    assert caskit(*from_copy, "--best-of", "1") == 0


def test_without_timm_the_first_draws_are_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "timm" else True)
    assert caskit(*SAMPLE, "--checkpoint", "fit", "--out", tmp_path / "r") == 2
    told = "needs the package timm wherever samples are drawn: pip install 'caskit[train]'; `caskit sample --best-of 1`"
    assert told in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_linked_weights_are_not_copied_into_another_checkpoint(copied: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    (copied / "judge/model.safetensors").rename(secret)
    (copied / "judge/model.safetensors").symlink_to(secret)
    with pytest.raises(InputError, match="model.safetensors: "):
        copy_classifier(copied / "judge", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "rejection is null, a checkpoint without one leaves it out"),
        ({"candidates": 3, "classifier_id": "ab" * 32, "threshold": None}, "threshold is null"),
        ({"candidates": 3}, "rejection: missing fields: .'classifier_id'."),
        ({"candidates": 1, "classifier_id": "ab" * 32}, "rejection.candidates is 1, allowed: 2..64"),
        ({"candidates": 3, "classifier_id": "ab"}, "must be 64 hex digits"),
        ("best", "rejection has the wrong type: 'best', must be an object or null"),
    ],
)
def test_records_that_name_no_rejection(value: object, message: str, tmp_path: Path) -> None:
    shutil.copytree("fit", tmp_path / "c", ignore=shutil.ignore_patterns("_work"))
    file = tmp_path / "c/checkpoint.json"
    file.write_bytes(canonical_json({**json.loads(file.read_bytes()), "rejection": value}))
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "c")


def test_what_is_refined_from_it_brings_it_too(tmp_path: Path) -> None:
    short = settings("num_drawn=40", *(f"{level}.{name}" for level in ("top", "bottom") for name in ("num_steps=2",)))
    flags = ["--checkpoint", "fit", "--data", "real/train", "--classifier", "fit/judge", "--out", tmp_path]
    assert caskit("refine", "--gen", "vqvae2:digits", *flags, *short) == 0
    source, refined = load_checkpoint(Path("fit")), load_checkpoint(tmp_path)
    assert refined.record["derived_from"] == source.checkpoint_id
    assert refined.record["rejection"] == source.record["rejection"]
    for name in ("run.json", "model.safetensors"):
        assert (tmp_path / "judge" / name).read_bytes() == Path("fit/judge", name).read_bytes()


@pytest.mark.timeout(400)
def test_workers_on_ray_find_it(tmp_path: Path) -> None:
    ray = [part if part != "inline" else "ray" for part in SAMPLE]
    assert (
        caskit(*ray, "--workers", "2", "--samples-per-shard", "30", "--checkpoint", "fit", "--out", tmp_path / "r") == 0
    )
    parts = [*SAMPLE, "--samples-per-shard", "30", "--checkpoint", "fit", "--out", tmp_path / "p"]
    for part in ("1/2", "2/2"):
        assert caskit(*parts, "--part", part) == 0
    assert tars(str(tmp_path / "r")) == tars(str(tmp_path / "p")) and len(tars(str(tmp_path / "r"))) == 2


def test_recorded_codes_are_audited_without_it(copied: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    assert caskit(*SAMPLE, "--record-codes", "--checkpoint", "fit", "--out", out) == 0
    shutil.rmtree(copied / "judge")
    assert caskit("audit", out, "--checkpoint", copied) == 0


@pytest.mark.timeout(400)
def test_two_processes_fit_it_as_one_does(tmp_path: Path) -> None:
    """A recipe of one batch-norm batch a step is nothing to share: rank 0 trains, the other waits."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "caskit"]
    out = tmp_path / "fit"
    command = [*launch, *FIT, "--out", str(out), *settings(*STEPS, *JUDGED)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(out).record["rejection"] == load_checkpoint(Path("fit")).record["rejection"]
    assert (out / "judge/model.safetensors").read_bytes() == Path("fit/judge/model.safetensors").read_bytes()


def test_a_sweep_for_a_generator_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [
        "sweep",
        "--gen",
        "vqvae2:digits",
        "--checkpoint",
        "plain",
        "--vary",
        "temperature=0.9,1.1",
        "--num",
        "20",
    ]
    assert caskit(*common, "--best-of", "2", "--out", tmp_path / "s") == 2
    assert "--best-of 2: this generator brings no judge of its own, allowed: 1" in capsys.readouterr().err


def test_a_sweep_keeps_samples_as_it_is_told(tmp_path: Path) -> None:
    common = ["sweep", "--gen", "vqvae2:digits", "--checkpoint", "fit", "--vary", "temperature=0.9,1.1", "--num", "20"]
    for name, flags, stated in (
        ("own", [], load_checkpoint(Path("fit")).record["rejection"]),
        ("first", ["--best-of", "1"], None),
    ):
        assert caskit(*common, *flags, "--executor", "inline", "--out", tmp_path / name) == 0
        assert rejection_of(str(tmp_path / name / "temperature-0.9/replica")) == stated
