"""`caskit convert` from a file of published weights, at a small width, and what it refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from caskit import cli
from caskit.gen.biggan_deep import converting, importing
from caskit.gen.biggan_deep.config import Settings
from caskit.gen.biggan_deep.sampler import describe
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.foreign import file_digest
from caskit.manifests.classes import ClassList

SMALL = dataclasses.replace(importing.published_network("imagenet-128"), width=8)


@pytest.fixture(autouse=True)
def _small_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "published_network", lambda preset: SMALL)
    monkeypatch.setattr(converting, "imagenet_classes", lambda: ClassList.from_names([str(i) for i in range(6)]))


def convert(source: str, out: Path, *more: str) -> int:
    return cli.main(["convert", "--gen", "biggan_deep:imagenet-128", "--from", source, "--out", str(out), *more])


def test_a_file_becomes_a_checkpoint(published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, path = published("imagenet-128")
    assert convert(str(path), tmp_path / "one", "--sha256", file_digest(path)) == 0
    checkpoint = load_checkpoint(tmp_path / "one")
    assert f"checkpoint {checkpoint.checkpoint_id}" in capsys.readouterr().out
    record = checkpoint.record
    assert (record["preset"], record["height"], record["width"], record["channels"]) == ("imagenet-128", 128, 128, 3)
    imported = {"format": "pytorch-pretrained-biggan", "sha256": file_digest(path)}
    assert record["config"]["imported"] == imported
    assert describe(record, Settings(z_scale=0.5)).startswith("batch-norm statistics: the table's at truncation 0.5")
    assert convert(str(path), tmp_path / "two") == 0
    assert load_checkpoint(tmp_path / "two").checkpoint_id == checkpoint.checkpoint_id


def test_the_note_on_statistics_comes_before_sampling(
    imported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "sample",
        "--gen",
        "biggan_deep",
        "--checkpoint",
        str(imported.path),
        "--num",
        "6",
        "--executor",
        "inline",
    ]
    more = ["--set", "z_scale=1.5", "--set", "microbatch_size=2", "--out", str(tmp_path / "set")]
    assert cli.main([*command, *more]) == 0
    out = capsys.readouterr().out
    assert out.index("its last one, for there is none at z_scale 1.5") < out.index("6 images")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda data: data[: len(data) // 2], "not a file of tensors that can be read without running its code"),
        (lambda data: b"", "not a file of tensors"),
        (lambda data: b"PK\x03\x04" + data[4:2000], "not a file of tensors"),
    ],
)
def test_damaged_files_give_one_line_and_no_checkpoint(
    make: Any, message: str, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = published("imagenet-128")
    (tmp_path / "damaged.bin").write_bytes(make(path.read_bytes()))
    assert convert(str(tmp_path / "damaged.bin"), tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_another_digest_and_another_size_are_refused(
    published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = published("imagenet-128")
    assert convert(str(path), tmp_path / "out", "--sha256", "0" * 64) == 2
    assert "expected 0000" in capsys.readouterr().err
    _, larger = published("imagenet-256")
    assert convert(str(larger), tmp_path / "out") == 2
    assert "its layers are those of imagenet-256" in capsys.readouterr().err
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.bin")
    assert convert(str(tmp_path / "other.bin"), tmp_path / "out") == 2
    assert "1 unknown (weight)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_families_without_published_weights_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", "--gen", "cvae:digits", "--from", "x", "--out", "y"]) == 2
    assert "family cvae could be converted from" in capsys.readouterr().err
    assert cli.main(["derive", "--gen", "cvae:digits", "--out", "y"]) == 2
    assert "family cvae has nothing to derive" in capsys.readouterr().err
