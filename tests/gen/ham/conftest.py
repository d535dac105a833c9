"""The tiny set of vqvae2's tests, tiny fits of it, and the streams to sample them with."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.ham import HamGenerator, Settings, fit, load
from caskit.gen.streams import Streams
from caskit.manifests.seeds import stream_key


def load_tiny() -> Any:
    """Import the script beside this file, which is in no package; tests import it by its name then."""
    spec = importlib.util.spec_from_file_location("tiny_ham", Path(__file__).with_name("tiny_ham.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_ham"] = module
    spec.loader.exec_module(module)
    return module


tiny = load_tiny()


@pytest.fixture(scope="session")
def tiny_set() -> Callable[..., Any]:
    make: Callable[..., Any] = tiny.load_shared().TinySet
    return make


@pytest.fixture(scope="session")
def make_streams() -> Callable[..., Streams]:
    def make(labels: np.ndarray, *, seed: int = 0, first: int = 0) -> Streams:
        return Streams([stream_key(seed, int(label), first + i, 0) for i, label in enumerate(labels)])

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_set: Callable[..., Any]) -> Path:
    """Two levels."""
    return fit(tiny_set(), tiny.tiny_config(), tmp_path_factory.mktemp("fit") / "tiny", device=torch.device("cpu"))


@pytest.fixture
def generator(tiny_checkpoint: Path) -> HamGenerator:
    return load(load_checkpoint(tiny_checkpoint), Settings(), torch.device("cpu"))
