"""The pebble family, its checkpoint and plans of it."""

import os
import sys
from pathlib import Path

import pytest
import torch

from caskit.gen import family as family_table
from caskit.gen.checkpoint import Checkpoint, save_checkpoint
from caskit.manifests.classes import ClassList

FAMILIES_FOLDER = Path(__file__).parent / "families"
PEBBLE = "pebble_family"


def save_pebble(path: Path, num_classes: int = 5) -> Checkpoint:
    """Write a checkpoint of the pebble family for 6x4 images of one channel."""
    return save_checkpoint(
        path,
        family="pebble",
        preset="tiny",
        config={"preset": "tiny"},
        classes=ClassList.from_names([f"pebble {label}" for label in range(num_classes)]),
        height=6,
        width=4,
        channels=1,
        tensors={"base": torch.arange(num_classes, dtype=torch.uint8) * 40},
    )


@pytest.fixture
def pebble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Enter the pebble family into the table, importable here and in Ray workers; its checkpoint."""
    monkeypatch.setitem(family_table.FAMILIES, "pebble", PEBBLE)
    monkeypatch.syspath_prepend(os.fspath(FAMILIES_FOLDER))
    paths = [os.fspath(FAMILIES_FOLDER), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    checkpoint = save_pebble(tmp_path / "checkpoint")
    yield checkpoint
    sys.modules.pop(PEBBLE, None)
