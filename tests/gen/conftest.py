"""Makes tests/gen/pebble importable, here and in the processes that tests start."""

import os
import sys
from pathlib import Path

import pytest

from caskit.gen import family as family_table
from caskit.gen.checkpoint import Checkpoint

PEBBLE_FOLDER = os.fspath(Path(__file__).parent / "pebble")
sys.path.insert(0, PEBBLE_FOLDER)


@pytest.fixture
def pebble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Enter the pebble family into the table and save a checkpoint of it."""
    from pebble_drive import save_pebble

    _enter("pebble", "pebble_family", monkeypatch)
    return save_pebble(tmp_path / "checkpoint")


@pytest.fixture
def coded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """Enter the family with codes into the table and save a checkpoint of it."""
    from coded_family import save_coded

    _enter("coded", "coded_family", monkeypatch)
    return save_coded(tmp_path / "coded-checkpoint")


def _enter(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(family_table.FAMILIES, name, module)
    paths = [PEBBLE_FOLDER, os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
