"""The commands on real digits, tiny: what they write, what they print, and that the same command does nothing twice."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from caskit import cli

TINY_FIT = ["--set", "num_steps=3", "--set", "mixture_steps=2"]
TINY_TRAIN = ["--recipe", "digits", "--set", "num_steps=4", "--set", "widths=8,8"]
NUM = 100


def caskit(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that `make cas` makes, as small as it can be."""
    folder = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    sampled = ["sample", "--gen", "cvae", "--checkpoint", "fit", "--num", str(NUM), "--executor", "inline"]
    commands: list[list[str]] = [
        ["data", "digits", "--out", "real"],
        ["fit", "--gen", "cvae", "--data", "real/train", "--out", "fit", *TINY_FIT],
        [*sampled, "--samples-per-shard", "40", "--out", "replica"],
        ["train", "--data", "real/train", "--out", "real-classifier", *TINY_TRAIN],
        ["score", "--classifier", "real-classifier", "--real", "real/test", "--out", "real-score"],
        ["train", "--data", "replica", "--out", "classifier", *TINY_TRAIN],
        ["score", "--classifier", "classifier", "--real", "real/test", "--baseline", "real-score", "--out", "score"],
        ["report", "score", "--out", "report.html"],
    ]
    for command in commands:
        assert cli.main(command) == 0, command
    patch.undo()
    return folder


@pytest.fixture(autouse=True)
def _inside(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("XDG_CACHE_HOME", str(runs / "cache"))


def replica_id(path: str) -> str:
    return str(json.loads(printed(["info", path, "--json"]))["replica_id"])


def printed(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-m", "caskit.cli", *command], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


def test_real_images_with_synthetic_ones_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    mixed = ["--data", "real/train", "--data", "replica:0.25"]
    assert caskit("train", *mixed, "--out", "mixed", *TINY_TRAIN) == 0
    described = json.loads(Path("mixed/run.json").read_text())["data"]
    assert [part["expression"]["sources"][0]["select"] for part in described["parts"]] == ["all", "first:25"]
    assert caskit("train", "--data", "replica:0.25", "--data", "replica", "--out", "x", *TINY_TRAIN) == 2
    assert "sets of kind synthetic, synthetic" in capsys.readouterr().err
    sets = ["--real-train", "real/train", "--synthetic", "replica", "--real-test", "real/test"]
    assert caskit("nas", *sets, "--shares", "0,1", "--seeds", "1", "--out", "nas", *TINY_TRAIN) == 0
    assert "real + 100 %" in capsys.readouterr().out and Path("nas/nas.svg").is_file()


def test_every_stage_left_its_last_file() -> None:
    for name in ("real/train/replica.json", "real/test/replica.json", "fit/checkpoint.json", "replica/replica.json"):
        assert Path(name).is_file(), name
    for name in ("classifier/run.json", "score/score.json", "score/predictions.parquet", "report.html"):
        assert Path(name).is_file(), name


def test_the_score_stands_beside_its_real_row() -> None:
    score = json.loads(Path("score/score.json").read_text())
    real = json.loads(Path("real-score/score.json").read_text())
    assert score["metric"] == "CAS"
    assert real["metric"] == "real"
    assert score["real"]["top1"] == real["top1"]
    assert score["gap_points"] == pytest.approx(100 * (real["top1"]["value"] - score["top1"]["value"]))


def test_the_report_ends_with_a_box(capsys: pytest.CaptureFixture[str]) -> None:
    assert caskit("--stage", "8/8:5", "report", "score", "--out", "report.html") == 0
    out, err = capsys.readouterr()
    assert err == "\nstage 8 of 8, about 5 s\ncaskit report score --out report.html\n"
    lines = out.splitlines()
    assert lines[0].startswith("╭─ Classification Accuracy Score")
    assert lines[-1].startswith("╰")
    assert any(line.startswith("│ Real ") for line in lines)
    assert any(line.startswith("│ cvae:digits ") and "points" in line for line in lines)
    assert "report.html" in out
    assert f"caskit verify replica@sha256:{replica_id('replica')[:16]}" in out


def test_a_classifier_of_the_first_shards_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert caskit("train", "--data", "replica", "--first-shards", "2", "--out", "first", *TINY_TRAIN) == 0
    data = json.loads(Path("first/run.json").read_text())["data"]
    assert (data["num"], data["expression"]["sources"][0]["select"]) == (80, "first-shards:2")
    capsys.readouterr()
    assert caskit("train", "--data", "replica", "--first-shards", "4", "--out", "more", *TINY_TRAIN) == 2
    assert "has 3 shards, the first 4 were asked for; allowed: 1..3" in capsys.readouterr().err


def test_the_best_of_two_by_the_real_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    judge = json.loads(Path("real-classifier/run.json").read_text())["classifier_id"]
    sampled = ["sample", "--gen", "cvae", "--checkpoint", "fit", "--num", "30", "--executor", "inline"]
    chosen = [*sampled, "--best-of", "2", "--classifier", "real-classifier"]
    assert caskit(*chosen, "--dry-run", "--out", "best") == 0 and not Path("best").exists()
    assert caskit(*chosen, "--out", "best") == 0
    described = json.loads(printed(["info", "best", "--json"]))
    assert described["rejection"] == {"candidates": 2, "classifier_id": judge}
    assert f"best of 2 candidates by classifier `{judge}`" in Path("best/README.md").read_text()
    capsys.readouterr()
    for name, line in (("best", f"candidates 2, classifier_id {judge}"), ("replica", "none")):
        assert caskit("info", name) == 0
        assert re.search(f"^rejection +{line}$", capsys.readouterr().out, re.MULTILINE)
    assert caskit("train", "--data", "best", "--out", "best-classifier", *TINY_TRAIN) == 0
    run = json.loads(Path("best-classifier/run.json").read_text())
    assert run["data"]["generator"]["rejection"] == described["rejection"]
    assert caskit("score", "--classifier", "best-classifier", "--real", "real/test", "--out", "best-score") == 0
    told = "best of 2 candidates each by classifier " + judge[:16]
    assert [
        told in json.dumps(json.loads(Path(f"{name}/score.json").read_text())["caveats"])
        for name in ("best-score", "score")
    ] == [True, False]
    assert caskit("report", "best-score", "--out", "best.html") == 0
    page = Path("best.html").read_text()
    assert told in page and judge in page and "cvae:digits, best of 2 on digits" in page


def test_the_first_of_two_that_the_real_classifier_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    judge = json.loads(Path("real-classifier/run.json").read_text())["classifier_id"]
    sampled = ["sample", "--gen", "cvae", "--checkpoint", "fit", "--num", "30", "--executor", "inline"]
    chosen = [*sampled, "--best-of", "2", "--accept", "0.5", "--classifier", "real-classifier"]
    assert caskit(*chosen, "--out", "accepted") == 0
    described = json.loads(printed(["info", "accepted", "--json"]))
    assert described["rejection"] == {"candidates": 2, "classifier_id": judge, "threshold": 0.5}
    words = f"first of up to 2 candidates with a probability of 0.5 (else the best) by classifier `{judge}`"
    assert words in Path("accepted/README.md").read_text()
    assert caskit("train", "--data", "accepted", "--out", "accepted-classifier", *TINY_TRAIN) == 0
    assert caskit("score", "--classifier", "accepted-classifier", "--real", "real/test", "--out", "accepted-score") == 0
    caveats = json.dumps(json.loads(Path("accepted-score/score.json").read_text())["caveats"])
    told = "the first of up to 2 candidates each with a probability of its label of 0.5 or more (else the best)"
    assert f"{told} by classifier {judge[:16]}" in caveats
    capsys.readouterr()
    assert caskit("report", "accepted-score", "--out", "accepted.html") == 0
    assert re.search(r"│ cvae:digits, first good of 2 +\d", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--accept", "0.5"], "--accept P goes with --best-of K"),
        (
            ["--best-of", "2", "--accept", "1", "--classifier", "real-classifier"],
            "rejection.threshold is 1.0, allowed: a number above 0 and below 1",
        ),
        (["--best-of", "2"], "--best-of K needs --classifier DIR, a folder of `caskit train`"),
        (["--classifier", "real-classifier"], "--classifier DIR goes with --best-of K, from 2"),
        (["--best-of", "1", "--classifier", "real-classifier"], "--classifier DIR goes with --best-of K, from 2"),
        (["--best-of", "65", "--classifier", "real-classifier"], "rejection.candidates is 65, allowed: 2..64"),
        (["--best-of", "2", "--classifier", "nowhere"], "nowhere: no finished classifier (run.json is not there)"),
        (["--best-of", "x", "--classifier", "real-classifier"], "'x' is not a whole number of at least 1"),
    ],
)
def test_a_best_of_that_is_not_one(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", "--gen", "cvae", "--checkpoint", "fit", "--num", "30", "--executor", "inline", *options]
    try:
        code = caskit(*command, "--out", "refused")
    except SystemExit as stopped:
        code = int(str(stopped.code))
    assert code == 2 and message in capsys.readouterr().err and not Path("refused").exists()


def test_a_validation_split_is_not_fitted_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            Image.new("L", (8, 8), 90).save(tmp_path / "images" / split / name / "1.png")
    out = tmp_path / "sets"
    assert caskit("data", f"imagefolder:{tmp_path / 'images'}", "--out", str(out)) == 0
    assert caskit("fit", "--gen", "cvae:digits", "--data", str(out / "test"), "--out", str(tmp_path / "fit")) == 2
    assert "is a validation split, a generator is not fitted to what it is scored on" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["quick", "full", "deep"])
def test_verify_says_what_it_checked(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert caskit("verify", f"replica@sha256:{replica_id('replica')[:12]}", "--level", level) == 0
    assert f"whole at level {level}: {NUM} rows" in capsys.readouterr().out


def test_info_tells_people_and_programs_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    described = json.loads(printed(["info", "replica", "--json"]))
    assert described["num_samples"] == NUM
    assert (described["family"], described["preset"], described["seed"]) == ("cvae", "digits", 0)
    assert described["histogram"] == [10] * 10
    assert caskit("info", "replica") == 0
    assert described["plan_id"] in capsys.readouterr().out


def modified(folder: Path) -> dict[Path, int]:
    kept = [path for path in folder.rglob("*") if path.is_file() and "telemetry" not in path.parts]
    return {
        path: path.stat().st_mtime_ns for path in kept if path.name not in (".lock", "resume.pt", "resume.previous.pt")
    }


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("data digits --out real", "real"),
        ("sample --gen cvae --checkpoint fit --num 100 --samples-per-shard 40 --out replica", "replica"),
        ("train --data replica --out classifier " + " ".join(TINY_TRAIN), "classifier"),
        ("score --classifier classifier --real real/test --baseline real-score --out score", "score"),
    ],
)
def test_the_same_command_again_does_nothing_twice(command: str, folder: str) -> None:
    before = modified(Path(folder))
    assert caskit(*command.split()) == 0
    assert modified(Path(folder)) == before


def test_a_fit_again_gives_the_checkpoint_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("fit/checkpoint.json").read_bytes()
    assert caskit("fit", "--gen", "cvae", "--data", "real/train", "--out", "fit", *TINY_FIT) == 0
    assert Path("fit/checkpoint.json").read_bytes() == before
    assert "steps" not in capsys.readouterr().err, "it was fitted again"


def test_parts_and_freeze_give_what_one_run_gives(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--gen", "cvae:digits", "--checkpoint", "fit", "--num", str(NUM), "--samples-per-shard", "40"]
    assert caskit("sample", *flags, "--executor", "inline", "--part", "2/2", "--out", "parts") == 0
    assert "next  caskit freeze parts" in capsys.readouterr().out
    assert caskit("freeze", "parts") == 75
    assert "2 of 3 shards are not committed" in capsys.readouterr().err
    assert caskit("info", "parts") == 0
    assert re.search(r"num_committed +1\n", capsys.readouterr().out)
    assert caskit("sample", *flags, "--executor", "inline", "--part", "1/2", "--out", "parts") == 0
    assert caskit("freeze", "parts") == 0
    assert replica_id("parts") == replica_id("replica")


def test_settings_reach_the_plan() -> None:
    flags = ["--gen", "cvae", "--checkpoint", "fit", "--num", "10", "--executor", "inline", "--codec", "webp"]
    settings = ["temperature=0.5", "numerics.threads=2", "pixel_digests=true", "codec.method=1"]
    assert caskit("sample", *flags, *(f"--set={text}" for text in settings), "--out", "settings") == 0
    plan = json.loads(Path("settings/plan.json").read_text())
    assert plan["sampler"]["temperature"] == 0.5
    assert plan["numerics"]["threads"] == 2
    assert plan["pixel_digests"] is True
    assert plan["codec"] == {"name": "webp", "settings": {"lossless": True, "quality": 50, "method": 1}}


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--gen", "cvae", "--checkpoint", "fit", "--num", "2500", "--workers", "2", "--dry-run"]
    assert caskit("sample", *flags, "--out", "dry") == 0
    out = capsys.readouterr().out
    assert "samples  2,500 in 3 shards\n" in out
    assert re.search(r"^size     about \d+\.\d MB$", out, re.MULTILINE)
    assert re.search(r"^time     about \d+ s: 2 workers, [\d,]+ img/s each$", out, re.MULTILINE)
    assert re.search(r"^shard    1,000 samples, about \d+ s of one worker$", out, re.MULTILINE)
    assert not Path("dry").exists()


SAMPLE = "sample --gen cvae --checkpoint fit --executor inline --out x "


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "data cifar --out x",
            "data set 'cifar' is not known, use one of fashion-mnist, digits, cifar10, cifar100, imagenet, ",
        ),
        ("data imagefolder:missing --out x", "missing"),
        ("fit --gen gan --data real/train --out x", "generator family 'gan' is not known, use one of "),
        ("fit --gen cvae:big --data real/train --out x", "cvae has no preset 'big', use one of digits, fashion-mnist"),
        ("fit --gen cvae --data real/test --out x", "real/test: is a test split"),
        ("fit --gen cvae --data real/train --out x --set wide=3", "--set wide=3: no such field, allowed: latent_size"),
        ("fit --gen cvae --data real/train --out x --set preset=a", "--set preset=a: no such field"),
        ("sample --gen gan --num 10 --out x", "generator family 'gan' is not known, use one of "),
        (SAMPLE + "--num 9", "num is 9, fewer than the 10 classes"),
        (SAMPLE, "how many samples?"),
        (SAMPLE + "--num 10 --set temp=1", "--set temp=1: no such field, allowed: prior, temperature"),
        (SAMPLE + "--num 10 --set codec.quality=9", "allowed for png: codec.compress_level, codec.strategy"),
        (SAMPLE + "--num 10 --set codec.compress_level=11", "compress_level is 11, allowed: 0..9"),
        (SAMPLE + "--num 10 --part 3/2", "part is 3/2"),
        (SAMPLE + "--num 10 --workers 2", "executor inline has one worker"),
        (SAMPLE + "--num 10 --device gpu", "device 'gpu' is not known, use auto, cpu, cuda or cuda:<index>"),
        (SAMPLE + "--num 10 --like nowhere", "no caskit set is there"),
        ("sample --gen cvae --checkpoint real --num 10 --out x", "checkpoint.json"),
        ("sample --gen cvae --checkpoint fit --num 200 --out replica", "these fields differ: histogram"),
        ("sample --gen cvae --checkpoint fit --num 100 --seed 1 --out replica", "seed (1 here, 0 there)"),
        ("sample --gen cvae --checkpoint fit --num 100 --out real/train", "holds a real set"),
        ("train --data replica --recipe imagenet --out x", "recipe 'imagenet' is not known, use one of"),
        ("train --data replica --recipe digits --out x --set stpes=1", "--set stpes=1: no such field, allowed: model"),
        ("train --data replica --recipe fashion-mnist --out x", "images are 8x8, recipe fashion-mnist is for 28x28"),
        ("train --data nowhere --recipe digits --out x", "nowhere/replica.json: no such file"),
        ("train --data replica@sha256:00000000 --recipe digits --out x", "the reference asks for sha256:00000000"),
        ("train --data replica --recipe digits --out classifier --seed 7", "classifier: holds another classifier"),
        ("score --classifier nowhere --real real/test --out x", "nowhere"),
        ("score --classifier classifier --real real/train --out x", "real/train: is a train split"),
        ("score --classifier classifier --real real/test --baseline score --out x", "is a CAS score"),
        ("report nowhere --out x.html", "nowhere"),
        ("verify nowhere", "no caskit set is there"),
        ("verify replica@sha256:12", "the digest needs 8 to 64 hex digits"),
        ("info s3://bucket/set", "s3://"),
        ("freeze nowhere", "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = caskit(*command.split())
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("caskit: ")]
    assert len(errors) == 1, errors
    assert message in errors[0]
    assert code == 2
    assert not Path("x").exists() or not list(Path("x").rglob("*.json")), "something was left that looks whole"


def test_a_broken_set_is_exit_1_and_names_shard_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--gen", "cvae", "--checkpoint", "fit", "--num", "20", "--executor", "inline"]
    assert caskit("sample", *flags, "--out", tmp_path / "broken") == 0
    shard = tmp_path / "broken" / "shards" / "shard-000000.tar"
    shard.chmod(0o644)
    data = bytearray(shard.read_bytes())
    data[-2048] ^= 1  # in the padding after the last image
    shard.write_bytes(bytes(data))
    capsys.readouterr()
    assert caskit("verify", tmp_path / "broken") == 1
    err = capsys.readouterr().err
    assert "caskit: fault: " in err
    assert "shard-000000.tar" in err
    assert caskit("train", "--data", tmp_path / "broken", "--out", tmp_path / "classifier", *TINY_TRAIN) == 2
    assert not (tmp_path / "classifier" / "run.json").exists()


def test_a_read_only_folder_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert caskit("train", "--data", "replica", "--out", tmp_path / "file" / "classifier", *TINY_TRAIN) == 2
    assert "file" in capsys.readouterr().err


def wait_for(process: "subprocess.Popen[str]", is_due: Callable[[str], bool]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if is_due(line):
            return
    raise AssertionError("the process ended before it began to train")


def test_sigterm_ends_a_training_with_75_and_the_same_command_goes_on(tmp_path: Path) -> None:
    long = ["--recipe", "digits", "--set", "num_steps=1000000", "--set", "widths=8,8", "--out", str(tmp_path / "long")]
    command = [sys.executable, "-m", "caskit.cli", "train", "--data", "replica", *long]
    steps = []
    for _ in range(2):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_for(process, lambda line: line.startswith("train: "))
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            rest = process.stderr.read()
        assert process.returncode == 75, rest
        steps.append(int(re.search(r"not finished: train: stopped after step (\d+)", rest)[1]))  # type: ignore[index]
        assert "same command goes on" in rest.splitlines()[-1]
    assert steps[1] > steps[0]


def test_cas_of_several_seeds_and_sizes_in_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cas", "--synthetic", "replica", "--real-test", "real/test", "--out", "cas", *TINY_TRAIN]
    beside = ["--real-train", "real/train", "--seeds", "2", "--sizes", "40,100"]
    assert caskit(*command, *beside) == 0
    out, err = capsys.readouterr()
    assert "6 trainings of 4 steps of 128 images, 3,072 images in all: about" in out
    assert "first-shards-1" not in out and "synthetic, seed 1: train" in err
    result = json.loads(Path("cas/cas.json").read_text())
    assert [(row["metric"], row["num"]) for row in result["rows"]] == [("real", 1442), ("CAS", 40), ("CAS", 100)]
    assert Path("cas/report.html").is_file() and "cvae:digits on digits" in Path("cas/curve.svg").read_text()
    assert caskit(*command, *beside) == 0
    assert "0 trainings of 4 steps of 128 images, 0 images in all; 6 done before" in capsys.readouterr().out
    refused = [
        (["--sizes", "50"], "size 50: replica has whole shards up to 100 images, nearest 40 and 80"),
        (["--baseline", "real-score"], "holds the score of other inputs, differing in baseline"),
    ]
    for flags, message in refused:
        assert caskit(*command, *flags) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        caskit(*command, "--sizes", "40,x")
    assert "'x' is not a whole number of at least 1" in capsys.readouterr().err
    real = ["cas", "--synthetic", "real/train", "--real-test", "real/test", "--out", "no", *TINY_TRAIN]
    assert caskit(*real) == 2
    assert "real/train: is a real set, CAS is of synthetic images" in capsys.readouterr().err
