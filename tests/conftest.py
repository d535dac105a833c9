"""What every test stands on: caches of its own, and no setting of the host that changes what caskit does."""

import os
from pathlib import Path

import pytest

HOST_SETTINGS = ("RAY_ADDRESS", "CASKIT_CACHE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep receipts and downloads of a test out of the home folder, and the host's settings out of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path_factory.mktemp("cache")))
    for name in HOST_SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repository() -> Path:
    """The checkout's root folder."""
    return Path(__file__).resolve().parents[1]
