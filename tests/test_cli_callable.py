"""`--gen callable:MODULE:FUNCTION` from the command line: classes and size of a set, permission, files, audit."""

import json
import os
import sys
from pathlib import Path

import pytest

from caskit import cli
from caskit.gen import family as family_table

PEBBLE = os.fspath(Path(__file__).parent / "gen" / "pebble")
DICE = """
from pathlib import Path
import numpy as np

TONES = np.frombuffer((Path(__file__).parent / "tones.bin").read_bytes(), np.uint8)

def draw(labels, streams):
    noise = streams.words("pixels", 24).reshape(-1, 6, 4, 1) >> np.uint64(59)
    return TONES[labels][:, None, None, None] + noise.astype(np.uint8)
"""
GEN = ["--gen", "callable:dice_of_the_command_line:draw"]
FLAGS = ["--executor", "inline", "--samples-per-shard", "20", "--set", "microbatch_size=8"]


@pytest.fixture(autouse=True)
def _code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a set of 5 classes and 6x4 images, and a module with a function for them, in the current folder."""
    monkeypatch.chdir(tmp_path)
    finders = list(sys.meta_path)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(PEBBLE)
        patch.setitem(family_table.FAMILIES, "pebble", "pebble_family")
        from pebble_drive import save_pebble

        save_pebble(tmp_path / "checkpoint")
        pebble = ["sample", "--gen", "pebble", "--checkpoint", "checkpoint", "--num", "23", *FLAGS, "--out", "set"]
        assert cli.main(pebble) == 0
    Path("dice_of_the_command_line.py").write_text(DICE)
    Path("tones.bin").write_bytes(bytes([0, 40, 80, 120, 160]))
    yield
    sys.meta_path[:] = finders
    sys.modules.pop("dice_of_the_command_line", None)


def test_from_a_set_to_an_audit(capsys: pytest.CaptureFixture[str]) -> None:
    sample = ["sample", *GEN, "--like", "set", *FLAGS, "--set", "files=tones.bin", "--out", "replica"]
    assert cli.main(sample) == 2
    refused = "generator callable runs a function that is not caskit's own; --allow-code runs it"
    assert refused in capsys.readouterr().err and not Path("replica").exists()
    assert cli.main([*sample, "--allow-code"]) == 0
    plan = json.loads(Path("replica/plan.json").read_bytes())
    assert (plan["height"], plan["width"], plan["channels"], len(plan["classes"])) == (6, 4, 1, 5)
    assert sum(plan["histogram"]) == 23 and list(plan["sampler"]["files"]) == ["tones.bin"]
    assert cli.main([*sample, "--allow-code"]) == 0
    capsys.readouterr()

    assert cli.main(["audit", "replica"]) == 2
    message = "replica: its plan's generator callable:dice_of_the_command_line:draw is a function that is not"
    assert message in capsys.readouterr().err
    assert cli.main(["audit", "replica", "--allow-code"]) == 0
    assert "PASS" in capsys.readouterr().out
    Path("tones.bin").write_bytes(bytes([0, 40, 80, 120, 161]))
    assert cli.main(["audit", "replica", "--allow-code"]) == 2
    assert "is not the plan's: file tones.bin (sha256" in capsys.readouterr().err


def test_a_balanced_replica_of_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--set", "height=6", "--set", "width=4", "--set", "channels=1"]
    command = ["sample", *GEN, "--num", "10", *FLAGS, *size, "--allow-code", "--out", "replica"]
    assert cli.main(command) == 2
    assert "name the real set whose classes and image size it draws, with --classes SET" in capsys.readouterr().err
    assert cli.main([*command, "--classes", "set"]) == 0
    assert json.loads(Path("replica/plan.json").read_bytes())["histogram"] == [2, 2, 2, 2, 2]


def test_it_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check-generator", GEN[1], "--classes", "set", "--set", "microbatch_size=8"]
    assert cli.main(command) == 2
    capsys.readouterr()
    assert cli.main([*command, "--allow-code"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("PASS")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--gen", "callable", "--like", "set"], "--gen callable: name the function, callable:package.mod"),
        (["sample", "--gen", "callable:dice", "--like", "set"], "callable:dice: not of the form callable:package.mod"),
        (
            ["sample", *GEN, "--like", "set", "--checkpoint", "set"],
            "set: family callable has no checkpoints; --set",
        ),
        (["sample", *GEN, "--like", "set", "--set", "colour=1"], "no such field, allowed: height, width, channels, fi"),
        (["fit", *GEN, "--data", "set"], "a function is not fitted by caskit; a package of your own can have a fit"),
        (
            ["reconstruct", *GEN, "--data", "set"],
            "generators of family callable are bound to classes",
        ),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--allow-code", "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("caskit: error: ") == 1
