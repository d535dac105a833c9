"""`caskit import`: what it prints, that it goes on, and one line with exit code 2 for what it does not take."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from caskit.cli import main

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)
LABELS = np.arange(9) % 3


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.savez("samples.npz", PIXELS, LABELS)
    Path("names.txt").write_text("cat\ndog\nemu\n")


def test_an_import_is_told_described_verified_and_found_again(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["import", "samples.npz", "--classes", "names.txt", "--name", "a GAN's", "--out", "set"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert re.match(r"set@sha256:[0-9a-f]{16}  9 images, imported\nno seeds are known: .* provenance.json\n$", out)
    assert "write samples.npz: 9/9 img" in err
    assert main(command) == 0
    assert capsys.readouterr().out == out
    assert main(["verify", "set", "--level", "deep"]) == 0
    capsys.readouterr()
    assert main(["info", "set", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert (described["kind"], described["form"], described["name"]) == ("imported", "npz", "a GAN's")
    assert (described["histogram"], described["channels"]) == ([3, 3, 3], 3)
    assert main(["import", "set", "--out", "other"]) == 0
    assert re.match(r"set@sha256:[0-9a-f]{16}  a caskit set already, used as it is\n$", capsys.readouterr().out)
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such file or folder"),
        (["names.txt"], "names.txt: not recognised; what is read: a folder of class folders"),
        (["bare.npz"], "holds images (arr_0) without labels (arr_1); labels are required"),
        (["pickled.npz"], "holds Python objects (a pickle), which are never loaded"),
        (["samples.npz", "--classes", "none"], "none: no such file"),
        (["samples.npz", "--classes", "two.txt"], "arr_1: sample 2: label is 2, allowed: 0..1"),
        (["samples.npz", "--split", "dev"], "split is 'dev', allowed: train, validation, test"),
        (["samples.npz", "--channels", "1"], "image has 3 channels, 1 are asked for"),
        (["samples.npz", "--label-field", "x"], "is npz, only parquet and webdataset have a label field or prompts"),
        (["samples.npz", "--prompt-classes", "names.txt"], "needs prompt and class"),
        (["cut.tar"], "cut.tar: cut at byte 100, after no member"),
        (["no.parquet"], "no.parquet: not a whole Parquet file"),
        (["."], "set: lies inside ., the set would become part of its own source"),
        (["samples.npz", "--channels", "0"], "'0' is not a whole number of at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("bare.npz", PIXELS)
    np.savez("pickled.npz", PIXELS, LABELS.astype(object))
    Path("two.txt").write_text("cat\ndog\n")
    Path("cut.tar").write_bytes(b"x" * 100)
    Path("no.parquet").write_bytes(b"PAR1" * 9)
    try:
        code = main(["import", *arguments, "--out", "set"])
    except SystemExit as stopped:
        code = int(str(stopped.code))
    assert code == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not Path("set", "replica.json").exists()
