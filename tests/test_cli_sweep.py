"""A sweep runs commands that can be run by hand, trains the Real rows once, and takes more values later."""

import json
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from caskit import cli
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.checkpoint import load_checkpoint, save_checkpoint
from caskit.shards.dataset import open_set

FAST = ["--set-recipe", "num_steps=4", "--set-recipe", "widths=8,8", "--recipe", "digits", "--seeds", "2"]
SETS = ["--real-train", "digits/train", "--real-test", "digits/test", "--device", "cpu"]
SWEEP = ["sweep", "--gen", "cvae:digits", "--num", "40", "--executor", "inline", *SETS, *FAST, "--out", "out"]


@pytest.fixture
def caskit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> int:
        return cli.main([str(argument) for argument in arguments])

    assert run("data", "digits", "--out", "digits") == 0
    return run


def test_every_value_has_its_replica_and_score_beside_the_same_real_rows(caskit: Callable[..., int]) -> None:
    assert caskit(*SWEEP, "--vary", "temperature=0.5,1.5") == 0
    record = json.loads(Path("out/sweep.json").read_text())
    assert record["setting"] == "temperature" and [row["value"] for row in record["rows"]] == ["0.5", "1.5"]
    for row in record["rows"]:
        plan = json.loads(Path("out", row["folder"], "replica/plan.json").read_text())
        assert plan["sampler"]["temperature"] == float(row["value"])
        assert row["num"] == 40 and len(row["scores"]) == 2 and row["gap_points"] is not None
    assert len({row["replica_id"] for row in record["rows"]}) == 2
    assert [path.parent.parent.name for path in Path("out").glob("*/cas/real")] == ["temperature-0.5"]
    dots = list(ElementTree.parse("out/sweep.svg").iter("{http://www.w3.org/2000/svg}circle"))
    assert len(dots) == 4


def test_more_values_leave_those_there_are_and_commands_run_by_hand_give_the_same(caskit: Callable[..., int]) -> None:
    assert caskit(*SWEEP, "--vary", "temperature=0.5,1.5") == 0
    before = json.loads(Path("out/sweep.json").read_text())["rows"]
    assert caskit(*SWEEP, "--vary", "temperature=1,0.5,1.5") == 0
    rows = json.loads(Path("out/sweep.json").read_text())["rows"]
    assert rows[1:] == before and rows[0]["value"] == "1"
    sample, score = (shlex.split(command)[1:] for command in rows[0]["commands"])
    assert caskit(*sample[:-1], "hand") == 0
    assert caskit(*("hand" if word == "out/temperature-1/replica" else word for word in score[:-1]), "hand-cas") == 0
    assert json.loads(Path("hand-cas/cas.json").read_text())["rows"][-1]["scores"] == rows[0]["scores"]


def test_without_a_recipe_replicas_are_made_and_nothing_is_scored(caskit: Callable[..., int]) -> None:
    plain = ["sweep", "--gen", "cvae:digits", "--like", "digits/train", "--num", 20, "--executor", "inline"]
    assert caskit(*plain, "--vary", "prior=normal,mixture", "--out", "out") == 0
    rows = json.loads(Path("out/sweep.json").read_text())["rows"]
    assert [row["scores"] for row in rows] == [None, None] and not Path("out/sweep.svg").exists()


def tiny_gan(folder: Path) -> str:
    """Save a generator of digits with drawn weights and no table of statistics; return its id."""
    torch.manual_seed(0)
    layers = NetworkConfig(width=8, multipliers=(4, 2), attention_after=0, latent_size=6, embedding_size=5)
    checkpoint = save_checkpoint(
        folder,
        family="biggan_deep",
        preset="digits",
        config={"network": layers.to_json(), "statistics": {"kind": "standing", "z_law": "normal"}},
        classes=open_set("digits/train").classes,
        height=8,
        width=8,
        channels=1,
        tensors=Generator(layers, num_classes=10, channels=1).state_dict(),
    )
    return checkpoint.checkpoint_id


def test_a_truncation_sweep_has_standing_statistics_of_its_own_at_each_value(caskit: Callable[..., int]) -> None:
    source = tiny_gan(Path("gan"))
    plain = [
        "sweep",
        "--gen",
        "biggan_deep",
        "--checkpoint",
        "gan",
        "--num",
        20,
        "--executor",
        "inline",
        "--device",
        "cpu",
    ]
    assert caskit(*plain, "--truncation", "0.5,1.5", "--standing", "--set", "z_mode=resample", "--out", "out") == 0
    for row in json.loads(Path("out/sweep.json").read_text())["rows"]:
        folder = Path("out", row["folder"])
        plan = json.loads((folder / "replica/plan.json").read_text())
        derived = load_checkpoint(folder / "checkpoint", plan["checkpoint_id"]).record
        assert plan["sampler"]["z_scale"] == float(row["value"]) == derived["config"]["statistics"]["z_scale"]
        assert derived["derived_from"] == source and derived["config"]["statistics"]["z_mode"] == "resample"
        assert [shlex.split(command)[1] for command in row["commands"]] == ["derive", "sample"]
    assert caskit(*plain, "--truncation", "0.5,1.5", "--out", "kept") == 0
    plans = [json.loads(path.read_text()) for path in Path("kept").glob("*/replica/plan.json")]
    assert {plan["checkpoint_id"] for plan in plans} == {source}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--vary", "temperature"], "not of the form KEY=VALUE,VALUE"),
        (["--vary", "temperature=1,1"], "two or more different values"),
        (["--vary", "temperature=1,../x"], "'../x' is not a number or a name"),
        (["--vary", "temperatur=1,2"], "--set temperatur=1: no such field"),
        (["--vary", "temperature=1,warm"], "temperature takes a number"),
        (["--vary", "temperature=1,-2"], "temperature is -2.0, allowed"),
        (["--truncation", "0.5,1"], "--set z_scale=0.5: no such field"),
        (["--vary", "temperature=1,2", "--standing"], "temperature is no truncation"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    caskit: Callable[..., int], capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    try:
        code = caskit(*SWEEP, *change)
    except SystemExit as stopped:
        code = int(str(stopped.code))
    assert code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("out").exists() or not any(Path("out").glob("*/replica"))


def test_flags_that_need_each_other(caskit: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["sweep", "--gen", "cvae:digits", "--vary", "temperature=1,2", "--out", "out"]
    for flags, message in [
        (["--recipe", "digits", "--num", "9"], "--recipe R and --real-test SET go together"),
        (["--real-train", "digits/train"], "--real-train is for Real rows"),
        ([], "how many samples?"),
    ]:
        assert caskit(*plain, *flags) == 2
        assert message in capsys.readouterr().err
