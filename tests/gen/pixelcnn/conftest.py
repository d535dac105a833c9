"""A tiny labelled set, shared with the tests of vqvae2, and a tiny fit to it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.gen.autoregressive.config import PriorConfig, Settings
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.pixelcnn import FitConfig, PixelCnnGenerator, fit, load
from caskit.gen.streams import Streams
from caskit.manifests.seeds import stream_key

SHARED = Path(__file__).parents[1] / "vqvae2" / "tiny_fit.py"
CONFIG = FitConfig(
    preset="tiny",
    network=PriorConfig(
        hidden=24,
        residual=24,
        blocks=1,
        layers=3,
        rows_above=2,
        columns=3,
        embedding=8,
        class_positions=True,
        dropout=0.0,
    ),
    stage=StageConfig(num_steps=300, batch_size=16, learning_rate=1e-2, ema_decay=0.9),
)


@pytest.fixture(scope="session")
def tiny_set() -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("shared_tiny_fit", SHARED)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[..., Any] = module.TinySet
    return make


@pytest.fixture(scope="session")
def make_streams() -> Callable[..., Streams]:
    def make(labels: np.ndarray, *, seed: int = 0) -> Streams:
        return Streams([stream_key(seed, int(label), i, 0) for i, label in enumerate(labels)])

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_set: Callable[..., Any]) -> Path:
    return fit(tiny_set(), CONFIG, tmp_path_factory.mktemp("fit") / "tiny", device=torch.device("cpu"))


@pytest.fixture
def generator(tiny_checkpoint: Path) -> PixelCnnGenerator:
    return load(load_checkpoint(tiny_checkpoint), Settings(), torch.device("cpu"))
