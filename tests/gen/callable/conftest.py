"""A folder of code that is the current one, and is forgotten afterwards."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DICE = """
import numpy as np
from dice_parts import tone

def draw(labels, streams):
    noise = streams.words("pixels", 24).reshape(-1, 6, 4, 1) >> np.uint64(59)
    return (tone(labels)[:, None, None, None] + noise).astype(np.uint8)
"""
PARTS = """
import numpy as np

def tone(labels):
    return labels.astype(np.uint64) * np.uint64(40)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with a module `dice`, whose function `draw` takes tones from `dice_parts`."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "dice.py").write_text(DICE)
    (folder / "dice_parts.py").write_text(PARTS)
    monkeypatch.chdir(folder)
    modules, finders = set(sys.modules), list(sys.meta_path)
    yield folder
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
