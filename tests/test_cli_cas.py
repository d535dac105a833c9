"""From files that caskit never saw to a report in one command, and one clear line for what does not fit."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caskit import cli

NAMES = [f"stripe {i}" for i in range(10)]
FAST = ["--recipe", "digits", "--set", "num_steps=4", "--set", "widths=8,8", "--seeds", "2", "--device", "cpu"]


def pictures(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright bar whose place is the label, [N, 8, 8] uint8."""
    labels = np.arange(num) % len(NAMES)
    images = np.random.default_rng(seed).integers(0, 120, (num, 8, 8)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        (image if label < 5 else image.T)[label % 5 + 1] += 100
    return images, labels


def write_folders(root: Path, num: int, seed: int) -> Path:
    for number, (image, label) in enumerate(zip(*pictures(num, seed), strict=True)):
        path = root / NAMES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


@pytest.fixture
def caskit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: cli.main([str(argument) for argument in arguments])


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """Flags that name three sources as people have them: samples in an array, real images in folders."""
    write_folders(tmp_path / "photos/train", 60, 1)
    write_folders(tmp_path / "photos/test", 40, 2)
    images, labels = pictures(80, 3)
    np.savez(tmp_path / "samples.npz", images, labels)
    return ["--synthetic", "samples.npz", "--real-train", "photos", "--real-test", "photos"]


def test_files_never_seen_become_a_score_and_a_report(
    caskit: Callable[..., int], sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert caskit("cas", *sources, *FAST, "--out", "out") == 0
    result = json.loads(Path("out/cas.json").read_text())
    assert [(row["metric"], row["num"]) for row in result["rows"]] == [("real", 60), ("CAS", 80)]
    assert result["synthetic"]["kind"] == "imported" and result["gap_points"] is not None
    page = Path("out/report.html").read_text()
    assert all(name in page for name in NAMES)
    capsys.readouterr()
    assert caskit("cas", *sources, *FAST, "--out", "out") == 0
    assert "4 done before" in capsys.readouterr().out
    assert json.loads(Path("out/cas.json").read_text()) == result


def test_the_same_images_in_folders_are_scored_as_well(caskit: Callable[..., int], sources: list[str]) -> None:
    assert caskit("cas", *sources, *FAST, "--out", "array") == 0
    write_folders(Path("folders"), 80, 3)
    assert caskit("cas", "--synthetic", "folders", *sources[2:], *FAST, "--out", "folded") == 0
    array, folded = (json.loads(Path(name, "cas.json").read_text())["rows"] for name in ("array", "folded"))
    assert array[0]["scores"] == folded[0]["scores"]
    assert array[1]["num"] == folded[1]["num"] == 80


def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    caskit: Callable[..., int], sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = pictures(20, 4)
    np.savez("unlabelled.npz", images)
    np.savez("eleven.npz", images, labels + 1)
    np.savez("large.npz", images.repeat(2, axis=1).repeat(2, axis=2), labels)
    write_folders(Path("other"), 20, 5)
    (Path("other") / NAMES[0]).rename("other/a stranger")
    cases = [
        ("unlabelled.npz", "labels are required"),
        ("eleven.npz", "label"),
        ("large.npz", "images are 16x16, recipe digits is for 8x8"),
        ("other", "a stranger"),
        ("nowhere", "no such file or folder"),
    ]
    for name, message in cases:
        assert caskit("cas", "--synthetic", name, *sources[2:], *FAST, "--out", "out") == 2, name
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("caskit: error: ") and message in error, error
        assert not Path("out").exists()
