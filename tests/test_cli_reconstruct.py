"""`caskit reconstruct`, `verify --parent` and `info` of what it made."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from caskit.cli import main
from caskit.gen.checkpoint import save_checkpoint
from caskit.gen.family import FAMILIES
from caskit.manifests.classes import ClassList
from caskit.shards.ingest import ingest
from caskit.shards.sources.source import ArraySource

CLASSES = ClassList.from_names(["a", "b", "c"])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real set `real`, another one, and a checkpoint of a family that reconstructs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(Path(__file__).parent / "gen" / "pebble")
    monkeypatch.setitem(FAMILIES, "mirror", "mirror_family")
    for name, seed in (("real", 0), ("other", 1)):
        source = ArraySource(
            dataset="pebbles",
            split="train",
            classes=CLASSES,
            files={},
            labels=np.arange(30) % 3,
            pixels=np.random.default_rng(seed).integers(0, 256, (30, 8, 8, 1)).astype(np.uint8),
            numbers=np.arange(30),
            file="pebbles",
        )
        ingest(source, tmp_path / name)
    shape = {"height": 8, "width": 8, "channels": 1}
    tensors = {"base": torch.arange(3, dtype=torch.uint8)}
    save_checkpoint(
        tmp_path / "fit", family="mirror", preset="tiny", config={}, classes=CLASSES, tensors=tensors, **shape
    )


def test_a_set_is_reconstructed_verified_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reconstruct", "--gen", "mirror", "--checkpoint", "fit", "--data", "real", "--executor", "inline"]
    command += ["--samples-per-shard", "12", "--set", "microbatch_size=5", "--out", "made"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"made@sha256:[0-9a-f]{16}  30 reconstructions\nnext  caskit train --data made .*\n", out)
    assert "reconstruct: 30/30 img" in err
    assert main(command) == 0  # finds all done
    assert capsys.readouterr().out == out

    assert main(["verify", "made", "--parent", "real", "--level", "deep"]) == 0
    assert "30 rows stand for those of real\n" in capsys.readouterr().out
    assert main(["verify", "made", "--parent", "other"]) == 2
    assert "made: was made from replica_id" in capsys.readouterr().err

    assert main(["info", "made", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["kind"] == "reconstruction" and described["family"] == "mirror"
    assert (described["parent"]["dataset"], described["parent"]["split"]) == ("pebbles", "train")


def test_a_family_without_an_encoder_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "digits", "--out", "digits"]) == 0
    capsys.readouterr()
    assert main(["reconstruct", "--gen", "cvae", "--data", "digits/train", "--out", "made"]) == 2
    assert capsys.readouterr().err.endswith(
        "caskit: error: family cvae cannot reconstruct images, it has no encoder of its own; use another family\n"
    )
    assert not Path("made").exists()
