"""The template of a package, installed as a user would: found, checked, fitted, sampled, audited."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caskit import cli

TEMPLATE = Path(__file__).resolve().parents[1] / "examples" / "my-generator"
SAMPLE = ["--num", "40", "--executor", "inline", "--set", "microbatch_size=16", "--allow-code"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that pip installed a copy of the template into, without a network."""
    copy, target = tmp_path_factory.mktemp("copy") / "my-generator", tmp_path_factory.mktemp("site")
    shutil.copytree(TEMPLATE, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command = [*pip, "--no-build-isolation", "--no-deps", "--target", str(target), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(autouse=True)
def _on_the_path(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(installed)
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_generator"]:
        del sys.modules[name]


def test_it_keeps_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check-generator", "my_generator", "--allow-code"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "my_generator:digits  10 classes, 8x8 with 1 channels, batches of 64"
    assert lines[-1].startswith("PASS")


def test_it_samples_and_is_audited(capsys: pytest.CaptureFixture[str], installed: Path) -> None:
    assert cli.main(["sample", "--gen", "my_generator:digits", *SAMPLE, "--out", "replica"]) == 0
    capsys.readouterr()
    checkpoint = str(installed / "my_generator" / "checkpoints" / "digits")
    assert cli.main(["audit", "replica", "--checkpoint", checkpoint]) == 2
    refused = "its plan's generator family 'my_generator' is code of package my-generator 0.1.0 (module my_generator)"
    assert refused in capsys.readouterr().err
    assert cli.main(["audit", "replica", "--checkpoint", checkpoint, "--allow-code"]) == 0
    assert cli.main(["verify", "replica"]) == 0


@pytest.mark.parametrize("command", ["check-generator", "sample", "fit"])
def test_nothing_of_it_runs_without_permission(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {
        "check-generator": ["my_generator"],
        "sample": ["--gen", "my_generator", "--num", "10", "--out", "replica"],
        "fit": ["--gen", "my_generator:digits", "--data", "none", "--out", "fit"],
    }[command]
    assert cli.main([command, *arguments]) == 2
    assert "is code of package my-generator 0.1.0" in capsys.readouterr().err
    assert "my_generator" not in sys.modules


def test_a_fit_is_the_one_that_ships(installed: Path, tmp_path: Path) -> None:
    """The command in the preset's docstring gives the packaged checkpoint, up to rounding elsewhere."""
    import numpy as np
    from safetensors.numpy import load_file

    assert cli.main(["data", "digits", "--out", "real"]) == 0
    fit = ["fit", "--gen", "my_generator:digits", "--data", "real/train", "--out", "fit", "--allow-code"]
    assert cli.main(fit) == 0
    ours = load_file(tmp_path / "fit" / "model.safetensors")
    theirs = load_file(installed / "my_generator" / "checkpoints" / "digits" / "model.safetensors")
    assert {name: array.shape for name, array in ours.items()} == {name: array.shape for name, array in theirs.items()}
    for name in ("means", "deviations"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-4)
    spread = [np.einsum("cpk,cqk->cpq", made["directions"], made["directions"]) for made in (ours, theirs)]
    np.testing.assert_allclose(spread[0], spread[1], atol=1e-4)  # a direction's sign is anybody's choice
